"""What becomes of each advertiser over a run: the share of them that lose money."""

from __future__ import annotations

from simenv.records import Transition

LOSING = {False: "losing", True: "losing_expected"}
"""Metric of the share of advertisers with a negative surplus: over realised clicks, and over click probabilities."""
UNIT = "share of advertisers"
_ROUNDING = 1e-9


class Surpluses:
    """The surplus of each advertiser over the answers of one mechanism, and the share of advertisers that lose.

    An advertiser is an ad; those that were shown or charged count. Its surplus is the sum of (value - price) x click,
    minus transfers, over the ads with a verdict. A value per view counts for every ad that is shown.

    Args:
        expected: Whether clicks are click probabilities, or realised.
    """

    def __init__(self, expected: bool) -> None:
        self._expected = expected
        self._of: dict[str, float] = {}
        self._verdicts = self._unknown = 0

    def add(self, transition: Transition) -> None:
        """Adds one answer."""
        of = self._of
        prices = {placement.ad_id: placement.price for placement in transition.outcome.placements}
        per_view = {bid.ad.id for bid in transition.auction.bids if bid.unit == "view"}
        for ad_id, amount in transition.outcome.transfers.items():
            of[ad_id] = of.get(ad_id, 0.0) - amount
        for click in transition.feedback.clicks:
            known = click.click_prob if self._expected else click.clicked
            if known is None:
                self._unknown += 1
            else:
                self._verdicts += 1
            value, price, chance = transition.values[click.ad_id], prices[click.ad_id], float(known or 0.0)
            gain = value - price * chance if click.ad_id in per_view else (value - price) * chance
            of[click.ad_id] = of.get(click.ad_id, 0.0) + gain

    def add_all(self, other: Surpluses) -> None:
        """Adds other answers of the same mechanism."""
        for ad_id, amount in other._of.items():
            self._of[ad_id] = self._of.get(ad_id, 0.0) + amount
        self._verdicts += other._verdicts
        self._unknown += other._unknown

    def losing(self) -> float | None:
        """The share of advertisers whose surplus is below 0.

        Returns:
            None if no verdict of that kind is known, or no advertiser was shown or charged.
        """
        if not self._of or (self._unknown and (self._expected or not self._verdicts)):
            return None
        return sum(amount < -_ROUNDING for amount in self._of.values()) / len(self._of)
