"""Ordinal regression with a shared hidden layer: grades 1 to 5 of several targets, by cumulative logits.

    h = tanh(W x),    eta_t = v_t . h,    P(grade_t > k) = sigmoid(eta_t - c_tk),    c_t1 < c_t2 < c_t3 < c_t4

The proportional odds model (McCullagh 1980, "Regression models for ordinal data"), one per target on a common hidden
layer. Its likelihood respects the order of the grades: a prediction that is two grades off costs more than one that is
one off. The first target is the one that counts; the others are auxiliary, and only help to find W.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.errors import InputError
from simenv.one_thread import one_thread, product
from simenv.seeding import keyed_rng

Floats = npt.NDArray[np.float64]
Grades = npt.NDArray[np.int64]
GRADES = 5
"""Grades are 1 to 5."""
UNITS = 8
"""Hidden units."""
RIDGE = 40.0
"""Penalty on W and v, beside a loss that is a sum over rows, for inputs of about unit length. Of 5, 15, 46 and
154, the values near 46 had the highest rank correlation with held-out readers and ads, on one run of 1,541 readings."""
AUXILIARY = 0.3
"""Weight of each auxiliary target's loss."""
_GAP_RIDGE = 0.001
"""Penalty on the logarithms of the gaps between thresholds: a grade that nobody gave keeps a finite place."""


class OrdinalHead(NamedTuple):
    """A fitted head."""

    hidden: Floats
    """W: shape (inputs, units)."""
    weights: Floats
    """v: shape (units, targets)."""
    cuts: Floats
    """c: shape (targets, 4), ascending."""

    def scores(self, x: Floats) -> Floats:
        """eta of every target, in log-odds: shape (rows, targets). The higher, the higher the expected grade."""
        return np.asarray(product(np.tanh(product(x, self.hidden)), self.weights), dtype=np.float64)

    def expected_grades(self, x: Floats) -> Floats:
        """Expected grade of every target: shape (rows, targets), in [1, 5]."""
        above = _sigmoid(self.scores(x)[:, :, None] - self.cuts[None])
        return np.asarray(1 + above.sum(axis=2))


def fit_head(
    x: Floats, grades: Grades, *, seed: int = 0, units: int = UNITS, auxiliary: float = AUXILIARY
) -> OrdinalHead:
    """Fits a head by penalised maximum likelihood.

    Args:
        x: Inputs: shape (rows, inputs).
        grades: 1 to 5, or 0 where a target has no grade: shape (rows, targets). The first target is the one that
            counts.
        seed: Names the draw of the first W.
        units: Number of hidden units.
        auxiliary: Weight of the loss of each further target.

    Raises:
        InputError: a grade outside 0 to 5, or fewer than two different grades of the first target.
    """
    from scipy.optimize import minimize

    rows, inputs = x.shape
    targets = grades.shape[1]
    if grades.min(initial=0) < 0 or grades.max(initial=0) > GRADES:
        raise InputError(f"grades must be 1 to {GRADES}, or 0 where there is none, got {np.unique(grades).tolist()}")
    if len(set(grades[:, 0]) - {0}) < 2:
        given = sorted(set(grades[:, 0].tolist()) - {0})
        raise InputError(f"an evaluator needs at least two different grades to learn from, got {given} in {rows} rows")
    weight = np.array([1.0] + [auxiliary] * (targets - 1)) * (grades > 0) / np.maximum(1, (grades > 0).sum(axis=0))
    shapes = ((inputs, units), (units, targets), (targets, GRADES - 1))

    ridge = RIDGE / max(1, rows)  # the loss below is a mean over rows

    def loss(theta: Floats) -> tuple[float, Floats]:
        w, v, raw = _parts(theta, shapes)
        hidden = np.tanh(x @ w)
        value, by_score, by_cut = _likelihood(hidden @ v, _cuts(raw), grades, weight)
        value += ridge / 2 * float((w**2).sum() + (v**2).sum()) + _GAP_RIDGE / 2 * float((raw[:, 1:] ** 2).sum())
        by_raw = np.cumsum(by_cut[:, ::-1], axis=1)[:, ::-1].copy()  # c_k = raw_0 + sum of exp(raw_1..k)
        by_raw[:, 1:] = by_raw[:, 1:] * np.exp(raw[:, 1:]) + _GAP_RIDGE * raw[:, 1:]
        by_w = x.T @ ((by_score @ v.T) * (1 - hidden**2)) + ridge * w
        by_v = hidden.T @ by_score + ridge * v
        return value, np.concatenate([by_w.ravel(), by_v.ravel(), by_raw.ravel()])

    rng = keyed_rng("ordinal head", seed)
    start = [rng.normal(0, 0.3, shapes[0]), rng.normal(0, 0.3, shapes[1]), np.tile([-1.5, 0, 0, 0], (targets, 1))]
    with one_thread():
        found = minimize(loss, np.concatenate([part.ravel() for part in start]), jac=True, method="L-BFGS-B").x
    w, v, raw = _parts(found, shapes)
    return OrdinalHead(w, v, _cuts(raw))


def _parts(theta: Floats, shapes: Sequence[tuple[int, int]]) -> list[Floats]:
    ends = np.cumsum([a * b for a, b in shapes])
    return [part.reshape(shape) for part, shape in zip(np.split(theta, ends[:-1]), shapes, strict=True)]


def _cuts(raw: Floats) -> Floats:
    return np.cumsum(np.concatenate([raw[:, :1], np.exp(raw[:, 1:])], axis=1), axis=1)


def _likelihood(scores: Floats, cuts: Floats, grades: Grades, weight: Floats) -> tuple[float, Floats, Floats]:
    """Weighted negative log-likelihood, its derivative by scores (rows, targets) and by cuts (targets, 4)."""
    rows, targets = grades.shape
    edges = np.concatenate([np.full((targets, 1), -np.inf), cuts, np.full((targets, 1), np.inf)], axis=1)
    of = np.arange(targets)[None]
    grade = np.maximum(grades, 1)
    low, high = edges[of, grade - 1], edges[of, grade]  # grade g is between its two cuts
    below_high, below_low = _sigmoid(high - scores), _sigmoid(low - scores)
    prob = np.maximum(below_high - below_low, 1e-12)
    slope_high, slope_low = below_high * (1 - below_high), below_low * (1 - below_low)
    value = -float((weight * np.log(prob)).sum())
    by_score = weight * (slope_high - slope_low) / prob
    by_edge = np.zeros((targets, GRADES + 1))
    columns = np.broadcast_to(of, (rows, targets))
    np.add.at(by_edge, (columns, grade), -weight * slope_high / prob)
    np.add.at(by_edge, (columns, grade - 1), weight * slope_low / prob)
    return value, by_score, by_edge[:, 1:-1]


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)), dtype=np.float64)
