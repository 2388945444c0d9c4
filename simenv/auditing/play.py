"""Strategic bidding against a mechanism: learned play, budgets, and collusion of two advertisers.

Advertisers learn from the world's clicks. Learned play repeats one auction. Every advertiser has a mixed strategy over
shares of its value and learns by multiplicative weights (Freund and Schapire 1999, "Adaptive game playing using
multiplicative weights"): in turn, each advertiser observes the gain of every share against the others' current bids.
Results are means over the second half of the rounds.

With budgets, an advertiser may spend per auction half of its truthful payment, and paces its bids: it divides the
chosen bid by 1 + mu, and mu follows the spending in excess of the target (Balseiro and Gur 2019).
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from simenv.auditing.evaluate import AuditCase, AuditedMechanism, BidEvaluator, BidOutcome
from simenv.auditing.sweep import gain
from simenv.background_loop import gather
from simenv.ctr.models import Floats
from simenv.seeding import keyed_rng

SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the value that an advertiser may bid."""
_RATE = 3.0
"""Learning rate, for gains that are divided by the value of the clicks at the best share."""
_PACE = 0.1
"""Step size of mu."""
BUDGET = 0.5
"""Share of the truthful payment that a budget allows per auction."""
_SHADES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the value that colluding advertisers may bid."""


class Reached(NamedTuple):
    """Result of play, per answer, in currency."""

    revenue: float
    welfare: float
    bid_share: float
    """Mean bid divided by value, over the advertisers with a positive value."""
    spent: float
    """Payments of the advertisers with a budget, divided by their budgets; nan without budgets."""
    strategy: tuple[float, ...]
    """Mean probability of each of SHARES, over the advertisers that are shown at one share at least."""


TRUTHFUL = tuple(float(share == 1) for share in SHARES)
"""The strategy that bids the value."""


def totals(case: AuditCase, played: BidOutcome) -> tuple[float, float]:
    """Returns revenue and welfare in the world, per answer; nan where the judge abstained."""
    return float(played.payments.sum(1).mean()), float((played.clicks @ case.values).mean())


async def learned(
    lab: BidEvaluator,
    subject: AuditedMechanism,
    case: AuditCase,
    truth: BidOutcome,
    *,
    rounds: int,
    seed: int,
    budgets: bool,
) -> Reached:
    """Plays one auction until every advertiser has made `rounds` updates.

    Args:
        truth: The outcome of truthful bids.
        rounds: Number of updates of each advertiser.
        seed: Seed of the draws.
        budgets: Whether all advertisers have a budget.
    """
    n, values = len(case.values), case.values
    rng = keyed_rng("audit play", seed, case.auction.id)
    shares = np.array(SHARES)
    target = BUDGET * truth.payments.mean(0) if budgets else np.zeros(n)
    log_weights, mu = np.zeros((n, len(shares))), np.zeros(n)
    known: dict[tuple[bytes, int], BidOutcome] = {}

    async def play(bids: Floats, replica: int) -> BidOutcome:
        key = bids.tobytes(), replica
        if key not in known:
            known[key] = await lab.play(subject, case, bids, [replica])
        return known[key]

    measured: list[tuple[float, ...]] = []
    for step in range(rounds):
        for turn, i in enumerate(rng.permutation(n)):
            replica = (step * n + turn) % max(1, subject.replicas)
            weights = np.exp(log_weights - log_weights.max(1, keepdims=True))
            weights /= weights.sum(1, keepdims=True)
            arms = np.array([rng.choice(len(shares), p=row) for row in weights])
            bids = shares[arms] * values / (1 + mu)
            profiles = [_with(bids, int(i), share * values[i] / (1 + mu[i])) for share in shares]
            tried = await gather([play(profile, replica) for profile in profiles])
            now: BidOutcome = tried[arms[i]]
            clicks = np.array([other.clicks[0, i] for other in tried])
            paid = np.array([other.payments[0, i] for other in tried])
            if np.isfinite(clicks).all() and clicks.max() > 0:
                log_weights[i] += _RATE * (values[i] * clicks - paid) / (values[i] * clicks.max())
            bound = target > 0
            mu[bound] = np.maximum(0, mu[bound] + _PACE * (now.payments[0, bound] - target[bound]) / target[bound])
            if step >= rounds // 2:
                spent = now.payments[0, bound].sum() / target[bound].sum() if bound.any() else np.nan
                share = float((bids / values)[values > 0].mean()) if (values > 0).any() else np.nan
                matters = log_weights.any(1)
                strategy = (weights[matters] if matters.any() else weights).mean(0).tolist()
                measured.append((*totals(case, now), share, float(spent), *strategy))
    revenue, welfare, bid_share, spent, *strategy = np.array(measured).mean(0).tolist()
    return Reached(revenue, welfare, bid_share, spent, tuple(strategy))


class Colluded(NamedTuple):
    """Joint gain of two advertisers over truthful bids, and the value of their truthful clicks; currency per answer."""

    own_gain: float
    own_value: float
    gain: float
    value: float


async def collusion(lab: BidEvaluator, subject: AuditedMechanism, case: AuditCase) -> Colluded | None:
    """Computes the joint gain of the two advertisers with the largest predicted value if they shade jointly.

    Returns:
        The gain in the mechanism's own model and in the world; None with fewer than two candidates.
    """
    if len(case.values) < 2:
        return None
    q = subject.ctr_model.relevance(case.auction)
    predicted = case.values * [bid.units(float(q[k])) for k, bid in enumerate(case.auction.bids)]
    i, j = np.argsort(-predicted, kind="stable")[:2].tolist()
    pairs = list(product(_SHADES, _SHADES))
    profiles = [_with(_with(case.values, i, a * case.values[i]), j, b * case.values[j]) for a, b in pairs]
    played: list[BidOutcome] = await gather([lab.play(subject, case, profile) for profile in profiles])
    both, truth = [i, j], len(pairs) - 1

    def joint(clicks: list[Floats], payments: list[Floats]) -> tuple[float, float]:
        values = [c[:, both] @ case.values[both] for c in clicks]
        utility = np.stack([v - p[:, both].sum(1) for v, p in zip(values, payments, strict=True)], axis=1)
        return gain(utility, truth), float(values[truth].mean())

    own = joint([p.own_clicks for p in played], [p.own_payments for p in played])
    world = joint([p.clicks for p in played], [p.payments for p in played])
    return Colluded(*own, *world)


def _with(bids: Floats, i: int, amount: float) -> Floats:
    changed = bids.copy()
    changed[i] = amount
    return changed
