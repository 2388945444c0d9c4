"""The platform's objective: R(y) = sum_i b_i click_i(y) - weight * s_resp(y)   (LLM-Auction, eq. 5).

The paper's exact s_resp (its eq. 8) could not be recovered; ours is linear and every number is a field:

    s_resp = per_extra_ad * max(0, ads shown - auction.max_ads) + sum over violations of per_violation[kind]

Three sums of money are kept apart throughout simenv:
    revenue              payments collected: price x click + transfers
    bid_weighted_clicks  sum_i b_i click_i; the paper's Table 2 calls it revenue, which holds only under first price
    welfare              sum_i v_i click_i
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pydantic import Field

from simenv.records import Auction, MarkupViolation, Record, ViolationKind

_VIOLATION_WEIGHTS: dict[ViolationKind, float] = {
    "unknown_ad": 100.0,
    "changed_title": 100.0,
    "broken_markup": 100.0,
    "repeated_ad": 50.0,
    "leaked_process": 100.0,
}


class Objective(Record):
    """Weights of the penalty, in currency, for bids on the paper's scale of 1..100."""

    penalty_weight: float = Field(default=1.0, ge=0)
    """The paper's lambda = 1."""
    per_extra_ad: float = Field(default=50.0, ge=0)
    """For each ad beyond `auction.max_ads`: the mean bid, so that one more ad does not pay on average."""
    per_violation: dict[ViolationKind, float] = Field(default_factory=lambda: dict(_VIOLATION_WEIGHTS))
    """For each violation, by kind. 100 = the largest bid: a malformed insertion can never pay for itself. A repeated
    ad is an extra ad, and costs as much."""

    def penalty(self, auction: Auction, ads_shown: int, violations: Iterable[MarkupViolation] = ()) -> float:
        """weight * s_resp, in currency."""
        extra = max(0, ads_shown - auction.max_ads)
        return self.penalty_weight * (
            self.per_extra_ad * extra + sum(self.per_violation.get(f.kind, 0.0) for f in violations)
        )

    def reward(
        self, auction: Auction, click_probs: Mapping[str, float], violations: Iterable[MarkupViolation] = ()
    ) -> float:
        """R of an answer. `click_probs`: ad id -> click (0 or 1) or click probability, of the shown ads."""
        amounts = {bid.ad.id: bid.amount for bid in auction.bids}
        gain = sum(amounts[ad_id] * prob for ad_id, prob in click_probs.items())
        return gain - self.penalty(auction, len(click_probs), violations)
