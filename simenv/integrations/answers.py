"""A session for an agent that writes the answers itself, as text: shared by OpenEnv and TRL.

The agent gets the prompt of `simenv.datasets.training_data.ad_prompt`: the query, the user's public profile and the
candidates with their bids. It writes the answer, with its ads as `@Title@[id]`.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from simenv.markup import outcome
from simenv.records import Auction, Outcome, Transition


def answered(auction: Auction, response: str, prices: Mapping[str, float] | None = None) -> Outcome:
    """The outcome of an answer that an agent wrote.

    Args:
        auction: The auction.
        response: The answer, with ads as `ad.link`.
        prices: Ad id -> currency per click, or per view of a bid per view. None: each ad pays its bid. A link to an ad
            without a price, such as one whose bid is below the reserve, is a violation.

    Raises:
        OutcomeError: a price of a shown ad is negative or not finite.
    """
    if prices is None:
        prices = {bid.ad.id: bid.amount for bid in auction.bids if auction.admits(bid)}
    return outcome(auction, response, prices)


def expected_reward(transition: Transition) -> float | None:
    """The platform's objective, currency: over click probabilities where the judge gives them, else what happened.

    None: unknown, because the judge abstained.
    """
    return transition.reward if transition.expected_reward is None else transition.expected_reward


def told(transition: Transition) -> dict[str, JsonValue]:
    """What happened in a turn, as JSON, without anything private to the user or to an advertiser."""
    return {
        "index": transition.index,
        "clicks": {click.ad_id: click.clicked for click in transition.feedback.clicks},
        "payments": dict(transition.payments),
        "reward": transition.reward,
        "violations": [{"kind": it.kind, "text": it.text} for it in transition.outcome.violations],
        "overcharges": [{"kind": it.kind, "ad": it.ad_id, "excess": it.excess} for it in transition.overcharges],
        "satisfaction": transition.feedback.satisfaction,
    }
