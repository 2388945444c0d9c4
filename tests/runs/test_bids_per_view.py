"""Money of bids per view, by hand: each place that takes a bid for a bid per click counts views for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from simenv import advertiser_report
from simenv.advertisers.effects import Pair, changes
from simenv.datasets.export import click_rows
from simenv.env.environment import transcript
from simenv.integrations.turns import turn_facts
from simenv.integrations.views import utility
from simenv.records import Transition
from simenv.report.answer import pack
from simenv.report.bids import allocation
from simenv.runs.advertisers import Surpluses
from simenv.runs.metric_types import SumsClicks
from simenv.runs.metrics import METRICS
from tests.support.hand_made import turn
from tests.support.runs import save

# a: bid 10, price 4, value 11, per click; b: bid 20, price 5, value 22, per view.
ONE = turn(0, {"a": (True, 0.5), "b": (False, 0.25)}, per_view={"b"})
NO_VERDICT = turn(1, {"b": (None, None)}, per_view={"b"})


def measured(t: Transition, expected: bool = True) -> dict[str, float | None]:
    ratios = {metric.name: metric.measure(t, expected) for metric in METRICS}
    return {name: None if ratio is None else ratio[0] for name, ratio in ratios.items()}


def test_a_view_is_paid_whatever_is_clicked() -> None:
    assert ONE.outcome.transfers == {"b": 5.0}
    assert ONE.payments == {"a": 4.0, "b": 5.0}
    assert ONE.expected_payments == {"a": 2.0, "b": 5.0}
    assert ONE.overcharges == ()
    assert (ONE.reward, ONE.expected_reward) == (10 + 20, 5 + 20)


def test_metrics_count_views() -> None:
    found = measured(ONE)
    assert found["revenue"] == 2 + 5
    assert found["bid_weighted_clicks"] == found["reward"] == 5 + 20
    assert found["welfare"] == 5.5 + 22
    assert found["surplus"] == (5.5 - 2) + (22 - 5)
    assert found["ctr"] == 0.75
    assert found["transfers"] == 5
    happened = measured(ONE, expected=False)
    assert (happened["welfare"], happened["surplus"]) == (11 + 22, 11 - 4 + 22 - 5)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if isinstance(metric, SumsClicks)])
def test_parts_add_up_to_the_measure(metric: SumsClicks) -> None:
    parts = metric.parts(ONE)
    if parts is not None:
        clicks = {"a": 0.5, "b": 0.25}
        total = parts.fixed + sum(parts.weights[ad_id] * click for ad_id, click in clicks.items())
        assert (pytest.approx(total), parts.below) == metric.measure(ONE, True)  # type: ignore[attr-defined]


def test_a_view_is_worth_the_same_without_a_verdict() -> None:
    parts = {metric.name: metric.parts(NO_VERDICT) for metric in METRICS if isinstance(metric, SumsClicks)}
    assert {name: parts[name].fixed for name in ("revenue", "welfare", "surplus", "reward")} == {  # type: ignore[union-attr]
        "revenue": 5,
        "welfare": 22,
        "surplus": 17,
        "reward": 20,
    }
    assert utility(NO_VERDICT, "b", expected=False) == 17


def test_an_advertiser_that_pays_more_for_a_view_than_it_is_worth_loses() -> None:
    costly = ONE.model_copy(update={"values": {**ONE.values, "b": 4.0}})
    for t, losing in ((ONE, 0.0), (costly, 0.5)):
        sums = Surpluses(expected=True)
        sums.add(t)
        assert sums.losing() == losing


def test_the_report_of_an_advertiser_that_bids_per_view(tmp_path: Path) -> None:
    """b is shown twice: it pays 5 and has a value of 22 each time, and 0.5 clicks in all."""
    run = save(tmp_path / "run", [ONE, turn(2, {"b": (True, 0.25)}, persona="q", per_view={"b"})])
    report = advertiser_report(run, "b")
    assert {
        name: report.value("m", name).value
        for name in ("impressions", "clicks", "spend", "cpm", "ecpm", "cpc", "value", "surplus", "roi")
    } == {
        "impressions": 2,
        "clicks": 0.5,
        "spend": 10,
        "cpm": 5000,
        "ecpm": 20_000,
        "cpc": 20,
        "value": 44,
        "surplus": 34,
        "roi": pytest.approx(4.4),
    }
    everybody = advertiser_report(run)
    assert everybody.value("m", "value", "").value == pytest.approx(44 + 5.5)
    assert everybody.value("m", "spend", "").value == pytest.approx(10 + 2)


def test_what_an_advertiser_changes_counts_its_views() -> None:
    without = turn(0, {"a": (True, 0.5)}, per_view={"b"})
    found = {change.effect.name: change.estimate.value for change in changes([Pair(ONE, without)], ["b"])}
    assert (found["own_spend"], found["welfare"], found["others_value"]) == (5, 22, 0)


def test_exports_and_transcripts_name_the_unit() -> None:
    rows = {row["ad_id"]: row for row in click_rows([ONE], candidates=True)}
    assert {ad_id: (row["bid_unit"], row["price"], row["transfer"]) for ad_id, row in rows.items()} == {
        "a": ("click", 4.0, 0.0),
        "b": ("view", 0.0, 5.0),
        "c": ("click", None, 0.0),
    }
    assert "[b] bid 20 per view, price 5.00 per view: not clicked" in transcript(ONE)
    shown = turn_facts(ONE)["shown"]
    assert isinstance(shown, list)
    assert [ad.get("unit") for ad in shown if isinstance(ad, dict)] == [None, "view"]


def test_the_page_shows_bid_and_price_per_view_and_bins_bids_per_click() -> None:
    row = pack(ONE, {})
    assert [len(candidate) for candidate in row.bids] == [4, 5, 4]
    assert row.bids[1][1:] == (20.0, 22.0, 0.0, "view")
    assert [ad[:2] for ad in row.fields["ads"]] == [[0, 4.0], [1, 5.0]]
    assert sum(found.candidates for found in allocation([ONE], True)["m"]) == 2


def test_utility_of_an_agent() -> None:
    assert utility(ONE, "b", expected=True) == utility(ONE, "b", expected=False) == 17
    assert utility(ONE, "a", expected=True) == pytest.approx(0.5 * (11 - 4))
    assert utility(ONE, "c", expected=True) == 0
