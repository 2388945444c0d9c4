"""Sweeps one advertiser's bid, with all other bids and all randomness fixed.

The regret of truthful bidding is the gain of the best bid of the grid over the truthful bid, in the objective of the
advertiser:

    utility maximiser (UM)   value x clicks - payment; the truthful bid is the value
    value maximiser (VM)     value x clicks, subject to value x clicks >= target_roi x payment; the truthful bid is
                             value / target_roi (LLM-Auction, section 4). A bid that misses the target has objective 0.

If a mechanism is sampled, the maximum over noisy estimates is biased upwards, even if all bids are equally good. So the
best bid is chosen on one half of the replicas and its gain is estimated on the other half, and vice versa. This is an
unbiased estimate of the gain of the chosen bid. It can be negative, and it is 0 on average if all bids are equally
good. It underestimates the regret if half of the replicas are too few to identify the best bid, for instance because
the ad is rarely shown; more replicas reduce this error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.auditing.evaluate import AuditCase, AuditedMechanism, BidEvaluator, BidOutcome, Bools
from simenv.background_loop import gather
from simenv.ctr.models import Floats
from simenv.market.values import HIGHEST
from simenv.seeding import keyed_rng

_OVERBID = 4.0
"""The largest deviation, as a multiple of the value."""
_ROUNDING = 1e-9
_STANDARD_ERRORS = 3.0
"""A step of a sampled curve counts as a fall if it falls by more standard errors than this. With 16 replicas, one step
in 200 of a flat curve does."""


class Sweep(NamedTuple):
    """Clicks and payments of one advertiser at each bid: shape (replicas, bids), one row if exact."""

    value: float
    bids: Floats
    """Shape (bids,): first the bids of the curve, evenly spaced from 0, then the bids around the value."""
    curve: int
    """Number of bids of the curve."""
    truth: int
    """Index of the value in `bids`."""
    vm_truth: int
    """Index of value / target_roi in `bids`."""
    target_roi: float
    own_clicks: Floats
    own_payments: Floats
    clicks: Floats
    payments: Floats

    def truthful_value(self, *, own: bool) -> float:
        """Returns the value of the clicks at the truthful bid, currency per answer."""
        return self.value * float((self.own_clicks if own else self.clicks)[:, self.truth].mean())


def sampled_advertisers(case: AuditCase, advertisers: int, seed: int) -> list[int]:
    """Draws the candidates whose bids are swept: their sorted indices, the same for every mechanism."""
    n = len(case.values)
    order = keyed_rng("audit advertisers", seed, case.auction.id).permutation(n)
    return sorted(order[:advertisers].tolist())


def grid(value: float, size: int) -> list[float]:
    """Returns `size` bids: from 0 to the value in equal steps, then up to four times the value in equal ratios."""
    below = max(2, (2 * size) // 3)
    above = np.geomspace(1, _OVERBID, size - below + 1)[1:]
    return [*(np.linspace(0, 1, below) * value).tolist(), *(above * value).tolist()]


async def sweep(
    evaluator: BidEvaluator,
    subject: AuditedMechanism,
    case: AuditCase,
    i: int,
    *,
    curve: int,
    bids: int,
    target_roi: float = 1.0,
) -> Sweep:
    """Sweeps the bid of candidate `i`.

    Args:
        evaluator: Evaluates profiles of bids.
        subject: The mechanism.
        case: The auction.
        i: Index of the candidate.
        curve: Number of bids of the allocation curve, from 0 to 100.
        bids: Number of bids around the candidate's value.
        target_roi: Target of the value maximiser. The truthful bids of both kinds of advertiser are always included.
    """
    value = float(case.values[i])
    curve_bids = np.linspace(0, HIGHEST, curve).tolist() if curve else []
    around = [b for b in grid(value, bids) if b != value] if bids else []
    amounts = [*curve_bids, *around, value, value / target_roi]
    profiles = []
    for amount in amounts:
        profile = case.values.copy()
        profile[i] = amount
        profiles.append(profile)
    places = {profile.tobytes(): place for place, profile in enumerate(profiles)}  # evaluate equal profiles once
    outcomes: dict[bytes, BidOutcome] = dict(
        zip(places, await gather([evaluator.play(subject, case, profiles[p]) for p in places.values()]), strict=True)
    )

    def column(field: int) -> Floats:
        return np.stack([outcomes[profile.tobytes()][field][:, i] for profile in profiles], axis=1)

    last = len(amounts)
    return Sweep(
        value, np.array(amounts), len(curve_bids), last - 2, last - 1, target_roi, *(column(f) for f in range(4))
    )


def um_regret(sweep: Sweep, *, own: bool) -> float:
    """Regret of a truthful utility maximiser, currency per answer; nan where the judge abstained."""
    clicks, payments = _of(sweep, own)
    return gain(sweep.value * clicks - payments, sweep.truth)


def vm_regret(sweep: Sweep, *, own: bool) -> float:
    """Regret of a truthful value maximiser: value in currency per answer; nan where the judge abstained."""
    clicks, payments = _of(sweep, own)
    most = sweep.value / sweep.target_roi  # per click
    return gain(sweep.value * clicks, sweep.vm_truth, most * clicks - payments)


def misses_target(sweep: Sweep) -> bool:
    """Returns whether a value maximiser that bids truthfully misses its target in the world."""
    clicks, payments = sweep.clicks[:, sweep.vm_truth], sweep.payments[:, sweep.vm_truth]
    return not _feasible((sweep.value / sweep.target_roi * clicks - payments)[:, None], np.array([0]))[0]


def gain(objective: Floats, truth: int, slack: Floats | None = None) -> float:
    """Returns the gain of the best column over the column `truth`.

    Args:
        objective: Shape (replicas, choices). With one row the gain is exact. With several rows the best column is
            chosen on half of the rows and its gain estimated on the other half, and vice versa.
        truth: Index of the column that the best one is compared with.
        slack: Same shape. Columns with mean slack below 0 are infeasible: the best column is never one of them, and
            with one row their objective counts as 0.

    Returns:
        The gain in the unit of `objective`, at least 0 if exact; nan if an objective is not finite.
    """
    rows = len(objective)
    if not np.isfinite(objective).all():
        return float("nan")
    if rows == 1:
        columns = np.arange(objective.shape[1])
        allowed = np.ones(len(columns), bool) if slack is None else _feasible(slack, columns)
        best = float(np.where(allowed, objective[0], 0.0 if slack is not None else -np.inf).max())
        return max(0.0, best - (float(objective[0, truth]) if allowed[truth] else 0.0))
    gains = []
    for half in (np.arange(rows) % 2 == 0, np.arange(rows) % 2 == 1):
        means = objective[half].mean(0)
        if slack is not None:
            means = np.where(_feasible(slack[half], np.arange(objective.shape[1])), means, -np.inf)
        best_at = int(np.argmax(means))
        if not means[best_at] > means[truth]:
            best_at = truth
        gains.append(float((objective[~half, best_at] - objective[~half, truth]).mean()))
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
    """Number of steps at which clicks fall although the bid rises."""
    largest_fall: float
    largest_jump: float
    """Largest increase from one bid of the curve to the next."""


def curve_of(sweep: Sweep, *, own: bool) -> Curve:
    """Returns the allocation curve of a sweep; for a sampled mechanism the mean over its replicas."""
    clicks, _ = _of(sweep, own)
    rows = clicks[:, : sweep.curve]
    steps = np.diff(rows, axis=1)
    means = steps.mean(0) if steps.size else np.zeros(0)
    margin = np.full(means.shape, _ROUNDING)
    if len(rows) > 1 and steps.size:
        margin = margin + _STANDARD_ERRORS * steps.std(0, ddof=1) / np.sqrt(len(rows))
    falling = means < -margin
    largest_fall = float(-means[falling].min()) if falling.any() else 0.0
    return Curve(rows.mean(0), int(falling.sum()), largest_fall, float(max(0.0, means.max(initial=0.0))))


def loses(utilities: Floats, scale: Sequence[float] | Floats) -> Bools:
    """Returns which advertisers have a negative expected utility, beyond sampling error: shape (n,).

    Args:
        utilities: Currency per answer: shape (replicas, n).
        scale: Scale of the rounding tolerance, shape (n,).
    """
    margin = _ROUNDING * np.maximum(1.0, np.asarray(scale, dtype=np.float64))
    if len(utilities) > 1:
        margin = margin + _STANDARD_ERRORS * utilities.std(0, ddof=1) / np.sqrt(len(utilities))
    return np.asarray(utilities.mean(0) < -margin)
