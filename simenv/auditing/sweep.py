"""Sweeps one advertiser's bid, with all other bids and all randomness fixed.

The regret of truthful bidding is the gain of the best bid that was tried over the truthful bid, in the objective of the
advertiser:

    utility maximiser (UM)   value x clicks - payment; the truthful bid is the value
    value maximiser (VM)     value x clicks, subject to value x clicks >= target_roi x payment; the truthful bid is
                             value / target_roi (LLM-Auction, section 4). A bid that misses the target has objective 0.

If a mechanism is measured exactly, the grid of bids is refined around the best one, and where most can be hidden.

If a mechanism is sampled, the maximum over noisy estimates is biased upwards, even if all bids are equally good. So the
best bid is chosen on one half of the replicas and its gain is estimated on the other half, and vice versa. This is an
unbiased estimate of the gain of the chosen bid. It can be negative, and it is 0 on average if all bids are equally
good. It underestimates the regret if half of the replicas are too few to identify the best bid, for instance because
the ad is rarely shown; more replicas reduce this error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.auditing.evaluate import AuditCase, AuditedMechanism, BidEvaluator, BidOutcome, Bools
from simenv.background_loop import gather
from simenv.check.expected import Expected, widest
from simenv.ctr.models import Floats
from simenv.market.values import HIGHEST
from simenv.records import Unit
from simenv.seeding import keyed_rng

_HALVINGS = (2, 5)
"""How often the distances of the best bid to its neighbours are halved, and the gap in which most can be hidden."""
_OVERBID = 4.0
"""The largest deviation, as a multiple of the value."""
_ROUNDING = 1e-9
_STANDARD_ERRORS = 3.0
"""A step of a sampled curve counts as a fall if it falls by more standard errors than this."""
FALL_BY_NOISE = 0.005
"""Probability that a step of a flat curve does, with 16 replicas."""


class Sweep(NamedTuple):
    """Clicks and payments of one advertiser at each bid: shape (replicas, bids), one row if exact."""

    value: float
    bids: Floats
    """Shape (bids,): the bids of the curve, evenly spaced from 0, then those around the value, if exact refined."""
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
    unit: Unit = "click"
    """What the advertiser bids for; clicks are views if it bids per view."""

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
        curve: Number of bids of the allocation curve, from 0 to 100 per click; per view to as much as 100 per click is
            worth to the advertiser.
        bids: Number of bids around the candidate's value.
        target_roi: Target of the value maximiser. The truthful bids of both kinds of advertiser are always included.
    """
    value = float(case.values[i])
    curve_bids = (np.linspace(0, HIGHEST, curve) * case.clicks_per_unit[i]).tolist() if curve else []
    around = [b for b in grid(value, bids) if b != value] if bids else []
    truths = [value, value / target_roi]
    outcomes: dict[float, BidOutcome] = {}

    async def try_bids(amounts: Sequence[float]) -> None:
        new = [amount for amount in dict.fromkeys(amounts) if amount not in outcomes]
        profiles = [np.where(np.arange(len(case.values)) == i, amount, case.values) for amount in new]
        outcomes.update(zip(new, await gather([evaluator.play(subject, case, p) for p in profiles]), strict=True))

    await try_bids([*curve_bids, *around, *truths])
    grid_bids = set(outcomes)
    if not subject.replicas and bids:
        await _refine(value, i, outcomes, try_bids)
    refined = sorted(outcomes.keys() - grid_bids)
    amounts = [*curve_bids, *around, *refined, *truths]

    def column(field: int) -> Floats:
        return np.stack([outcomes[amount][field][:, i] for amount in amounts], axis=1)

    last = len(amounts)
    return Sweep(
        value,
        np.array(amounts),
        len(curve_bids),
        last - 2,
        last - 1,
        target_roi,
        *(column(0), column(1), column(2), column(3)),
        case.auction.bids[i].unit,
    )


async def _refine(
    value: float,
    i: int,
    outcomes: Mapping[float, BidOutcome],
    try_bids: Callable[[Sequence[float]], Awaitable[None]],
) -> None:
    """Tries more bids where a grid may miss a gain, by the mechanism's own model.

    First around the best bid of the value: halves the distances to its neighbours. Then where most can be hidden for
    other values (`simenv.check.expected.widest`): halves that gap.
    """

    def responses() -> dict[float, Expected]:
        clicks_and_payments = {bid: (o.own_clicks[0, i], o.own_payments[0, i]) for bid, o in outcomes.items()}
        return {bid: Expected(float(c), float(p)) for bid, (c, p) in clicks_and_payments.items()}

    for _ in range(_HALVINGS[0]):
        known = responses()
        bids = sorted(known)
        best = max(range(len(bids)), key=lambda k: (known[bids[k]].utility(value), bids[k] == value))
        await try_bids([(bids[best] + bids[k]) / 2 for k in (best - 1, best + 1) if 0 <= k < len(bids)])
    _, low, high = widest(responses())
    for _ in range(_HALVINGS[1] if low < high else 0):
        middle = (low + high) / 2
        await try_bids([middle])
        known = responses()
        _, low, high = max(widest(known, (low, middle)), widest(known, (middle, high)))
        if low == high:
            break


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
