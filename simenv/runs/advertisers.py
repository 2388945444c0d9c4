"""What becomes of each advertiser over a run: the share of them that lose money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from simenv.records import Transition

LOSING = {False: "losing", True: "losing_expected"}
"""Metric of the share of advertisers with a negative surplus: over realised clicks, and over click probabilities."""
UNIT = "share of advertisers"
_ROUNDING = 1e-9


def losing_share(transitions: Iterable[Transition], expected: bool) -> float | None:
    """Returns the share of advertisers whose surplus over the run is below 0.

    An advertiser is an ad; those that were shown or charged count. Its surplus is the sum of (value - price) x click,
    minus transfers, over the ads with a verdict.

    Args:
        transitions: The answers of one mechanism.
        expected: Whether clicks are click probabilities, or realised.

    Returns:
        None if no verdict of that kind is known, or no advertiser was shown or charged.
    """
    surplus: dict[str, float] = defaultdict(float)
    verdicts = unknown = 0
    for transition in transitions:
        prices = {placement.ad_id: placement.price for placement in transition.outcome.placements}
        for ad_id, amount in transition.outcome.transfers.items():
            surplus[ad_id] -= amount
        for click in transition.feedback.clicks:
            known = click.click_prob if expected else click.clicked
            verdicts += known is not None
            unknown += known is None
            gain = transition.values[click.ad_id] - prices[click.ad_id]
            surplus[click.ad_id] += gain * float(known or 0.0)
    if not surplus or (unknown and (expected or not verdicts)):
        return None
    return sum(amount < -_ROUNDING for amount in surplus.values()) / len(surplus)
