"""Estimates with 95% intervals, and binned curves.

Most figures are a ratio of sums, R = sum(above) / sum(below); a mean has 1 below. Rows of one cluster (the turns of one
persona) are not independent, so the interval is clustered: with the influence of cluster g,
psi_g = sum_{i in g} (above_i - R below_i) / sum(below), and its share of the sum below, h_g, the variance of R is
sum_g psi_g^2 / (1 - h_g), and the interval is R +- t_f s with Satterthwaite's degrees of freedom f: the correction CR2
for few clusters (Bell and McCaffrey 2002, "Bias reduction in standard errors for linear regression with multi-stage
samples"; Cameron and Miller 2015, "A practitioner's guide to cluster-robust inference"). With clusters of one size
it is G / (G - 1) sum_g psi_g^2 and f = G - 1. scipy has no interval for clusters; its t quantile is used.

Few draws may be alike by chance: no click in 30 draws has no variance between clusters. Where rows are sums of draws
with unknown probabilities, the variance is at least that of independent draws (`draw_variance`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, ConfigDict

from simenv.records import Record
from simenv.seeding import keyed_rng

_Z = 1.959963984540054
_RESAMPLES = 500
_AT_ONCE = 8192
"""Numbers that are added by one call."""
Floats = npt.NDArray[np.float64]


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


class Ratio(NamedTuple):
    """A ratio of sums, or a difference of two, with what its interval needs."""

    value: float
    """R; nan if the sum below is 0."""
    influence: dict[str, float]
    """Cluster -> psi_g / sqrt(1 - h_g). Clusters with nothing below have none."""
    freedom: float
    """Degrees of freedom; 0 if one cluster has all of the sum below."""

    def interval(self, least_variance: float = 0.0) -> Estimate:
        """Returns the value with its interval; no interval if one cluster has all of the sum below.

        Args:
            least_variance: The variance is at least this.
        """
        from scipy.special import stdtrit  # scipy.stats takes half a second to import, for the same number

        if not math.isfinite(self.value):
            return Estimate()
        if not self.freedom:
            return Estimate(value=self.value)
        variance = max(sum(psi * psi for psi in self.influence.values()), least_variance)
        margin = float(stdtrit(self.freedom, 0.975)) * math.sqrt(variance)
        return Estimate(value=self.value, low=self.value - margin, high=self.value + margin)

    def minus(self, other: Ratio) -> Ratio:
        """Returns the difference. A cluster that both have is one; the smaller degrees of freedom are safe."""
        clusters = dict.fromkeys([*self.influence, *other.influence])
        influence = {c: self.influence.get(c, 0.0) - other.influence.get(c, 0.0) for c in clusters}
        return Ratio(self.value - other.value, influence, min(self.freedom, other.freedom))


def clustered_ratio(pairs: Sequence[tuple[float, float]], clusters: Sequence[str]) -> Estimate:
    """Returns sum of above / sum of below with its clustered interval; nan if the sum of below is 0.

    Args:
        pairs: (above, below) of each row; below is 1 for a mean.
        clusters: The cluster (persona) of each row.
    """
    return ratio(pairs, clusters).interval()


def ratio(pairs: Sequence[tuple[float, float]], clusters: Sequence[str]) -> Ratio:
    """Returns sum of above / sum of below with what its interval needs.

    Args:
        pairs: (above, below) of each row; below is 1 for a mean.
        clusters: The cluster (persona) of each row.
    """
    above, below = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    names, places = np.unique(np.array(clusters, dtype=str), return_inverse=True)
    return streamed_ratio(lambda: [(above, below, places)], len(above), names.tolist())


def streamed_ratio(
    blocks: Callable[[], Iterable[tuple[Floats, Floats, npt.NDArray[np.int64]]]], n: int, names: Sequence[str]
) -> Ratio:
    """Returns the `ratio` of rows that come in blocks, to the last bit the same for any blocks.

    Args:
        blocks: Called for each pass over the rows: above, below and the place of its cluster in `names`, of each row.
        n: Number of rows.
        names: The clusters, in ascending order. Those without rows do not count.
    """
    total = pairwise_sum((below for _, below, _ in blocks()), n)
    all_above = pairwise_sum((above for above, _, _ in blocks()), n)
    if total == 0 or not np.isfinite([total, all_above]).all():
        return Ratio(math.nan, {}, 0.0)
    value = all_above / total
    size: npt.NDArray[Any] = np.zeros(len(names))
    psi: npt.NDArray[Any] = np.zeros(len(names))
    here = np.arange(len(names))
    for above, below, clusters in blocks():
        places = np.concatenate([here, clusters])  # bincount adds in the order of the rows
        size = np.bincount(places, weights=np.concatenate([size, below]))
        psi = np.bincount(places, weights=np.concatenate([psi, (above - value * below) / total]))
    clustered = [name for name, it in zip(names, size, strict=True) if it > 0]
    psi, size = psi[size > 0], size[size > 0]
    if len(clustered) < 2:
        return Ratio(value, {}, 0.0)
    share = size / total
    # The variance estimate is a quadratic form of the clusters' sums, whose variances are as their sizes if rows are
    # independent: (trace M)^2 / trace M^2 with M_gg = size_g and M_gk^2 = u_g u_k / total^2.
    u = size**2 / (1 - share)
    trace_of_square = float((size**2).sum() + (u.sum() ** 2 - (u**2).sum()) / total**2)
    influence = psi / np.sqrt(1 - share)
    return Ratio(value, dict(zip(clustered, influence.tolist(), strict=True)), total**2 / trace_of_square)


def pairwise_sum(blocks: Iterable[Floats], n: int) -> float:
    """Returns the sum of n numbers that come in blocks, to the last bit that of `np.sum` over all of them at once.

    NumPy adds the halves of an array apart, down to 128 numbers; the first half is a multiple of 8.
    """
    stream, waiting = iter(blocks), np.zeros(0)

    def of_next(count: int) -> float:
        nonlocal waiting
        if count > _AT_ONCE:
            half = count // 2 - count // 2 % 8
            first = of_next(half)  # before the second half, which follows it in the stream
            return first + of_next(count - half)
        parts, have = [waiting], len(waiting)
        while have < count:
            parts.append(next(stream))
            have += len(parts[-1])
        joined = np.concatenate(parts)
        waiting = joined[count:]
        return float(joined[:count].sum())

    return of_next(n)


def draw_variance(successes: float, n: int) -> float:
    """Returns the variance of one draw of 0 or 1, above 0 whatever was drawn.

    Two draws of each kind are added to those seen (Agresti and Coull 1998, "Approximate is better than exact for
    interval estimation of binomial proportions").

    Args:
        successes: Number of draws that are 1.
        n: Number of draws.
    """
    probability = (successes + _Z**2 / 2) / (n + _Z**2)
    return probability * (1 - probability)


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
