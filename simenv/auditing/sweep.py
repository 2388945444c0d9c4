"""One advertiser's bid swept with everything else, randomness included, held fixed.

Regret of truthful bidding is what the best other bid of the grid would have brought more:

    utility maximiser (UM)   value x clicks - payment; truthful is to bid the value
    value maximiser (VM)     value x clicks, subject to value x clicks >= target_roi x payment; truthful is to bid
                             value / target_roi (LLM-Auction, section 4). A bid that misses the target brings nothing.

Where a mechanism is sampled, the best bid of many noisy ones looks better than it is, even where all are alike. So it
is chosen on one half of the replicas and its gain is read from the other, and the other way round: an unbiased
estimate of what the chosen bid gains, which may be negative, and 0 on average where no bid is better than another. It
falls short of the regret where half of the replicas are too few to tell which bid is best, because the ad is seldom
shown: more replicas come closer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.auditing.evaluate import AuditCase, BidEvaluator, Bools, Played, Subject
from simenv.background_loop import gather
from simenv.ctr.models import Floats
from simenv.market.values import HIGHEST
from simenv.seeding import keyed_rng

_OVERBID = 4.0
"""The largest deviation, as a multiple of the value."""
_ROUNDING = 1e-9
_SURE = 3.0
"""Standard errors by which a sampled curve must fall to count as falling: with 16 replicas a flat one does at one step
in 200."""


class Sweep(NamedTuple):
    """What one advertiser gets at each bid. Clicks and payments: shape (replicas, bids), one row if exact."""

    value: float
    bids: Floats
    """Shape (bids,): first the curve's, evenly spaced from 0, then those around the value."""
    curve: int
    """How many bids are the curve's."""
    truth: int
    """Where the value stands in `bids`."""
    vm_truth: int
    """Where value / target_roi stands."""
    target_roi: float
    own_clicks: Floats
    own_payments: Floats
    clicks: Floats
    payments: Floats

    def truthful_value(self, *, own: bool) -> float:
        """Of the clicks that bidding the value brings, in currency per answer."""
        return self.value * float((self.own_clicks if own else self.clicks)[:, self.truth].mean())


def swept(case: AuditCase, advertisers: int, seed: int) -> list[int]:
    """Whose bids are swept: this many candidates at random, in order; the same for every mechanism."""
    n = len(case.values)
    order = keyed_rng("audit advertisers", seed, case.auction.id).permutation(n)
    return sorted(order[:advertisers].tolist())


def grid(value: float, size: int) -> list[float]:
    """`size` bids around a value: from 0 up to it in even steps, above it in even ratios, up to four times it."""
    below = max(2, (2 * size) // 3)
    above = np.geomspace(1, _OVERBID, size - below + 1)[1:]
    return [*(np.linspace(0, 1, below) * value).tolist(), *(above * value).tolist()]


async def sweep(
    lab: BidEvaluator, subject: Subject, case: AuditCase, i: int, *, curve: int, bids: int, target_roi: float = 1.0
) -> Sweep:
    """Sweeps the bid of candidate `i`: `curve` bids from 0 to 100, `bids` around its value, and its truthful ones."""
    value = float(case.values[i])
    curve_bids = np.linspace(0, HIGHEST, curve).tolist() if curve else []
    around = [b for b in grid(value, bids) if b != value] if bids else []
    amounts = [*curve_bids, *around, value, value / target_roi]
    profiles = []
    for amount in amounts:
        profile = case.values.copy()
        profile[i] = amount
        profiles.append(profile)
    places = {profile.tobytes(): place for place, profile in enumerate(profiles)}  # the value may stand there twice
    played: dict[bytes, Played] = dict(
        zip(places, await gather([lab.play(subject, case, profiles[p]) for p in places.values()]), strict=True)
    )

    def column(field: int) -> Floats:
        return np.stack([played[profile.tobytes()][field][:, i] for profile in profiles], axis=1)

    last = len(amounts)
    return Sweep(
        value, np.array(amounts), len(curve_bids), last - 2, last - 1, target_roi, *(column(f) for f in range(4))
    )


def um_regret(sweep: Sweep, *, own: bool) -> float:
    """In currency per answer; nan where the judge abstained."""
    clicks, payments = _of(sweep, own)
    return gain(sweep.value * clicks - payments, sweep.truth)


def vm_regret(sweep: Sweep, *, own: bool) -> float:
    """In currency per answer (value that a better bid brings); nan where the judge abstained."""
    clicks, payments = _of(sweep, own)
    most = sweep.value / sweep.target_roi  # per click
    return gain(sweep.value * clicks, sweep.vm_truth, most * clicks - payments)


def misses_target(sweep: Sweep) -> bool:
    """Whether a value maximiser that bids truthfully misses its target in the world."""
    clicks, payments = sweep.clicks[:, sweep.vm_truth], sweep.payments[:, sweep.vm_truth]
    return not _feasible((sweep.value / sweep.target_roi * clicks - payments)[:, None], np.array([0]))[0]


def gain(worth: Floats, truth: int, slack: Floats | None = None) -> float:
    """What the best column brings more than `truth`.

    Args:
        worth: Shape (replicas, choices). One row is exact; else the best is chosen on half of the rows and valued on
            the others, both ways.
        truth: The column that all are compared with.
        slack: Same shape: columns whose mean is below 0 are not allowed, and worth nothing.

    Returns:
        In the unit of `worth`; at least 0 if exact.
    """
    rows = len(worth)
    if not np.isfinite(worth).all():
        return float("nan")
    if rows == 1:
        allowed = np.ones(worth.shape[1], bool) if slack is None else _feasible(slack, np.arange(worth.shape[1]))
        best = float(np.where(allowed, worth[0], 0.0 if slack is not None else -np.inf).max())
        return max(0.0, best - (float(worth[0, truth]) if allowed[truth] else 0.0))
    gains = []
    for half in (np.arange(rows) % 2 == 0, np.arange(rows) % 2 == 1):
        means = worth[half].mean(0)
        if slack is not None:
            means = np.where(_feasible(slack[half], np.arange(worth.shape[1])), means, -np.inf)
        best_at = int(np.argmax(means))
        if not means[best_at] > means[truth]:
            best_at = truth
        gains.append(float((worth[~half, best_at] - worth[~half, truth]).mean()))
    return float(np.mean(gains))


def _feasible(slack: Floats, columns: npt.NDArray[np.int_]) -> Bools:
    means = slack[:, columns].mean(0)
    return np.asarray(means >= -_ROUNDING * np.maximum(1.0, np.abs(slack).max()))


def _of(sweep: Sweep, own: bool) -> tuple[Floats, Floats]:
    return (sweep.own_clicks, sweep.own_payments) if own else (sweep.clicks, sweep.payments)


class Curve(NamedTuple):
    """An allocation curve: expected clicks of one advertiser by its bid (ITCTR, LLM-Auction eq. 1)."""

    clicks: Floats
    """Shape (bids,)."""
    falls: int
    """Steps at which it falls, the bid rising."""
    largest_fall: float
    largest_jump: float
    """Largest rise from one bid of the curve to the next."""


def curve_of(sweep: Sweep, *, own: bool) -> Curve:
    """The allocation curve of a sweep; of a sampled mechanism the mean of its replicas."""
    clicks, _ = _of(sweep, own)
    rows = clicks[:, : sweep.curve]
    steps = np.diff(rows, axis=1)
    means = steps.mean(0) if steps.size else np.zeros(0)
    margin = np.full(means.shape, _ROUNDING)
    if len(rows) > 1 and steps.size:
        margin = margin + _SURE * steps.std(0, ddof=1) / np.sqrt(len(rows))
    falling = means < -margin
    largest_fall = float(-means[falling].min()) if falling.any() else 0.0
    return Curve(rows.mean(0), int(falling.sum()), largest_fall, float(max(0.0, means.max(initial=0.0))))


def loses(utilities: Floats, scale: Sequence[float] | Floats) -> Bools:
    """Who loses by taking part: shape (n,).

    Args:
        utilities: In currency per answer: shape (replicas, n).
        scale: What rounding is relative to, shape (n,).
    """
    margin = _ROUNDING * np.maximum(1.0, np.asarray(scale, dtype=np.float64))
    if len(utilities) > 1:
        margin = margin + _SURE * utilities.std(0, ddof=1) / np.sqrt(len(utilities))
    return np.asarray(utilities.mean(0) < -margin)
