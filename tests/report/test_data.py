"""Trade-offs, differences, allocation by bid and clicks by group: numbers by hand, and equal to those of the table."""

from __future__ import annotations

import math

import pytest

from simenv.records import Persona, Traits, Transition
from simenv.report.bids import allocation
from simenv.report.data import differences, estimates, frontier, frontiers
from simenv.report.groups import ClickGroups
from simenv.runs.summary import Cell, Table, summarize
from simenv.stats import Estimate, clustered_ratio
from tests.support.hand_made import turn


def cell(mechanism: str, metric: str, value: float, difference: float | None = None) -> Cell:
    other = None if difference is None else Estimate(value=difference, low=difference - 1, high=difference + 1)
    return Cell(mechanism, metric, "unit", Estimate(value=value, low=value - 0.1, high=value + 0.2), other, 8, 4)


TABLE = Table(
    [
        *(cell(name, "revenue", value) for name, value in (("a", 5.0), ("b", 4.0), ("c", 3.0), ("d", math.nan))),
        *(cell(name, "quality_loss", value) for name, value in (("a", 0.5), ("b", 0.1), ("c", 0.2), ("d", 0.0))),
        *(cell(name, "ads", value, -1.0) for name, value in (("a", 2.0), ("b", 1.0), ("c", 0.5))),
    ],
    baseline="c",
    expected=True,
    unpaired=frozenset({"b"}),
)


def test_the_frontier_has_what_no_other_mechanism_beats_in_both() -> None:
    found = frontier(TABLE, "quality_loss")
    assert found is not None
    assert [(p.mechanism, p.best) for p in found.points] == [("a", True), ("b", True), ("c", False)]
    assert found.x_label == "1 - quality loss (unit)"
    assert found.points[1].x.numbers == pytest.approx((0.9, 0.7, 1.0))
    assert found.points[1].y == estimates(TABLE, "revenue")["b"]


def test_of_a_cost_less_is_better() -> None:
    """With fewer tokens and more revenue, a mechanism beats another one."""
    cells = [cell._replace(metric="tokens") if cell.metric == "quality_loss" else cell for cell in TABLE.cells]
    found = frontier(TABLE._replace(cells=cells), "tokens")
    same = frontier(TABLE, "quality_loss")
    assert found is not None
    assert same is not None
    assert [p.best for p in found.points] == [p.best for p in same.points]
    assert found.x_label == "tokens (unit)"


def test_the_number_of_ads_ranks_nobody() -> None:
    found = frontier(TABLE, "ads")
    assert found is not None
    assert not any(point.best for point in found.points)


def test_trade_offs_are_those_that_the_table_has() -> None:
    assert [it.x for it in frontiers(TABLE)] == ["quality_loss", "ads"]
    assert frontier(TABLE, "welfare") is None


def test_differences_are_those_of_the_table() -> None:
    found = differences(TABLE, "ads")
    assert [(d.mechanism, d.estimate.value, d.paired) for d in found] == [
        ("a", -1.0, True),
        ("b", -1.0, False),
        ("c", -1.0, True),
    ]
    assert differences(TABLE, "revenue") == []


# Bids are 10, 20 and 30 for ads a, b and c; prices 4, 5 and 6.
ANSWERS = [
    turn(0, {"a": (True, 0.5), "b": (False, 0.1)}, persona="p"),
    turn(1, {"b": (False, 0.3)}, persona="q"),
    turn(2, {"b": (None, None), "c": (True, 0.2)}, persona="q"),
]


def test_allocation_and_payment_by_bid() -> None:
    bins = allocation(ANSWERS, expected=True)["m"]
    assert [(b.low, b.high, b.bid, b.candidates) for b in bins] == [
        (0.0, 20.0, 10.0, 3),
        (20.0, 30.0, 20.0, 3),
        (30.0, math.inf, 30.0, 3),
    ]
    assert [b.shown.value for b in bins] == pytest.approx([1 / 3, 1.0, 1 / 3])
    assert bins[0].shown == clustered_ratio([(1, 1), (0, 2)], ["p", "q"])
    # The verdict on b in the third answer is not known: two candidates of b count.
    assert [b.clicks.value for b in bins] == pytest.approx([0.5 / 3, 0.4 / 2, 0.2 / 3])
    assert [b.payment.value for b in bins] == pytest.approx([2.0 / 3, 2.0 / 2, 1.2 / 3])
    assert [b.price.value for b in bins] == pytest.approx([4.0, 5.0, 6.0])


def test_few_realised_clicks_have_an_interval() -> None:
    never = [turn(i, {"a": (False, None)}, persona=f"p{i}") for i in range(4)]
    clicks = allocation(never, expected=False)["m"][0].clicks
    assert clicks.value == 0
    assert clicks.high > 0.1


def test_allocation_over_many_answers_is_that_of_a_few() -> None:
    """Bins are set after the first 4,096 bids: what comes before and after counts alike."""
    few = allocation(ANSWERS[:2], expected=True)["m"]
    many = allocation(ANSWERS[:2] * 1000, expected=True)["m"]
    assert [b.shown.value for b in many] == pytest.approx([b.shown.value for b in few])
    assert [b.candidates for b in many] == [2000] * 3


def test_failed_answers_and_no_answers() -> None:
    failed = ANSWERS[0].model_copy(update={"error": {"kind": "X", "text": "y"}})
    assert allocation([failed], expected=True) == {}
    assert ClickGroups(expected=True).rates() == {}


def rates(
    answers: list[Transition], by: str, expected: bool = True, **personas: Persona
) -> dict[str, tuple[float, ...]]:
    groups = ClickGroups(expected, personas)
    for t in answers:
        groups.add(t)
    return {rate.group: (rate.ctr.value, rate.ads, rate.abstained) for rate in groups.rates().get(by, [])}


def test_clicks_by_position_and_category() -> None:
    found = rates(ANSWERS, "position")
    assert found == {"1": (pytest.approx(0.8 / 2), 2, 1), "2": (pytest.approx(0.3 / 2), 2, 0)}
    assert rates(ANSWERS, "category", expected=False) == {"general": (0.5, 4, 1)}


def test_the_rates_of_all_positions_are_the_click_through_rate_of_the_table() -> None:
    whole = ANSWERS[:2]
    groups = ClickGroups(expected=True)
    for t in whole:
        groups.add(t)
    (rate,) = groups.rates()["category"]
    assert rate.ctr == estimates(summarize(whole), "ctr")["m"]


def test_clicks_by_groups_of_personas() -> None:
    old = Persona(id="p", info="x", age=61, income="low", region="asia", traits=Traits(ad_tolerance=0.2))
    young = Persona(id="q", info="x", age=29, income="high", region="", traits=Traits(ad_tolerance=0.5))
    assert list(rates(ANSWERS, "age", p=old, q=young)) == ["under 30", "60 and over"]
    assert list(rates(ANSWERS, "income", p=old, q=young)) == ["low", "high"]
    assert list(rates(ANSWERS, "tolerance of ads", p=old, q=young)) == ["low, below 1/3", "middle"]
    assert list(rates(ANSWERS, "region", p=old, q=young)) == ["asia"]
    assert rates(ANSWERS, "region") == {}
