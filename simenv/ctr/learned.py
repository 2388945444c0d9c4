"""A CTR model learned from a click log: what a platform would know after watching its users.

    P(click on ad i at rank k) = d^k * q_i,    q_i = sigmoid(w_0 + w_1 cos_i + w_2 cos_i^2 + u_ad + v_category)

A position-based click model (Craswell, Zoeter, Taylor and Ramsey 2008) whose attraction is a logistic regression with
an intercept for each ad and each category, shrunk towards 0: so it can learn an ad's hidden appeal, but not a single
persona's taste. Position and attraction are fitted together, by maximum likelihood on clicks drawn, not on
probabilities; being a likelihood fit it is calibrated on the log's own distribution.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationError

from simenv.errors import DataFileError, InputError
from simenv.files.atomic import write_bytes_atomically
from simenv.records import Auction, Record, Transition

Floats = npt.NDArray[np.float64]

RIDGE = 1.0
"""Penalty on u and v: the weight of one click that says "as the average ad"."""
HELD_OUT = 5
"""Every fifth persona is left out of the fit that the quality figures are from."""


class LearnedCTR(Record):
    """See the module. Built by `fit` or `load`."""

    intercept: float
    cosine: tuple[float, float]
    """w_1 and w_2."""
    position_discount: float = Field(gt=0, le=1)
    ads: dict[str, float]
    """Ad id -> u; an ad that was never shown has 0."""
    categories: dict[str, float]
    impressions: int = Field(ge=0)
    """Verdicts it was fitted on."""
    log: str = ""
    """Where these come from."""

    @property
    def name(self) -> str:
        return f"learned from {self.impressions} impressions" + (f" of {self.log}" if self.log else "")

    def relevance(self, auction: Auction) -> Floats:
        return self._attraction([(bid.relevance, bid.ad.id, bid.ad.category) for bid in auction.bids])

    def predict(self, rows: Sequence[Impression]) -> Floats:
        """Click probability of each impression: shape (len(rows),)."""
        ranks = np.array([row.rank for row in rows])
        return self._attraction([(r.cosine, r.ad, r.category) for r in rows]) * self.position_discount**ranks

    def _attraction(self, ads: Sequence[tuple[float, str, str]]) -> Floats:
        cosine = np.array([c for c, _, _ in ads], dtype=np.float64)
        own = np.array([self.ads.get(ad, 0.0) + self.categories.get(cat, 0.0) for _, ad, cat in ads], dtype=np.float64)
        return _sigmoid(self.intercept + self.cosine[0] * cosine + self.cosine[1] * cosine**2 + own)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        q = dict(zip([bid.ad.id for bid in auction.bids], self.relevance(auction), strict=True))
        return {ad_id: float(q[ad_id]) * self.position_discount**rank for rank, ad_id in enumerate(shown)}

    @staticmethod
    def load(path: str | Path) -> LearnedCTR:
        """Reads a model that `save` wrote.

        Raises:
            DataFileError: no such file, or not a learned CTR model.
        """
        try:
            return LearnedCTR.model_validate_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise DataFileError(f"cannot read CTR model {path}: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            raise DataFileError(
                f"{path}: not a learned CTR model: {'.'.join(map(str, first['loc']))} {first['msg']}"
            ) from None

    def save(self, path: Path) -> None:
        """Writes it as JSON.

        Raises:
            DataFileError: the file exists already, or cannot be written.
        """
        if path.exists():
            raise DataFileError(f"{path} exists already: give a new file, nothing is overwritten")
        try:
            write_bytes_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())
        except OSError as error:
            raise DataFileError(f"cannot write {path}: {error.strerror}") from None


class Impression(NamedTuple):
    """One shown ad with a verdict."""

    persona: str
    ad: str
    category: str
    cosine: float
    rank: int
    clicked: bool


class Quality(NamedTuple):
    """How well predictions do on personas that were held out."""

    model: str
    log_loss: float
    auc: float
    calibration_error: float
    """Mean absolute gap between predicted and observed rate over ten equal-sized bins."""


def impressions(transitions: Iterable[Transition]) -> list[Impression]:
    """The shown ads of a log that have a verdict."""
    found = []
    for t in transitions:
        for rank, click in enumerate(t.feedback.clicks):
            if click.clicked is not None:
                bid = t.auction.bid_of(click.ad_id)
                found.append(Impression(t.persona_id, bid.ad.id, bid.ad.category, bid.relevance, rank, click.clicked))
    return found


def fit(rows: Sequence[Impression], log: str = "") -> LearnedCTR:
    """Maximum likelihood with a ridge on the intercepts of ads and categories.

    Raises:
        InputError: no impressions, or no click or nothing but clicks among them.
    """
    from scipy.optimize import minimize

    clicked = np.array([row.clicked for row in rows], dtype=np.float64)
    if not len(rows) or clicked.min() == clicked.max():
        raise InputError(
            f"a CTR model needs clicks and non-clicks to learn from, got {int(clicked.sum())} of {len(rows)}"
        )
    ads, ad_of = np.unique([row.ad for row in rows], return_inverse=True)
    categories, category_of = np.unique([row.category for row in rows], return_inverse=True)
    cosine = np.array([row.cosine for row in rows])
    rank = np.array([row.rank for row in rows], dtype=np.float64)
    basis = np.stack([np.ones_like(cosine), cosine, cosine**2], axis=1)
    n = len(ads)

    def loss(theta: Floats) -> tuple[float, Floats]:
        """Penalised negative log-likelihood and gradient. theta: 3 weights, log-odds of d, u (n), v."""
        w, u, v = theta[:3], theta[4 : 4 + n], theta[4 + n :]
        q = _sigmoid(basis @ w + u[ad_of] + v[category_of])
        d = _sigmoid(theta[3:4])[0]
        p = np.clip(q * d**rank, 1e-9, 1 - 1e-9)
        value = -np.sum(clicked * np.log(p) + (1 - clicked) * np.log1p(-p)) + RIDGE / 2 * (u @ u + v @ v)
        slope = -(clicked - p) / (1 - p)  # d value / d log p
        by_odds = slope * (1 - q)
        gradient = np.concatenate(
            [
                basis.T @ by_odds,
                [slope @ rank * (1 - d)],
                np.bincount(ad_of, by_odds, minlength=n) + RIDGE * u,
                np.bincount(category_of, by_odds, minlength=len(categories)) + RIDGE * v,
            ]
        )
        return float(value), gradient

    theta = minimize(
        loss, np.array([0.0, 0.0, 0.0, 1.5, *np.zeros(n + len(categories))]), jac=True, method="L-BFGS-B"
    ).x
    return LearnedCTR(
        intercept=theta[0],
        cosine=(theta[1], theta[2]),
        position_discount=float(_sigmoid(theta[3:4])[0]),
        ads=dict(zip(ads.tolist(), theta[4 : 4 + n].tolist(), strict=True)),
        categories=dict(zip(categories.tolist(), theta[4 + n :].tolist(), strict=True)),
        impressions=len(rows),
        log=log,
    )


def held_out_quality(rows: Sequence[Impression]) -> list[Quality]:
    """Fits on four fifths of the personas and scores the rest: the learned model, the cosine one, and the plain rate.

    Raises:
        InputError: too few personas or clicks to hold any out.
    """
    from sklearn.metrics import log_loss, roc_auc_score

    from simenv.ctr.models import CosineCTR

    personas = sorted({row.persona for row in rows})
    left_out = set(personas[::HELD_OUT])
    train = [row for row in rows if row.persona not in left_out]
    test = [row for row in rows if row.persona in left_out]
    truth = np.array([row.clicked for row in test], dtype=np.float64)
    if not test or truth.min() == truth.max():
        raise InputError(f"{len(personas)} personas are too few to hold any out: run more auctions")
    cosine = CosineCTR()
    ranks, x = np.array([row.rank for row in test]), np.array([row.cosine for row in test])
    predictions = {
        "learned": fit(train).predict(test),
        "cosine": _sigmoid(cosine.slope * (x - cosine.centre)) * cosine.position_discount**ranks,
        "mean rate": np.full(len(test), np.mean([row.clicked for row in train])),
    }
    return [
        Quality(name, float(log_loss(truth, p)), float(roc_auc_score(truth, p)), calibration_error(truth, p))
        for name, p in predictions.items()
    ]


def calibration_error(truth: Floats, predicted: Floats, bins: int = 10) -> float:
    """Mean |observed rate - mean prediction| over equal-sized bins of the predictions, weighted by their size."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), bins)
    return float(sum(abs(truth[p].mean() - predicted[p].mean()) * len(p) for p in parts if len(p)) / len(truth))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float64)
