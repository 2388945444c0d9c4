"""Intervals and curves of the validity report. All intervals are 95%."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from simenv.records import Record
from simenv.runs.metrics import clustered_ratio
from simenv.seeding import keyed_rng

_Z = 1.959963984540054
_RESAMPLES = 500


class Interval(Record):
    """A value with its 95% interval; null where it cannot be told."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class Bin(Record):
    """One point of a curve."""

    x: float
    """Mean of what the bin is made by."""
    y: float
    """Mean of what is held against it."""
    n: int


def wilson(successes: float, n: int) -> Interval:
    """A share with its Wilson score interval (Wilson 1927). Half successes, from ties, are allowed."""
    if n == 0:
        return Interval()
    share = successes / n
    centre = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    margin = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / (1 + _Z**2 / n)
    return Interval(value=share, low=max(0.0, centre - margin), high=min(1.0, centre + margin))


def mean(values: Sequence[float], clusters: Sequence[str], least: float = -1.0) -> Interval:
    """A mean with its t interval, clustered (`simenv.runs.metrics`); value alone if there is one cluster.

    Args:
        values: Between `least` and 1; the interval is cut off there.
        clusters: Of each value.
        least: -1 for differences of probabilities, 0 for probabilities.
    """
    value, low, high = clustered_ratio([(value, 1.0) for value in values], clusters)
    if math.isnan(value):
        return Interval()
    if math.isnan(low):
        return Interval(value=value)
    return Interval(value=value, low=max(least, low), high=min(1.0, high))


def auc(labels: Sequence[int], scores: Sequence[float], clusters: Sequence[str], *key: str | int) -> Interval:
    """Area under the ROC curve (ties count half) with a percentile bootstrap over clusters.

    Args:
        labels: 0 or 1.
        scores: Higher should mean 1.
        clusters: What is resampled, for instance the query of each row.
        key: Names the resamples.
    """
    from sklearn.metrics import roc_auc_score  # type: ignore[import-untyped, unused-ignore]

    if len(set(labels)) < 2:
        return Interval()
    y, s = np.array(labels), np.array(scores, dtype=np.float64)
    names, places = np.unique(np.array(clusters, dtype=str), return_inverse=True)
    rows = [np.flatnonzero(places == i) for i in range(len(names))]
    rng = keyed_rng("validity-bootstrap", *key)
    drawn = []
    for _ in range(_RESAMPLES):
        sample = np.concatenate([rows[i] for i in rng.integers(len(names), size=len(names))])
        if len(set(y[sample].tolist())) == 2:
            drawn.append(float(roc_auc_score(y[sample], s[sample])))
    low, high = np.quantile(drawn, [0.025, 0.975]).tolist() if drawn else (None, None)
    return Interval(value=float(roc_auc_score(y, s)), low=low, high=high)


def deciles(x: Sequence[float], y: Sequence[float]) -> tuple[Bin, ...]:
    """The mean of y by tenths of x, in order; fewer bins where there are fewer than ten values."""
    order = np.argsort(x, kind="stable")
    parts = [part for part in np.array_split(order, 10) if len(part)]
    xs, ys = np.array(x, dtype=np.float64), np.array(y, dtype=np.float64)
    return tuple(Bin(x=float(xs[part].mean()), y=float(ys[part].mean()), n=len(part)) for part in parts)
