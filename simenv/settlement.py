"""The end of a step: what each advertiser pays, and the platform's reward."""

from __future__ import annotations

from collections.abc import Mapping

from simenv.charges import overcharges
from simenv.objective import Objective
from simenv.records import Auction, Feedback, Outcome, Transition


def settle(
    auction: Auction,
    outcome: Outcome,
    feedback: Feedback,
    values: Mapping[str, float],
    objective: Objective,
    *,
    index: int,
    mechanism: str,
    persona_id: str,
    turn: int,
) -> Transition:
    """Computes payments and rewards. If the judge abstained on a shown ad, the reward is None."""
    prices = {placement.ad_id: placement.price for placement in outcome.placements}
    clicked = {c.ad_id: float(c.clicked) for c in feedback.clicks if c.clicked is not None}
    probs = {c.ad_id: c.click_prob for c in feedback.clicks if c.click_prob is not None}
    all_decided, all_probs = len(clicked) == len(prices), len(probs) == len(prices)
    known = all_decided or all_probs

    def bill(chance: Mapping[str, float]) -> dict[str, float]:
        payments = {ad_id: prices[ad_id] * c for ad_id, c in chance.items()}
        for ad_id, amount in outcome.transfers.items():
            payments[ad_id] = payments.get(ad_id, 0.0) + amount
        return payments

    return Transition(
        index=index,
        mechanism=mechanism,
        persona_id=persona_id,
        turn=turn,
        auction=auction,
        outcome=outcome,
        feedback=feedback,
        values=dict(values),
        payments=bill(clicked),
        expected_payments=bill(probs) if all_probs else None,
        overcharges=overcharges(auction, outcome),
        reward=objective.reward(auction, clicked, outcome.violations) if all_decided else None,
        expected_reward=objective.reward(auction, probs, outcome.violations) if all_probs else None,
        penalty=None if known else objective.penalty(auction, len(prices), outcome.violations),
    )
