"""Verdicts on the claims of a mechanism, each with the power of the audit: what it would have seen.

Truthfulness, measured exactly. The outcomes at the bids of a sweep do not depend on the advertiser's value, so every
pair of bids is a value and a deviation, and no deviation may gain. The power is measured on the same numbers: all
payments are multiplied by 1 - e and by 1 + e, and the power is the smallest e of a ladder at which both are found. In
currency it is the regret of the swept advertisers at this fault, the smaller of the two.

Truthfulness, sampled. The regret is an estimate with a standard error s. The claim fails if the 95% interval is above
0. The power is the regret that this finds with a probability of 80%: (t + 0.84) s, with t the quantile of the interval.

Individual rationality and monotonicity. None of n advertisers may lose, no one of n steps may fall. The power is 3 / n:
if a larger share did, one of n would have been seen with a probability of 95%.

A claim ex post (for every draw) of a mechanism with a lottery is measured in expectation only: a failure breaks the
claim, a pass does not prove it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from simenv.auditing.records import Verdict
from simenv.auditing.sweep import Sweep
from simenv.check.draws import FALSE_ALARM, LotteryTest
from simenv.ctr.models import Floats
from simenv.mechanism import Claim
from simenv.stats import Estimate

LADDER = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Relative errors of payments that are tried to find the power."""
_TOLERANCE = 1e-6
"""Share of the largest bid by which rounding may break an inequality."""
_Z_80 = 0.8416
"""Quantile of the normal distribution at 80%."""
_EX_POST = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.TRUTHFUL_UM})


def gains(sweep: Sweep, claim: Claim, factor: float = 1.0) -> Floats:
    """How much the best deviation gains at each bid of a sweep, taken as the value.

    Args:
        sweep: The sweep.
        claim: TRUTHFUL_VM: extra clicks, for a bidder that may pay its bid per click, and infinite where the bid itself
            costs more. Else utility, in currency, of a bidder with this value per click.
        factor: Factor on all payments.

    Returns:
        Gain beyond rounding, at least 0: shape (replicas, bids).
    """
    bids, clicks, payments = sweep.bids, sweep.own_clicks, factor * sweep.own_payments
    if claim is Claim.TRUTHFUL_VM:
        allowed = payments[:, None, :] <= bids[None, :, None] * clicks[:, None, :] * (1 + 1e-9)  # value, deviation
        most = np.where(allowed, clicks[:, None, :], 0.0).max(2)
        extra = np.where(np.diagonal(allowed, axis1=1, axis2=2), most - clicks, np.inf)
        return np.where(extra > _TOLERANCE, extra, 0.0)
    utility = bids[None, :, None] * clicks[:, None, :] - payments[:, None, :]
    extra = utility.max(2) - np.diagonal(utility, axis1=1, axis2=2)
    return np.where(extra > _TOLERANCE * max(1.0, float(bids.max())), extra, 0.0)


def truthfulness(claim: Claim, sweeps: Sequence[Sweep], regret: Estimate, *, exact: bool) -> Verdict:
    """Verdict on a claim of truthfulness.

    Args:
        claim: One of the claims of truthfulness.
        sweeps: All sweeps of the mechanism.
        regret: The regret of truthful bids in the own model, as a share of the value of their clicks.
        exact: Whether single rows of the sweeps are exact for this claim.
    """
    if not any(sweep.own_clicks.any() for sweep in sweeps):
        return Verdict(verdict="not measured", why="none of the swept advertisers was ever shown")
    if not exact:
        return _by_interval(regret)
    if any(gains(sweep, claim).any() for sweep in sweeps):
        worst = _regret(claim, sweeps, 1.0)
        return Verdict(verdict="failed", measured=worst, why=f"deviations gain {_percent(worst)} of value")
    for error in LADDER:
        factors = (1 - error, 1 + error)
        if all(any(gains(sweep, claim, factor).any() for sweep in sweeps) for factor in factors):
            power = min(_regret(claim, sweeps, factor) for factor in factors)
            why = f"would have seen payments {error:.1%} too low or too high: gains of {_percent(power)} of value"
            return Verdict(verdict="passed", measured=0.0, power=power, why=why)
    why = f"but would not have seen payments {LADDER[-1]:.0%} too low or too high: nobody pays, or too few advertisers"
    return Verdict(verdict="passed", measured=0.0, why=why)


def _regret(claim: Claim, sweeps: Sequence[Sweep], factor: float) -> float:
    """Mean gain at the bids of the sweeps as values, as a share of the value of the clicks at them.

    For value maximisers a bid that breaks its own target loses all its clicks.
    """
    lost = value = 0.0
    for sweep in sweeps:
        found = gains(sweep, claim, factor)
        if claim is Claim.TRUTHFUL_VM:
            found = np.minimum(found, sweep.own_clicks) * sweep.bids
        lost += float(found.mean(0).sum())
        value += float((sweep.own_clicks * sweep.bids).mean(0).sum())
    return lost / value if value else math.nan


def _by_interval(regret: Estimate) -> Verdict:
    if not math.isfinite(regret.margin):
        return Verdict(verdict="not measured", measured=regret.value, why="one persona gives no interval")
    power = regret.margin * (1 + _Z_80 / 1.96)
    if regret.low > 0:
        why = f"the interval of the regret begins at {_percent(regret.low)}"
        return Verdict(verdict="failed", measured=regret.value, power=power, why=why)
    why = f"would have seen a regret of {_percent(power)} in four of five audits"
    return Verdict(verdict="passed", measured=regret.value, power=power, why=why)


def share(violations: tuple[float, float], what: str, by_chance: float = 0.0) -> Verdict:
    """Verdict where each of n observations holds or not.

    Args:
        violations: Number of violations, and n.
        what: What is counted, with what is wrong with one: "advertisers that lose".
        by_chance: Probability that noise makes one a violation. The claim fails if there are so many that noise makes
            as many with a probability below 0.001.
    """
    from scipy.special import bdtrc

    found, n = violations
    if not n > 0:
        return Verdict(verdict="not measured", why=f"no {what.partition(' ')[0]} to observe")
    power = min(1.0, 3 / n + by_chance)
    if found and (not by_chance or float(bdtrc(found - 1, int(n), by_chance)) < 0.001):
        return Verdict(verdict="failed", measured=found / n, power=power, why=f"{found:.0f} of {n:.0f} {what}")
    why = f"{found:.0f} of {n:.0f} {what}; would have seen a share of {_percent(power)}"
    return Verdict(verdict="passed", measured=found / n, power=power, why=why)


def falls(sweeps: Sequence[Sweep]) -> tuple[float, float]:
    """Number of steps of the allocation curves at which clicks fall in some replica, and the number of steps."""
    found = steps = 0
    for sweep in sweeps:
        rises = np.diff(sweep.own_clicks[:, np.argsort(sweep.bids, kind="stable")], axis=1)
        found += int((rises < -_TOLERANCE).any(0).sum())
        steps += rises.shape[1]
    return float(found), float(steps)


def lottery(test: LotteryTest) -> Verdict:
    """Verdict on whether `run` draws from the mechanism's lottery."""
    fault = test.fault()
    if fault is not None:
        return Verdict(verdict="failed", why=fault)
    return Verdict(verdict="passed", why=f"{test.draws} draws follow it (false alarm {FALSE_ALARM:g})")


def in_expectation(claim: Claim, verdict: Verdict) -> Verdict:
    """Adds to a verdict on a claim ex post that it was measured in expectation."""
    if claim not in _EX_POST or verdict.verdict != "passed":
        return verdict
    return verdict.model_copy(update={"why": f"in expectation only; {verdict.why}"})


def _percent(number: float) -> str:
    return f"{100 * number:.3g}%"
