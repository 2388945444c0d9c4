"""The platform's objective: R(y) = sum_i b_i click_i(y) - weight * s_resp(y)   (LLM-Auction, eq. 5).

s_resp is a plug-in (`Penalty`). The paper's exact s_resp (its eq. 8) could not be recovered; ours is linear and every
number is a parameter:

    s_resp = per_extra_ad * max(0, ads shown - auction.max_ads) + sum over violations of per_violation[kind]

Three sums of money are kept apart throughout simenv:

    revenue              payments collected: price x click + transfers
    bid_weighted_clicks  sum_i b_i click_i; the paper's Table 2 calls it revenue, which holds only under first price
    welfare              sum_i v_i click_i

For an ad that bids per view, click_i is 1 in the last two and in R wherever it is shown.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from simenv import registry
from simenv.errors import InputError
from simenv.records import Auction, MarkupViolation, ViolationKind
from simenv.registry import Kind

_VIOLATION_WEIGHTS: dict[ViolationKind, float] = {
    "unknown_ad": 100.0,
    "changed_title": 100.0,
    "broken_markup": 100.0,
    "repeated_ad": 50.0,
    "unpriced_ad": 100.0,
    "leaked_process": 100.0,
}


class Penalty(Protocol):
    """What an answer costs the platform beside its clicks: s_resp of LLM-Auction, eq. 5."""

    name: str

    def penalty(self, auction: Auction, ads_shown: int, violations: Iterable[MarkupViolation]) -> float:
        """In currency, for bids on the paper's scale of 1..100. The same arguments must give the same penalty."""
        ...


class LinearPenalty:
    """A fixed amount for each extra ad and for each violation.

    Args:
        per_extra_ad: For each ad beyond `auction.max_ads`, in currency. The default is the mean bid, so that an extra
            ad does not pay on average.
        per_violation: For each violation, by kind, in currency. 100 is the largest bid: a malformed insertion can never
            pay for itself. A repeated ad is an extra ad and costs as much. Kinds that are not named cost nothing.

    Raises:
        InputError: an amount below 0.
    """

    name = "linear"

    def __init__(self, per_extra_ad: float = 50.0, per_violation: Mapping[ViolationKind, float] | None = None) -> None:
        self.per_extra_ad = per_extra_ad
        self.per_violation = dict(_VIOLATION_WEIGHTS if per_violation is None else per_violation)
        if not all(amount >= 0 for amount in (per_extra_ad, *self.per_violation.values())):
            raise InputError(f"penalties must be at least 0, got {per_extra_ad} and {self.per_violation}")

    def penalty(self, auction: Auction, ads_shown: int, violations: Iterable[MarkupViolation] = ()) -> float:
        extra = max(0, ads_shown - auction.max_ads)
        return self.per_extra_ad * extra + sum(self.per_violation.get(v.kind, 0.0) for v in violations)


@dataclass(frozen=True)
class Objective:
    """The platform's reward.

    Raises:
        InputError: a weight below 0.
    """

    weight: float = 1.0
    """Of the penalty: the paper's lambda = 1."""
    rule: Penalty = field(default_factory=LinearPenalty)
    """s_resp."""

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise InputError(f"the weight of the penalty must be at least 0 and finite, got {self.weight}")

    def penalty(self, auction: Auction, ads_shown: int, violations: Iterable[MarkupViolation] = ()) -> float:
        """weight * s_resp, in currency."""
        return self.weight * self.rule.penalty(auction, ads_shown, violations)

    def reward(
        self, auction: Auction, click_probs: Mapping[str, float], violations: Iterable[MarkupViolation] = ()
    ) -> float:
        """R of an answer. `click_probs`: ad id -> click (0 or 1) or click probability, of the shown ads."""
        bids = {bid.ad.id: bid for bid in auction.bids}
        gain = sum(bids[ad_id].amount * bids[ad_id].units(prob) for ad_id, prob in click_probs.items())
        return gain - self.penalty(auction, len(click_probs), violations)

    def facts(self) -> dict[str, Any]:
        """What names this objective in a manifest."""
        facts: dict[str, Any] = {"penalty_weight": self.weight, "penalty": self.rule.name}
        if isinstance(self.rule, LinearPenalty):
            facts |= {"per_extra_ad": self.rule.per_extra_ad, "per_violation": self.rule.per_violation}
        return facts


PENALTY: Kind[Penalty] = Kind(
    "penalty", "simenv.penalties", ("penalty",), "computes the cost of extra ads and violations to the platform"
)


def make_penalty(name: str = "linear", **options: Any) -> Penalty:
    """Builds a penalty by name: "linear", package.module:Class or file.py:Class.

    Raises:
        UnknownName: no such penalty.
        InputError: it cannot be loaded, or an option is wrong.
    """
    return registry.make(PENALTY, name, **options)
