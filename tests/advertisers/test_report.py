"""The advertiser's report of logs whose numbers are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from simenv import advertiser_report
from simenv.advertisers.report import AdvertiserReport
from simenv.advertisers.tables import readable, write
from simenv.advertisers.terms import TERMS
from simenv.errors import InputError, UnknownName
from simenv.records import Transition
from tests.support.hand_made import turn
from tests.support.runs import save

KNOWN = [
    turn(0, {"a": (True, 0.5), "b": (False, 0.25)}, persona="p"),
    turn(1, {"b": (False, 0.5)}, persona="p"),
    turn(2, {"a": (False, 0.25)}, persona="q"),
    turn(3, {"c": (True, 1.0)}, persona="r"),
    turn(0, {"c": (True, 1.0)}, persona="p", mechanism="other"),
]


def numbers(report: AdvertiserReport, mechanism: str = "m") -> dict[str, float]:
    lines = [line for line in report.lines if line.by == "total" and line.mechanism == mechanism]
    return {line.metric: line.estimate.value for line in lines}


def test_terms_are_what_they_say(tmp_path: Path) -> None:
    """Ad a: bid 10, price 4, value 11. Shown at 0.5 and 0.25 in two of the four auctions of m, which show 4 ads."""
    report = advertiser_report(save(tmp_path / "run", KNOWN), "a")
    assert report.expected
    assert numbers(report) == {
        "auctions": 4,
        "impressions": 2,
        "impression_share": 0.5,
        "share_of_voice": pytest.approx(2 / 5),
        "position": 1,
        "abstained": 0,
        "clicks": 0.75,
        "clicks_realised": 1,
        "ctr": 0.375,
        "spend": pytest.approx(3.0),
        "cpc": pytest.approx(4.0),
        "cpm": pytest.approx(1500.0),
        "ecpm": pytest.approx(3750.0),
        "value": pytest.approx(8.25),
        "surplus": pytest.approx(5.25),
        "roi": pytest.approx(2.75),
    }
    other = numbers(report, "other")
    assert (other["auctions"], other["impressions"], other["spend"]) == (1, 0, 0)
    assert "ctr" not in other
    assert report.value("m", "cpc").value == pytest.approx(4.0)
    with pytest.raises(UnknownName, match="unknown number of the report 'cpa'"):
        report.value("m", "cpa")


def test_all_ads_together_are_the_sum_of_the_ads(tmp_path: Path) -> None:
    report = advertiser_report(save(tmp_path / "run", KNOWN))
    for metric in ("impressions", "clicks", "spend", "value", "surplus", "share_of_voice"):
        of_each = [report.value("m", metric, ad_id).value for ad_id in ("a", "b", "c")]
        assert report.value("m", metric, "").value == pytest.approx(sum(of_each)), metric
    by_position = [line for line in report.lines if line.by == "position" and line.mechanism == "m"]
    assert {line.of for line in by_position} == {"1", "2"}
    shown = {line.of: line.estimate.value for line in by_position if line.metric == "impressions"}
    assert shown == {"1": 4, "2": 1}
    spenders = dict.fromkeys(line.advertiser for line in report.lines if line.mechanism == "m")
    assert list(spenders) == ["", "c", "b", "a"]  # they pay 6, 3.75 and 3


def test_an_advertiser_has_all_its_ads(tmp_path: Path) -> None:
    rows = [row.model_copy(deep=True) for row in KNOWN]
    bids = [
        tuple(
            bid.model_copy(update={"ad": bid.ad.model_copy(update={"advertiser": "Both"})}) for bid in row.auction.bids
        )
        for row in rows
    ]
    rows = [
        row.model_copy(update={"auction": row.auction.model_copy(update={"bids": (*two[:2], row.auction.bids[2])})})
        for row, two in zip(rows, bids, strict=True)
    ]
    report = advertiser_report(save(tmp_path / "run", rows), "Both", mechanisms=["m"])
    assert report.names == {"a": "Both", "b": "Both"}
    assert numbers(report)["impressions"] == 4
    assert numbers(report)["spend"] == pytest.approx(4 * 0.75 + 5 * 0.75)
    assert {line.mechanism for line in report.lines} == {"m"}


def test_realised_clicks_have_the_variance_of_draws(tmp_path: Path) -> None:
    """No click in four draws is no proof that there is none: Agresti and Coull's two added draws of each kind."""
    rows = [turn(i, {"a": (False, None)}, persona=f"p{i}") for i in range(4)]
    report = advertiser_report(save(tmp_path / "run", rows), "a")
    assert not report.expected
    ctr = report.value("m", "ctr")
    probability = (0 + 1.959963984540054**2 / 2) / (4 + 1.959963984540054**2)
    student = 3.182446305284263  # of 3 degrees of freedom
    assert ctr.value == 0
    assert ctr.high == pytest.approx(student * math.sqrt(probability * (1 - probability) / 4))


def test_abstentions_are_counted_bounded_and_do_not_bias(tmp_path: Path) -> None:
    """The judge knows half of 40 ads at one place: 10 are clicked. The estimate is 20 clicks, the bounds 10 and 30."""
    verdicts: list[bool | None] = [True] * 10 + [False] * 10 + [None] * 20
    rows = [turn(i, {"a": (clicked, None)}, persona=f"p{i % 8}") for i, clicked in enumerate(verdicts)]
    report = advertiser_report(save(tmp_path / "run", rows), "a")
    lines = {line.metric: line for line in report.lines if line.by == "total"}
    assert lines["clicks"].estimate.value == pytest.approx(20)
    assert lines["clicks"].bounds == (pytest.approx(10), pytest.approx(30))
    assert lines["ctr"].bounds == (pytest.approx(0.25), pytest.approx(0.75))
    assert lines["surplus"].bounds == (pytest.approx(10 * 7), pytest.approx(30 * 7))
    assert lines["cpc"].estimate.value == pytest.approx(4)
    assert lines["cpc"].bounds is None
    assert {line.abstained for line in lines.values()} == {20}
    text = readable(report).to_markdown()
    assert "20.00" in text
    assert "[10.00 to 30.00]" in text
    assert "the judge abstained" in text


def test_an_unknown_advertiser_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    run = save(tmp_path / "run", KNOWN)
    with pytest.raises(InputError, match=r"no ad of 'z' was a candidate in the run: 3 ads were, such as a \(a\), b"):
        advertiser_report(run, "z")
    with pytest.raises(UnknownName, match="unknown mechanism of the run 'n': known are m, other"):
        advertiser_report(run, "a", mechanisms=["n"])
    with pytest.raises(InputError, match="counterfactual takes one advertiser"):
        advertiser_report(run, counterfactual=True)


def test_tables_and_files(tmp_path: Path) -> None:
    report = advertiser_report(save(tmp_path / "run", KNOWN), "a")
    write(report, tmp_path / "a.md")
    write(report, tmp_path / "a.csv")
    text = (tmp_path / "a.md").read_text(encoding="utf-8")
    for term in ("CTR", "eCPM", "ROI", "share of voice", "| spend | currency | 3.00 |"):
        assert term in text
    frame = report.table
    assert len(frame) == len(report.lines) == len((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()) - 1
    (spend,) = frame[(frame.mechanism == "m") & (frame.metric == "spend") & (frame.by == "total")].value
    assert spend == pytest.approx(3)
    assert set(frame.metric) <= {term.name for term in TERMS}
    everyone = readable(advertiser_report(tmp_path / "run")).to_markdown()
    assert "m: all ads" in everyone
    assert "m: c c" in everyone


def test_budgets_and_pacing(tmp_path: Path) -> None:
    """Realised payments of a: 4 in the first auction, 0 in the next three, so all of it in the first quarter."""
    run = save(tmp_path / "run", KNOWN)
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["options"] |= {"budget": 4.02, "budget_scope": "run"}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    report = advertiser_report(run, "a")
    first, second = report.budgets
    assert (first.mechanism, first.ad_id, first.purses, first.spent) == ("m", "a", 1, 4)
    assert first.exhausted == 1
    assert first.share == pytest.approx(4 / 4.02)
    assert first.quarters == (1, 0, 0, 0)
    assert second.mechanism == "other"
    assert second.exhausted == 0
    assert all(math.isnan(quarter) for quarter in second.quarters)
    assert "1 of 1" in readable(report).to_markdown()


def test_answers_that_failed_count_nowhere(tmp_path: Path) -> None:
    from simenv.records import Failure, Feedback, Outcome

    empty: dict[str, object] = {"outcome": Outcome(response=""), "feedback": Feedback(), "payments": {}}
    failed = KNOWN[0].model_copy(update={**empty, "index": 4, "error": Failure(kind="LLMUnavailable", text="gone")})
    rows: list[Transition] = [*KNOWN, failed]
    report = advertiser_report(save(tmp_path / "run", rows), "a")
    assert report.failed == 1
    assert numbers(report)["auctions"] == 4
    assert "1 answers failed" in readable(report).to_markdown()
