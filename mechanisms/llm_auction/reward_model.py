"""The pCTR model: sigma(MLP[phi(x); phi(y); e_user; e_ad])   (LLM-Auction, eq. 3-4 and appendix B.2).

There are four changes, because the encoder is small (384 dimensions) and the log has thousands of rows, not 120,000.
1. phi(y) is split: the sentence that shows the ad, the answer before and after it, and the ad's copy. So in an answer
   with two ads the model knows which ad is meant, and where it stands.
2. The profile is also read as a text, so that the model knows something of a user without an embedding.
3. The model gets as numbers what it could not learn from few rows (`click_features.py`): cosines of these texts, the
   ad's rank and place, the other ads. The numbers also have a linear path around the MLP.
4. Fitting stops early, by the loss on held-out queries, and a logistic recalibration on the same rows follows (Platt
   1999, "Probabilistic outputs for support vector machines").
It is used in training, and when an answer is served only if the mechanism's option `score` is "pctr".
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from simenv.encoder import Encoder
from simenv.errors import DataFileError, InputError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.limits import check_regular
from simenv.records import Auction
from simenv.seeding import keyed_rng

from .click_features import NUMBERS, SLOTS, PCTRExample, features, pctr_examples, single_examples

USER, AD = 64, 32  # B.2
HIDDEN = (128, 64, 32)  # B.2
PROJECTION = 16
"""Dimension to which the vector of each text is reduced, by a learned map."""
LEARNING_RATE = 1e-3  # B.2, Adam
BATCH = 256  # B.2
STEPS = 400
"""Maximum number of updates; see `fit`."""
CHECK_EVERY = 20
HELD_OUT = 0.15
"""Share of the queries that are held out for early stopping and recalibration."""
DROPOUT = 0.3
FILE = "pctr.safetensors"
WEIGHT_DECAY = 1e-2  # ours, AdamW: a user has a handful of rows
UNKNOWN_RATE = 0.3
"""Share of rows whose user (or ad) is hidden in training, so that the other inputs learn what holds for new ones."""
_LARGEST = 4.0
"""Numbers are clipped at so many standard deviations."""


class Inputs(NamedTuple):
    """What the network reads of many rows."""

    vectors: torch.Tensor
    """Shape (texts, dimension)."""
    slots: torch.Tensor
    """Shape (rows, len(SLOTS)): indices in `vectors`."""
    numbers: torch.Tensor
    """Shape (rows, len(NUMBERS)); nan where no answer is known yet."""
    users: torch.Tensor
    """Shape (rows,): indices in the user table; 0 = unknown."""
    ads: torch.Tensor
    """The same in the ad table."""

    def of(self, rows: torch.Tensor) -> Inputs:
        """The inputs of some rows, given by their indices or by a mask."""
        return Inputs(self.vectors, self.slots[rows], self.numbers[rows], self.users[rows], self.ads[rows])


class PCTR(nn.Module):
    """Predicts clicks on the ads of an answer. Built by `fit`.

    Args:
        encoder: phi, frozen.
        users, ads: The users and ads with their own embedding; all others share one embedding.
    """

    mean: torch.Tensor
    spread: torch.Tensor
    calibration: torch.Tensor

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
        dimension = encoder.encode([""]).shape[1]
        self.projection = nn.Parameter(torch.randn(len(SLOTS), dimension, PROJECTION))
        width = len(SLOTS) * PROJECTION + len(NUMBERS) + USER + AD
        layers: list[nn.Module] = [nn.Dropout(DROPOUT)]
        for size in HIDDEN:
            layers += [nn.Linear(width, size), nn.ReLU()]
            width = size
        last = nn.Linear(width, 1)
        nn.init.zeros_(last.weight)  # at the start only the linear path contributes
        self.mlp = nn.Sequential(*layers, last)
        self.linear = nn.Linear(len(NUMBERS), 1)
        self.register_buffer("mean", torch.zeros(len(NUMBERS)))
        self.register_buffer("spread", torch.ones(len(NUMBERS)))
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))  # slope and intercept, of the logits

    def forward(self, inputs: Inputs) -> torch.Tensor:
        """Logits before the recalibration: shape (rows,)."""
        numbers = self.scaled(inputs.numbers)
        slots = [inputs.vectors[inputs.slots[:, i]] @ self.projection[i] for i in range(len(SLOTS))]
        deep: torch.Tensor = self.mlp(torch.cat([*slots, numbers, self.user(inputs.users), self.ad(inputs.ads)], dim=1))
        logits: torch.Tensor = (deep + self.linear(numbers))[:, 0]
        return logits

    def scaled(self, numbers: torch.Tensor) -> torch.Tensor:
        """Numbers by the mean and the standard deviation of the log; one that is not known is at the mean."""
        scaled = ((numbers - self.mean) / self.spread).clamp(-_LARGEST, _LARGEST)
        return scaled.nan_to_num(0.0)

    def predict(self, rows: Sequence[PCTRExample]) -> npt.NDArray[np.float64]:
        """Click probabilities: shape (rows,)."""
        if not rows:
            return np.zeros(0)
        slope, intercept = self.calibration
        with torch.no_grad():
            return (slope * self(self.inputs(rows)) + intercept).sigmoid().double().numpy()  # type: ignore[no-any-return]

    def inputs(self, rows: Sequence[PCTRExample]) -> Inputs:
        """What the network reads of each row."""
        vectors, slots, numbers = map(torch.from_numpy, features(rows, self._encoder))
        users = torch.tensor([self._users.get(row.user, 0) for row in rows])
        ads = torch.tensor([self._ads.get(row.ad, 0) for row in rows])
        return Inputs(vectors, slots, numbers.float(), users, ads)


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
        """Click probability of each ad if it is the only ad of the answer, before any text is written: shape (n,).

        The ad's copy is its sentence, and it stands at a typical place: all that depends on the rest of the answer
        (words before the ad, the fit of its sentence with them, the answer's length) is at the mean of the log.
        """
        return self._model.predict(single_examples(auction))

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        """Click probability of each shown ad, from the whole answer."""
        (probs,) = self.click_probs_of(auction, [(response, shown)])
        return probs

    def click_probs_of(self, auction: Auction, answers: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, float]]:
        """As `click_probs` for several answers, each with its shown ads: their texts are encoded together."""
        rows = [pctr_examples(auction, response, shown) for response, shown in answers]
        probs = iter(self._model.predict([row for answer in rows for row in answer]).tolist())
        return [{row.ad: next(probs) for row in answer} for answer in rows]


def fit(log: Sequence[PCTRExample], encoder: Encoder, seed: int, *, steps: int = STEPS) -> PCTR:
    """Fits a pCTR model with binary cross-entropy on the pooled log.

    The linear path starts as a logistic regression. Every `CHECK_EVERY` steps the loss on held-out queries is computed.
    The weights with the lowest such loss are kept, so `steps` is an upper bound. Both loss and recalibration count
    every held-out row twice: with the embeddings of its user and its ad, and as if both were new.

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
    if held.all() or not held.any():
        held = torch.ones_like(held)  # too few queries to hold one out
    kept = torch.arange(len(judged)) if held.all() else (~held).nonzero()[:, 0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PCTR(encoder, sorted({row.user for row in judged}), sorted({row.ad for row in judged}))
        inputs = model.inputs(judged)
        _scale(model, inputs.numbers[kept])
        _start(model, inputs.numbers[kept], clicked[kept])
        optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        seen, truth = inputs.of(held), clicked[held].repeat(2)
        best, best_loss = copy.deepcopy(model.state_dict()), _loss(_logits(model, seen), truth)
        for step in range(1, steps + 1):
            places = kept[torch.randint(len(kept), (BATCH,))]
            known = (torch.rand(BATCH, 2) > UNKNOWN_RATE).long()
            batch = inputs.of(places)
            logits = model(batch._replace(users=batch.users * known[:, 0], ads=batch.ads * known[:, 1]))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, clicked[places])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            if step % CHECK_EVERY == 0 or step == steps:
                held_out_loss = _loss(_logits(model, seen), truth)
                if held_out_loss < best_loss:
                    best, best_loss = copy.deepcopy(model.state_dict()), held_out_loss
        model.load_state_dict(best)
        _recalibrate(model, _logits(model, seen), truth)
    return model.eval()


def _scale(model: PCTR, numbers: torch.Tensor) -> None:
    """Sets the mean and the standard deviation of every number that some row has."""
    known = ~numbers.isnan()
    count = known.sum(0).clamp(min=1)
    mean = numbers.nan_to_num(0.0).sum(0) / count
    variance = ((numbers - mean) ** 2).nan_to_num(0.0).sum(0) / count
    model.mean.copy_(mean)
    model.spread.copy_(torch.where(variance > 1e-8, variance.sqrt(), torch.ones_like(variance)))


def _start(model: PCTR, numbers: torch.Tensor, clicked: torch.Tensor) -> None:
    """Sets the linear path to a logistic regression."""
    if clicked.min() == clicked.max():
        return
    start = LogisticRegression(C=1.0, max_iter=1000).fit(model.scaled(numbers).numpy(), clicked.numpy())
    with torch.no_grad():
        model.linear.weight.copy_(torch.tensor(start.coef_))
        model.linear.bias.copy_(torch.tensor(start.intercept_))


def _logits(model: PCTR, rows: Inputs) -> torch.Tensor:
    """Logits without dropout: of the rows, and of the same rows with unknown users and ads."""
    model.eval()
    with torch.no_grad():
        new = rows._replace(users=torch.zeros_like(rows.users), ads=torch.zeros_like(rows.ads))
        logits = torch.cat([model(rows), model(new)])
    model.train()
    return logits


def _loss(logits: torch.Tensor, clicked: torch.Tensor) -> float:
    return float(nn.functional.binary_cross_entropy_with_logits(logits, clicked))


def _recalibrate(model: PCTR, logits: torch.Tensor, clicked: torch.Tensor) -> None:
    """Sets slope and intercept of the logits by a logistic regression on held-out rows, if these can tell them."""
    if clicked.min() == clicked.max():
        return
    fitted = LogisticRegression(C=1.0).fit(logits[:, None].numpy(), clicked.numpy())
    if fitted.coef_[0, 0] > 0:
        model.calibration.copy_(torch.tensor([fitted.coef_[0, 0], fitted.intercept_[0]]))


def save(model: PCTR, folder: Path) -> None:
    """Writes pctr.safetensors, including the users and ads that have embeddings."""
    from safetensors.torch import save as to_bytes

    # One entry, because the order of several is not fixed.
    known = {"known": json.dumps({"users": model.users, "ads": model.ads, "inputs": [*SLOTS, *NUMBERS]})}
    weights = {name: value.contiguous() for name, value in model.state_dict().items()}
    write_bytes_atomically(folder / FILE, to_bytes(weights, metadata=known))


def load(folder: Path, encoder: Encoder) -> PCTR:
    """Reads a model that `save` wrote.

    Raises:
        DataFileError: the file is missing, is not a pCTR model, or was made by a version with other inputs.
    """
    from safetensors import SafetensorError, safe_open

    if not (folder / FILE).exists():
        raise DataFileError(f"{folder}: no pCTR model: it has no {FILE}")
    check_regular(folder / FILE)
    try:
        with safe_open(folder / FILE, framework="pt") as file:
            known = json.loads(file.metadata()["known"])
            if isinstance(known, list) or known["inputs"] != [*SLOTS, *NUMBERS]:
                raise DataFileError(
                    f"{folder / FILE}: made by another version of simenv, whose pCTR model has other inputs",
                    hint="train again",
                )
            model = PCTR(encoder, known["users"], known["ads"])
            model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no dict)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise DataFileError(f"{folder / FILE}: not a pCTR model, or damaged: {' '.join(str(error).split())}") from None
    return model.eval()
