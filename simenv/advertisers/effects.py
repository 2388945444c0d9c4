"""What an advertiser changes: numbers of the same auctions with its ads and without them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from simenv.records import Transition
from simenv.runs.metrics import clicks_of

Measure = Callable[[Transition, Transition, Collection[str], bool], tuple[float, float] | None]
"""(with, without, ids of the advertiser's ads, whether clicks are click probabilities) -> numerator and denominator, or
None where they are unknown."""


class Effect(NamedTuple):
    """One number of what an advertiser changes: the auctions with its ads minus the same auctions without them."""

    name: str
    unit: str
    total: bool
    """Whether it is a total over the run, or a mean."""
    meaning: str
    measure: Measure


def _change(of: Callable[[Counted], float]) -> Measure:
    def measure(one: Transition, other: Transition, ads: Collection[str], expected: bool) -> tuple[float, float] | None:
        before, after = counted(one, ads, expected), counted(other, ads, expected)
        return None if before is None or after is None else (of(before) - of(after), 1.0)

    return measure


class Counted(NamedTuple):
    """Clicks and money of one answer: of the advertiser's ads, and of the others."""

    clicks: tuple[float, float]
    spend: tuple[float, float]
    value: tuple[float, float]


def counted(t: Transition, ads: Collection[str], expected: bool) -> Counted | None:
    """Clicks and money of one answer, or None where a click is unknown."""
    clicks, payments = clicks_of(t, expected), t.expected_payments if expected else t.payments
    if clicks is None or payments is None:
        return None
    value = {ad_id: click * t.values[ad_id] for ad_id, click in clicks.items()}
    return Counted(*(_apart(numbers, ads) for numbers in (clicks, payments, value)))


def _apart(numbers: Mapping[str, float], ads: Collection[str]) -> tuple[float, float]:
    return sum(x for i, x in numbers.items() if i in ads), sum(x for i, x in numbers.items() if i not in ads)


def _incremental(
    one: Transition, other: Transition, ads: Collection[str], expected: bool
) -> tuple[float, float] | None:
    before, after = counted(one, ads, expected), counted(other, ads, expected)
    return None if before is None or after is None else (sum(before.clicks) - sum(after.clicks), before.clicks[0])


def _satisfaction(
    one: Transition, other: Transition, ads: Collection[str], expected: bool
) -> tuple[float, float] | None:
    shown = any(placement.ad_id in ads for placement in one.outcome.placements)
    before, after = one.feedback.satisfaction, other.feedback.satisfaction
    return None if not shown or before is None or after is None else (before - after, 1.0)


EFFECTS: tuple[Effect, ...] = (
    Effect("own_clicks", "clicks", True, "clicks on the advertiser's ads", _change(lambda c: c.clicks[0])),
    Effect("others_clicks", "clicks", True, "change in clicks on all other ads", _change(lambda c: c.clicks[1])),
    Effect(
        "all_clicks",
        "clicks",
        True,
        "incremental clicks: change in clicks on all ads",
        _change(lambda c: sum(c.clicks)),
    ),
    Effect(
        "incremental_share",
        "share",
        False,
        "incremental clicks / own clicks: 1 = no other ad loses a click, 0 = all its clicks are taken from others",
        _incremental,
    ),
    Effect("own_spend", "currency", True, "what the advertiser pays", _change(lambda c: c.spend[0])),
    Effect("others_spend", "currency", True, "change in what all others pay", _change(lambda c: c.spend[1])),
    Effect("revenue", "currency", True, "incremental revenue: change in what all pay", _change(lambda c: sum(c.spend))),
    Effect(
        "others_value",
        "currency",
        True,
        "change in the others' value: minus the externality, which the advertiser would pay under VCG",
        _change(lambda c: c.value[1]),
    ),
    Effect("welfare", "currency", True, "change in the value of all clicks", _change(lambda c: sum(c.value))),
    Effect(
        "satisfaction_change",
        "per answer",
        False,
        "change in the users' satisfaction, per answer that showed the advertiser",
        _satisfaction,
    ),
)
"""In the order of the report."""
