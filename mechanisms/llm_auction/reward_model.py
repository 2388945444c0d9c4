"""The pCTR model: sigma(MLP[phi(x); phi(y); e_user; e_ad])   (LLM-Auction, eq. 3-4 and appendix B.2).

There are four changes, because the encoder is small (384 dimensions) and the log has thousands of rows, not 120,000.
1. phi(y) is split: the sentence that shows the ad, the answer before and after it, and the ad's copy. So in an answer
   with two ads the model knows which ad is meant, and where it stands.
2. The profile is also read as a text, so that the model knows something of a user without an embedding.
3. The model gets as numbers what it could not learn from few rows (`click_features.py`): cosines of these texts, the
   ad's rank and place, the other ads. The numbers also have a linear path around the MLP.
4. Fitting stops early, by the loss on held-out users (so also their queries) and ads. A logistic recalibration on the
   same rows follows (Platt 1999, "Probabilistic outputs for support vector machines").
It is used in training, and when an answer is served only if the mechanism's option `score` is "pctr".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
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
"""Share of the users, and of the ads, that are held out for early stopping and recalibration."""
START_C = 0.1
"""Inverse ridge penalty of the logistic regression that the linear path starts as."""
CALIBRATION_RIDGE = 30.0
"""Ridge penalty of the recalibration: slope and intercept stay near 1 and 0 unless many rows say more."""
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
        (probs,) = self.click_probs_of([(auction, response, shown)])
        return probs

    def click_probs_of(self, answers: Sequence[tuple[Auction, str, Sequence[str]]]) -> list[dict[str, float]]:
        """As `click_probs` for many answers: auction, response and shown ads of each. One request to the encoder."""
        rows = [pctr_examples(auction, response, shown) for auction, response, shown in answers]
        probs = iter(self._model.predict([row for answer in rows for row in answer]).tolist())
        return [{row.ad: next(probs) for row in answer} for answer in rows]


def fit(log: Sequence[PCTRExample], encoder: Encoder, seed: int, *, steps: int = STEPS) -> PCTR:
    """Fits a pCTR model with binary cross-entropy on the pooled log.

    The linear path starts as a logistic regression. A first fit leaves out some users and some ads, and every
    `CHECK_EVERY` of at most `steps` updates the loss on their rows is computed, without embeddings of what was left
    out. The number of updates with the lowest loss is kept if that loss is lower than the start's by more than its
    standard error; else it is 0, because a small log cannot tell what the MLP learned from noise. A second fit, to all
    rows, makes that number of updates. The recalibration is fitted to the rows that the first fit left out.

    Raises:
        InputError: the log has no clicks or only clicks.
    """
    judged = [row for row in log if row.clicked is not None]
    clicked = torch.tensor([float(row.clicked or 0) for row in judged])
    if not judged:
        raise InputError(
            "pCTR needs clicks and non-clicks, and no answer showed an ad that the judge decided on",
            hint="a base model that shows no ads needs fine-tuning first: sft_auctions, with level written",
        )
    if clicked.min() == clicked.max():
        raise InputError(
            f"pCTR needs clicks and non-clicks, got {int(clicked.sum())} clicks of {len(judged)}",
            hint="raise clicked_auctions",
        )
    users, ads = sorted({row.user for row in judged}), sorted({row.ad for row in judged})
    new_users = torch.tensor([_held_out("user", row.user) for row in judged])
    new_ads = torch.tensor([_held_out("ad", row.ad) for row in judged])
    held = new_users | new_ads

    def start(rows: Inputs, clicks: torch.Tensor) -> PCTR:
        torch.manual_seed(seed)
        model = PCTR(encoder, users, ads)
        _scale(model, rows.numbers)
        _start(model, rows.numbers, clicks)
        return model

    with torch.random.fork_rng(devices=[]):
        inputs = PCTR(encoder, users, ads).inputs(judged)
        best, logits, truth = 0, torch.zeros(0), clicked[held]
        if held.any() and not held.all():
            kept, kept_clicks = inputs.of(~held), clicked[~held]
            seen = inputs._replace(users=inputs.users * ~new_users, ads=inputs.ads * ~new_ads).of(held)
            trial = start(kept, kept_clicks)
            checks = {0: _logits(trial, seen)}
            for step in _updates(trial, kept, kept_clicks, steps):
                if step % CHECK_EVERY == 0 or step == steps:
                    checks[step] = _logits(trial, seen)
            losses = {step: _losses(logits, truth) for step, logits in checks.items()}
            best = min(losses, key=lambda step: float(losses[step].mean()))
            gain = losses[0] - losses[best]
            if gain.mean() <= gain.std(correction=0) / len(gain) ** 0.5:
                best = 0
            logits = checks[best]
        model = start(inputs, clicked)
        for _ in _updates(model, inputs, clicked, best):
            pass
        _recalibrate(model, logits, truth)
    return model.eval()


def _held_out(kind: str, name: str) -> bool:
    return bool(keyed_rng("pctr held out", kind, name).random() < HELD_OUT)


def _updates(model: PCTR, rows: Inputs, clicked: torch.Tensor, steps: int) -> Iterator[int]:
    """Makes updates, and yields the number of each after it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for step in range(1, steps + 1):
        places = torch.randint(len(clicked), (BATCH,))
        known = (torch.rand(BATCH, 2) > UNKNOWN_RATE).long()
        batch = rows.of(places)
        logits = model(batch._replace(users=batch.users * known[:, 0], ads=batch.ads * known[:, 1]))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, clicked[places])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        yield step


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
    start = LogisticRegression(C=START_C, max_iter=1000).fit(model.scaled(numbers).numpy(), clicked.numpy())
    with torch.no_grad():
        model.linear.weight.copy_(torch.tensor(start.coef_))
        model.linear.bias.copy_(torch.tensor(start.intercept_))


def _logits(model: PCTR, rows: Inputs) -> torch.Tensor:
    """Logits without dropout: shape (rows,)."""
    model.eval()
    with torch.no_grad():
        logits: torch.Tensor = model(rows)
    model.train()
    return logits


def _losses(logits: torch.Tensor, clicked: torch.Tensor) -> torch.Tensor:
    """The loss of each row: shape (rows,)."""
    return nn.functional.binary_cross_entropy_with_logits(logits, clicked, reduction="none")


def _recalibrate(model: PCTR, held_out: torch.Tensor, clicked: torch.Tensor) -> None:
    """Sets slope and intercept of the logits by a logistic regression on held-out logits.

    With a ridge penalty that draws them to 1 and 0, where few rows leave them.
    """
    logits, truth = held_out.double().numpy(), clicked.double().numpy()
    inputs = np.stack([logits, np.ones_like(logits)], axis=1)
    start = np.array([1.0, 0.0])
    found = start.copy()
    for _ in range(25):  # Newton's method
        probs = 1 / (1 + np.exp(-np.clip(inputs @ found, -30, 30)))
        slope = inputs.T @ (probs - truth) + CALIBRATION_RIDGE * (found - start)
        curvature = (inputs.T * (probs * (1 - probs))) @ inputs + CALIBRATION_RIDGE * np.eye(2)
        found = found - np.linalg.solve(curvature, slope)
    if np.isfinite(found).all() and found[0] > 0:
        model.calibration.copy_(torch.tensor(found))


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
