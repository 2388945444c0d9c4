"""The pCTR model: sigma(MLP[phi(x); phi(y); e_user; e_ad])   (LLM-Auction, eq. 3-4 and appendix B.2).

There are three changes, because the encoder is small (384 dimensions) and the log has thousands of rows, not 120,000.
1. phi(y) is the sentence that shows the ad, because in an answer with two ads the model must know which ad is meant.
2. The MLP gets inputs that it could not learn from few rows: the product phi(x) * phi(y), its sum (the cosine), the
   ad's rank and its similarity to the other shown ad. The last three also have a linear path around the MLP.
3. Fitting stops early, by the loss on held-out queries.
Without these changes the model overfits and its predictions for other users are near chance (AUC 0.53; cosine alone
0.75). It is used only in training, never when an answer is served.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from simenv import markup
from simenv.encoder import Encoder
from simenv.errors import DataFileError, InputError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.limits import check_regular
from simenv.records import Auction
from simenv.seeding import keyed_rng
from simenv.text import sentence_around

USER, AD = 64, 32  # B.2
HIDDEN = (128, 64, 32)  # B.2
LEARNING_RATE = 1e-3  # B.2, Adam
BATCH = 256  # B.2
STEPS = 400
"""Maximum number of updates; see `fit`."""
CHECK_EVERY = 20
HELD_OUT = 0.15
"""Share of the queries that are held out for early stopping."""
DROPOUT = 0.3
FILE = "pctr.safetensors"
WEIGHT_DECAY = 1e-2  # ours, AdamW: a user has a handful of rows
NUMBERS = 3
UNKNOWN_RATE = 0.3
"""Share of rows whose user (or ad) is hidden in training, so that the other inputs learn what holds for new ones."""


class PCTRExample(NamedTuple):
    """One shown ad: the inputs of the pCTR model and its label."""

    user: str
    """The profile, as the platform sees it."""
    ad: str
    """The ad's id."""
    query: str
    sentence: str
    """The sentence that shows the ad, without its mark-up."""
    others: tuple[str, ...]
    """The sentences of the other ads in the answer."""
    rank: int
    """Place in reading order, from 0."""
    clicked: float | None
    """1 or 0; None without a verdict."""


class PCTR(nn.Module):
    """Predicts clicks on the ads of an answer. Built by `fit`.

    Args:
        encoder: phi, frozen.
        users, ads: The users and ads with their own embedding; all others share one embedding.
    """

    def __init__(self, encoder: Encoder, users: Sequence[str], ads: Sequence[str]) -> None:
        super().__init__()
        self._encoder = encoder
        self.users, self.ads = tuple(users), tuple(ads)
        self._users = {user: i for i, user in enumerate(users, start=1)}  # 0: unknown
        self._ads = {ad: i for i, ad in enumerate(ads, start=1)}
        self.user = nn.Embedding(len(users) + 1, USER)
        self.ad = nn.Embedding(len(ads) + 1, AD)
        for table in (self.user, self.ad):
            nn.init.normal_(table.weight, std=0.1)
        width = 3 * encoder.encode([""]).shape[1] + NUMBERS + USER + AD
        layers: list[nn.Module] = [nn.Dropout(DROPOUT)]
        for size in HIDDEN:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)  # at the start only the linear path contributes
        self.mlp = nn.Sequential(*layers, last)
        self.linear = nn.Linear(NUMBERS, 1)

    def forward(self, texts: torch.Tensor, users: torch.Tensor, ads: torch.Tensor) -> torch.Tensor:
        """Logits: shape (rows,)."""
        deep: torch.Tensor = self.mlp(torch.cat([texts, self.user(users), self.ad(ads)], dim=1))
        logits: torch.Tensor = (deep + self.linear(texts[:, -NUMBERS:]))[:, 0]
        return logits

    def predict(self, rows: Sequence[PCTRExample]) -> npt.NDArray[np.float64]:
        """Click probabilities: shape (rows,)."""
        if not rows:
            return np.zeros(0)
        with torch.no_grad():
            return self(self.texts(rows), *self.ids(rows)).sigmoid().double().numpy()  # type: ignore[no-any-return]

    def texts(self, rows: Sequence[PCTRExample]) -> torch.Tensor:
        """Input features of each row: shape (rows, 3 * dimension + 3)."""
        query = self._encoder.encode([row.query for row in rows])
        sentence = self._encoder.encode([row.sentence for row in rows])
        product = query * sentence
        similarity = [
            max((float(self._encoder.encode([other])[0] @ own) for other in row.others), default=0.0)
            for row, own in zip(rows, sentence, strict=True)
        ]
        numbers = np.array([[5 * p.sum(), row.rank, x] for p, row, x in zip(product, rows, similarity, strict=True)])
        return torch.tensor(np.hstack([query, sentence, 10 * product, numbers])).float()

    def ids(self, rows: Sequence[PCTRExample]) -> tuple[torch.Tensor, torch.Tensor]:
        """Row indices in the user table and in the ad table; 0 = unknown."""
        users = torch.tensor([self._users.get(row.user, 0) for row in rows])
        return users, torch.tensor([self._ads.get(row.ad, 0) for row in rows])


class PredictedCTR:
    """The pCTR model as a CTR model for any mechanism (see `simenv.ctr.models.CTRModel`).

    Args:
        model: A fitted model, see `fit`.
        position_discount: Discount per slot for ranking auctions; in an answer the model uses the rank itself.
    """

    name = "pctr"

    def __init__(self, model: PCTR, position_discount: float = 0.85) -> None:
        self.position_discount = position_discount
        self._model = model

    def relevance(self, auction: Auction) -> npt.NDArray[np.float64]:
        """Click probability of each ad if it is the only ad of the answer, from its copy: shape (n,)."""
        alone = [pctr_examples(auction, f"{bid.ad.link}: {bid.ad.body}", [bid.ad.id])[0] for bid in auction.bids]
        return self._model.predict(alone)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        """Click probability of each shown ad, from the sentence that shows it."""
        rows = pctr_examples(auction, response, shown)
        return dict(zip(shown, self._model.predict(rows).tolist(), strict=True))


def pctr_examples(
    auction: Auction, response: str, shown: Sequence[str], clicked: Mapping[str, bool | None] | None = None
) -> list[PCTRExample]:
    """The pCTR examples of an answer: one per shown ad, in reading order."""
    sentences = [_sentence(response, auction.bid_of(ad_id).ad.link) for ad_id in shown]
    verdicts = [(clicked or {}).get(ad_id) for ad_id in shown]
    return [
        PCTRExample(
            user=auction.profile,
            ad=ad_id,
            query=auction.query.text,
            sentence=sentences[rank],
            others=tuple(sentences[:rank] + sentences[rank + 1 :]),
            rank=rank,
            clicked=None if verdict is None else float(verdict),
        )
        for rank, (ad_id, verdict) in enumerate(zip(shown, verdicts, strict=True))
    ]


def _sentence(response: str, link: str) -> str:
    """The sentence that contains a link, without mark-up."""
    start = response.find(link)
    begin, end = sentence_around(response, (start, start + len(link)))
    return markup.strip_markup(response[begin:end]).strip()


def fit(log: Sequence[PCTRExample], encoder: Encoder, seed: int, *, steps: int = STEPS) -> PCTR:
    """Fits a pCTR model with binary cross-entropy on the pooled log.

    The linear path starts as a logistic regression. Every `CHECK_EVERY` steps the loss on held-out queries is computed.
    The weights with the lowest such loss are kept, so `steps` is an upper bound.

    Raises:
        InputError: the log has no clicks or only clicks.
    """
    judged = [row for row in log if row.clicked is not None]
    clicked = torch.tensor([float(row.clicked or 0) for row in judged])
    if not judged or clicked.min() == clicked.max():
        raise InputError(
            f"pCTR needs clicks and non-clicks, got {int(clicked.sum())} clicks of {len(judged)}",
            hint="raise clicked_auctions",
        )
    held = torch.tensor([keyed_rng("pctr held out", row.query).random() < HELD_OUT for row in judged])
    kept = (~held).nonzero()[:, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PCTR(encoder, sorted({row.user for row in judged}), sorted({row.ad for row in judged}))
        texts, (users, ads) = model.texts(judged), model.ids(judged)
        start = LogisticRegression(C=10.0).fit(texts[:, -NUMBERS:].numpy(), clicked.numpy())
        with torch.no_grad():
            model.linear.weight.copy_(torch.tensor(start.coef_))
            model.linear.bias.copy_(torch.tensor(start.intercept_))
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        best, best_loss = copy.deepcopy(model.state_dict()), _loss(model, texts, users, ads, clicked, held)
        for step in range(1, steps + 1):
            batch = kept[torch.randint(len(kept), (BATCH,))]
            known = (torch.rand(BATCH, 2) > UNKNOWN_RATE).long()
            logits = model(texts[batch], users[batch] * known[:, 0], ads[batch] * known[:, 1])
            loss = nn.functional.binary_cross_entropy_with_logits(logits, clicked[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % CHECK_EVERY == 0 or step == steps:
                held_out_loss = _loss(model, texts, users, ads, clicked, held)
                if held_out_loss < best_loss:
                    best, best_loss = copy.deepcopy(model.state_dict()), held_out_loss
        model.load_state_dict(best)
    return model.eval()


def _loss(
    model: PCTR, texts: torch.Tensor, users: torch.Tensor, ads: torch.Tensor, clicked: torch.Tensor, held: torch.Tensor
) -> float:
    """Loss on the held-out rows, or on all rows if none is held out, without dropout."""
    chosen = held if held.any() else torch.ones_like(held)
    model.eval()
    with torch.no_grad():
        logits = model(texts[chosen], users[chosen], ads[chosen])
    model.train()
    return float(nn.functional.binary_cross_entropy_with_logits(logits, clicked[chosen]))


def save(model: PCTR, folder: Path) -> None:
    """Writes pctr.safetensors, including the users and ads that have embeddings."""
    from safetensors.torch import save as to_bytes

    known = {"known": json.dumps([model.users, model.ads])}  # one entry, because the order of several is not fixed
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_bytes_atomically(folder / FILE, to_bytes(weights, metadata=known))


def load(folder: Path, encoder: Encoder) -> PCTR:
    """Reads a model that `save` wrote.

    Raises:
        DataFileError: the file is missing or is not a pCTR model.
    """
    from safetensors import SafetensorError, safe_open

    if not (folder / FILE).exists():
        raise DataFileError(f"{folder}: no pCTR model: it has no {FILE}")
    check_regular(folder / FILE)
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            model = PCTR(encoder, *json.loads(file.metadata()["known"]))
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no dict)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataFileError(f"{folder / FILE}: not a pCTR model, or damaged: {' '.join(str(error).split())}") from None
    return model.eval()
