"""Estimates with 95% intervals, and binned curves.

Most figures are a ratio of sums, R = sum(above) / sum(below); a mean has 1 below. Rows of one cluster (the turns of one
persona) are not independent, so the interval is clustered: with influence values
psi_i = (above_i - R below_i) / sum(below), the variance of R is G / (G - 1) sum_g (sum_{i in g} psi_i)^2 over the G
clusters, and the interval is R +- t_{G-1} s (Cameron and Miller 2015, "A practitioner's guide to cluster-robust
inference").
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, ConfigDict

from simenv.records import Record
from simenv.seeding import keyed_rng

_Z = 1.959963984540054
_RESAMPLES = 500


def _nan_for_null(value: Any) -> Any:
    # Always the one object math.nan: estimates are equal if their numbers are the same objects or equal.
    return math.nan if value is None or value != value else value


Number = Annotated[float, BeforeValidator(_nan_for_null)]
"""A float; nan is written to JSON as null, and null is read as nan."""


class Estimate(Record):
    """A value with its 95% interval; nan (null in JSON) if undefined."""

    model_config = ConfigDict(allow_inf_nan=True)

    value: Number = math.nan
    low: Number = math.nan
    high: Number = math.nan

    @property
    def numbers(self) -> tuple[float, float, float]:
        """(value, low, high)."""
        return self.value, self.low, self.high

    @property
    def margin(self) -> float:
        """Half the width of the interval."""
        return (self.high - self.low) / 2


class Bin(Record):
    """One point of a curve."""

    x: float
    """Mean of the variable that defines the bins."""
    y: float
    """Mean of the other variable."""
    n: int
    """Number of values in the bin."""


def clustered_ratio(pairs: Sequence[tuple[float, float]], clusters: Sequence[str]) -> Estimate:
    """Returns sum of above / sum of below with its clustered interval; nan if the sum of below is 0.

    Args:
        pairs: (above, below) of each row; below is 1 for a mean.
        clusters: The cluster (persona) of each row.
    """
    return clustered_interval(*ratio_and_influence(pairs), clusters)


def ratio_and_influence(pairs: Sequence[tuple[float, float]]) -> tuple[float, npt.NDArray[np.float64]]:
    """Returns the ratio R of (above, below) pairs and the influence value psi of each; nan if the sum of below is 0."""
    above, below = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    total = float(below.sum())
    if total == 0:
        return math.nan, np.full(len(pairs), math.nan)
    ratio = float(above.sum()) / total
    return ratio, (above - ratio * below) / total


def clustered_interval(
    value: float, influence: npt.NDArray[np.float64], clusters: Sequence[str], groups: int | None = None
) -> Estimate:
    """Returns a value with its clustered interval; no interval if there is one cluster.

    Args:
        value: The estimate.
        influence: The influence value of each row, shape (rows,).
        clusters: The cluster of each row.
        groups: G; the number of clusters unless it is given.
    """
    from scipy.stats import t as student

    names, places = np.unique(np.array(clusters, dtype=str), return_inverse=True)
    groups = len(names) if groups is None else groups
    if groups < 2 or math.isnan(value):
        return Estimate(value=value)
    sums = np.bincount(places, weights=influence, minlength=len(names))
    error = math.sqrt(groups / (groups - 1) * float((sums**2).sum()))
    margin = float(student.ppf(0.975, groups - 1)) * error
    return Estimate(value=value, low=value - margin, high=value + margin)


def wilson(successes: float, n: int) -> Estimate:
    """Returns a share with its Wilson score interval (Wilson 1927). Half successes, from ties, are allowed."""
    if n == 0:
        return Estimate()
    share = successes / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    margin = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Estimate(value=share, low=max(0.0, centre - margin), high=min(1.0, centre + margin))


def mean(values: Sequence[float], clusters: Sequence[str], least: float = -1.0) -> Estimate:
    """Returns a mean with its clustered t interval; no interval if there is one cluster.

    Args:
        values: Numbers between `least` and 1; the interval is clipped to this range.
        clusters: The cluster of each value.
        least: -1 for differences of probabilities, 0 for probabilities.
    """
    estimate = clustered_ratio([(value, 1.0) for value in values], clusters)
    if math.isnan(estimate.low):
        return estimate
    return Estimate(value=estimate.value, low=max(least, estimate.low), high=min(1.0, estimate.high))


def auc(labels: Sequence[int], scores: Sequence[float], clusters: Sequence[str], *key: str | int) -> Estimate:
    """Returns the area under the ROC curve (ties count half) with a percentile bootstrap over clusters.

    Args:
        labels: 0 or 1.
        scores: Predictions; higher means 1 is more likely.
        clusters: The unit of resampling, for instance the query of each row.
        key: Key of the resamples.
    """
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped, unused-ignore]

    if len(set(labels)) < 2:
        return Estimate()
    y, s = np.array(labels), np.array(scores, dtype=np.float64)
    names, places = np.unique(np.array(clusters, dtype=str), return_inverse=True)
    rows = [np.flatnonzero(places == i) for i in range(len(names))]
    rng = keyed_rng("validity-bootstrap", *key)
    drawn = []
    for _ in range(_RESAMPLES):
        sample = np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))])
        if len(set(y[sample].tolist())) == 2:
            drawn.append(float(roc_auc_score(y[sample], s[sample])))
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist() if drawn else (math.nan, math.nan)
    return Estimate(value=float(roc_auc_score(y, s)), low=low, high=high)


def deciles(x: Sequence[float], y: Sequence[float]) -> tuple[Bin, ...]:
    """Returns the mean of y by tenths of x, in order; fewer bins for fewer than ten values."""
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    xs, ys = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
    return tuple(Bin(x=float(xs[part].mean()), y=float(ys[part].mean()), n=len(part)) for part in parts)
