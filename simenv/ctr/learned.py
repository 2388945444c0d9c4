"""A CTR model learned from a click log, as a platform could fit it to its own data.

    P(click on ad i at rank k) = d^k * q_i,    q_i = sigmoid(w_0 + w_1 cos_i + w_2 cos_i^2 + u_ad + v_category)

This is a position-based click model (Craswell, Zoeter, Taylor and Ramsey 2008). Its attraction is a logistic regression
with an intercept for each ad and each category, shrunk towards 0. So it can learn an ad's hidden appeal, but not the
taste of a persona. Position and attraction are fitted jointly by maximum likelihood, on realised clicks and not on
click probabilities. Such a fit is calibrated on the distribution of the log.
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
from simenv.files.folders import check_new_file
from simenv.files.limits import read_bytes
from simenv.one_thread import product
from simenv.records import Auction, Record, Transition

Floats = npt.NDArray[np.float64]

RIDGE = 1.0
"""Penalty on u and v, about as strong as one observation at the average click rate."""
HELD_OUT = 5
"""`held_out_quality` fits without every fifth persona and scores these personas."""


class LearnedCTR(Record):
    """The model of this module. Use `fit` or `load` to create it."""

    intercept: float
    cosine: tuple[float, float]
    """w_1 and w_2."""
    position_discount: float = Field(gt=0, le=1)
    ads: dict[str, float]
    """Ad id -> u; 0 for an ad that was never shown."""
    categories: dict[str, float]
    """Category -> v; 0 for a category that was never shown."""
    impressions: int = Field(ge=0)
    """Number of impressions in the fit."""
    log: str = ""
    """Name of the log."""

    @property
    def name(self) -> str:
        return f"learned from {self.impressions} impressions" + (f" of {self.log}" if self.log else "")

    def relevance(self, auction: Auction) -> Floats:
        return self._attraction([(bid.relevance, bid.ad.id, bid.ad.category) for bid in auction.bids])

    def predict(self, rows: Sequence[Impression]) -> Floats:
        """Returns the click probability of each impression: shape (len(rows),)."""
        ranks = np.array([row.rank for row in rows])
        return self._attraction([(r.cosine, r.ad, r.category) for r in rows]) * self.position_discount**ranks

    def _attraction(self, ads: Sequence[tuple[float, str, str]]) -> Floats:
        cosine = np.array([c for c, _, _ in ads], dtype=np.float64)
        bias = np.array([self.ads.get(ad, 0.0) + self.categories.get(cat, 0.0) for _, ad, cat in ads], dtype=np.float64)
        return _sigmoid(self.intercept + self.cosine[0] * cosine + self.cosine[1] * cosine**2 + bias)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        q = dict(zip([bid.ad.id for bid in auction.bids], self.relevance(auction), strict=True))
        return {ad_id: float(q[ad_id]) * self.position_discount**rank for rank, ad_id in enumerate(shown)}

    @staticmethod
    def load(path: str | Path) -> LearnedCTR:
        """A CTR model fitted to a run's clicks by `simenv fit-ctr`: learned:FILE.

        Raises:
            DataFileError: no such file, or not a learned CTR model.
        """
        try:
            return LearnedCTR.model_validate_json(read_bytes(Path(path)))
        except ValidationError as error:
            first = error.errors()[0]
            raise DataFileError(
                f"{path}: not a learned CTR model: {'.'.join(map(str, first['loc']))} {first['msg']}"
            ) from None

    def save(self, path: Path) -> None:
        """Writes the model as JSON.

        Raises:
            DataFileError: the file exists, or cannot be written.
        """
        check_new_file(path)
        write_bytes_atomically(path, (self.model_dump_json(indent=1) + "\n").encode())


class Impression(NamedTuple):
    """One shown ad with a decided verdict."""

    persona: str
    ad: str
    category: str
    cosine: float
    rank: int
    clicked: bool


class HeldOutQuality(NamedTuple):
    """Quality of a model's predictions on held-out personas."""

    model: str
    log_loss: float
    auc: float
    calibration_error: float
    """Mean absolute difference of predicted and observed click rate over ten equal-sized bins."""


def impressions(transitions: Iterable[Transition]) -> list[Impression]:
    """Returns the shown ads of a log on which the judge decided, without those in answers to follow-up questions.

    Candidates' relevance is that to the query; an ad that answers a question the user chose has another one.
    """
    rows = []
    for t in transitions:
        if t.outcome.chosen is not None:
            continue
        for rank, click in enumerate(t.feedback.clicks):
            if click.clicked is not None:
                bid = t.auction.bid_of(click.ad_id)
                rows.append(Impression(t.persona_id, bid.ad.id, bid.ad.category, bid.relevance, rank, click.clicked))
    return rows


def fit(rows: Sequence[Impression], log: str = "") -> LearnedCTR:
    """Fits the model by maximum likelihood, with a ridge penalty on the intercepts of ads and categories.

    Raises:
        InputError: no impressions, no clicks, or only clicks.
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
        q = _sigmoid(product(basis, w) + u[ad_of] + v[category_of])
        d = _sigmoid(theta[3:4])[0]
        p = np.clip(q * d**rank, 1e-9, 1 - 1e-9)
        value = -np.sum(clicked * np.log(p) + (1 - clicked) * np.log1p(-p)) + RIDGE / 2 * (u @ u + v @ v)
        slope = -(clicked - p) / (1 - p)  # d value / d log p
        by_odds = slope * (1 - q)
        gradient = np.concatenate(
            [
                product(basis.T, by_odds),
                [product(slope, rank) * (1 - d)],
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


def held_out_quality(rows: Sequence[Impression]) -> list[HeldOutQuality]:
    """Fits on four fifths of the personas and scores three models on the rest: learned, cosine and mean click rate.

    Raises:
        InputError: the held-out personas have no impressions, no clicks or only clicks, or the fit is not possible.
    """
    from sklearn.metrics import log_loss, roc_auc_score

    from simenv.ctr.models import CosineCTR

    personas = sorted({row.persona for row in rows})
    left_out = set(personas[::HELD_OUT])
    train = [row for row in rows if row.persona not in left_out]
    test = [row for row in rows if row.persona in left_out]
    truth = np.array([row.clicked for row in test], dtype=np.float64)
    if not test or truth.min() == truth.max():
        raise InputError(
            f"the held-out {len(left_out)} of {len(personas)} personas need clicks and non-clicks, got "
            f"{int(truth.sum())} clicks of {len(test)} impressions: run more auctions"
        )
    cosine = CosineCTR()
    ranks, x = np.array([row.rank for row in test]), np.array([row.cosine for row in test])
    predictions = {
        "learned": fit(train).predict(test),
        "cosine": _sigmoid(cosine.slope * (x - cosine.centre)) * cosine.position_discount**ranks,
        "mean rate": np.full(len(test), np.mean([row.clicked for row in train])),
    }
    return [
        HeldOutQuality(name, float(log_loss(truth, p)), float(roc_auc_score(truth, p)), calibration_error(truth, p))
        for name, p in predictions.items()
    ]


def calibration_error(truth: Floats, predicted: Floats, bins: int = 10) -> float:
    """Mean of |observed click rate - mean prediction| over equal-sized bins of the predictions, weighted by size."""
    parts = np.array_split(np.argsort(predicted, kind="stable"), bins)
    return float(sum(abs(truth[p].mean() - predicted[p].mean()) * len(p) for p in parts if len(p)) / len(truth))


def _sigmoid(x: Floats) -> Floats:
    with np.errstate(over="ignore"):  # to infinity: the result is 0
        return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float64)
