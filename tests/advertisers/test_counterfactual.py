"""The same auctions without an advertiser are those of a catalog that lacks it."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path

import pytest

import simenv
from simenv.advertisers.effects import EFFECTS, Pair, changes
from simenv.advertisers.report import AdvertiserReport
from simenv.advertisers.tables import readable
from simenv.errors import InputError
from simenv.records import Transition
from simenv.runs.log import read_transitions
from simenv.testing import ADS, PERSONAS, small_world
from tests.support.hand_made import turn
from tests.support.runs import save, transitions

LEFT_OUT = "ad-1"
OTHERS = [ad for ad in ADS if ad.id != LEFT_OUT]


def test_a_world_without_an_ad_is_that_of_the_catalog_without_it() -> None:
    with_all = transitions(small_world(candidates=4), "gsp", "first_price")
    without = transitions(small_world(candidates=4).without([LEFT_OUT]), "gsp", "first_price")
    assert without == transitions(small_world(candidates=4, catalog=OTHERS), "gsp", "first_price")
    changed = [one != other for one, other in zip(with_all, without, strict=True)]
    affected = [LEFT_OUT in {bid.ad.id for bid in row.auction.bids} for row in with_all]
    assert changed == affected
    assert any(affected)
    assert not all(affected)
    assert all(len(row.auction.bids) == 4 for row in without)


def written(folder: Path) -> list[str]:
    for name, records in (("ads", ADS), ("others", OTHERS), ("personas", PERSONAS)):
        lines = "".join(f"{record.model_dump_json()}\n" for record in records)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return [str(folder / f"{name}.jsonl") for name in ("ads", "others", "personas")]


@pytest.fixture(scope="module", params=[{}, {"budget": 60.0}, {"turns": "linked"}], ids=["", "budget", "linked"])
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Transition], AdvertiserReport]:
    """A run, the same run of the catalog without the ad, and the ad's report. With a budget, the bidders learn; where
    turns are linked, chunks cut sessions."""
    folder = tmp_path_factory.mktemp("runs")
    ads, others, personas = written(folder)
    options = {"llm": "scripted", "n": 6, "horizon": 3, "candidates": 4, "chunk": 2, **request.param}
    run, less = folder / "run", folder / "less"
    for catalog, out in ((ads, run), (others, less)):
        simenv.bench(["gsp", "vcg"], catalog=catalog, personas=personas, out=out, **options)
    report = simenv.advertiser_report(run, LEFT_OUT, counterfactual=True)
    return run, list(read_transitions(less)), report


@pytest.mark.weights
def test_what_changes_is_the_difference_of_the_two_runs(
    runs: tuple[Path, list[Transition], AdvertiserReport],
) -> None:
    run, less, report = runs
    assert {line.metric for line in report.lines if line.by == "without"} <= {effect.name for effect in EFFECTS}
    for mechanism in ("gsp", "vcg"):
        change: Counter[str] = Counter()
        for rows, sign in ((read_transitions(run), 1), (less, -1)):
            for row in rows:
                if row.mechanism == mechanism:
                    change["all_clicks"] += sign * sum(click.click_prob or 0.0 for click in row.feedback.clicks)
                    change["revenue"] += sign * sum((row.expected_payments or {}).values())
                    change["own_spend"] += sign * (row.expected_payments or {}).get(LEFT_OUT, 0.0)
        for metric, total in change.items():
            assert report.value(mechanism, metric).value == pytest.approx(total), metric
        whole = [report.value(mechanism, name).value for name in ("own_clicks", "others_clicks", "all_clicks")]
        assert whole[0] + whole[1] == pytest.approx(whole[2])
        assert report.value(mechanism, "own_clicks").value == pytest.approx(report.value(mechanism, "clicks").value)
    assert report.notes == ()
    assert "What the advertiser changes" in readable(report).to_markdown()


def test_few_realised_clicks_are_no_certainty() -> None:
    """Nobody clicks in four pairs: the interval is that of independent draws, one for each ad of each answer."""
    pairs = [
        Pair(turn(i, {"a": (False, None)}, persona=f"p{i}"), turn(i, {"b": (False, None)}, persona=f"p{i}"))
        for i in range(4)
    ]
    of = {change.effect.name: change.estimate for change in changes(pairs, ["a"])}
    z = 1.959963984540054
    probability = (z**2 / 2) / (8 + z**2)  # of 8 draws
    student = 3.182446305284263  # of 3 degrees of freedom
    draw = math.sqrt(probability * (1 - probability))
    assert of["own_clicks"].numbers == (0, pytest.approx(-2 * student * draw), pytest.approx(2 * student * draw))
    assert of["others_spend"].high == pytest.approx(2 * student * draw * 5)  # b pays 5 per click
    assert of["all_clicks"].high == pytest.approx(2 * student * draw * math.sqrt(2))
    assert math.isnan(of["incremental_share"].value)
    assert "satisfaction_change" not in of


def test_an_answer_that_does_not_change_changes_no_number() -> None:
    one = turn(0, {"b": (True, None)})
    assert all(change.estimate.value == 0 or change.effect.below for change in changes([Pair(one, one)] * 3, ["a"]))


def test_answers_from_elsewhere_are_not_written_again(tmp_path: Path) -> None:
    run = save(tmp_path / "run", [turn(0, {"a": (True, 0.5)})])
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    del manifest["options"]["mechanisms"]
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert simenv.advertiser_report(run, "a").value("m", "clicks").value == 0.5
    with pytest.raises(InputError, match="names no mechanisms, so its answers were written elsewhere"):
        simenv.advertiser_report(run, "a", counterfactual=True)


@pytest.mark.weights
def test_a_run_on_other_data_is_not_answered_again(tmp_path: Path) -> None:
    ads, others, personas = written(tmp_path)
    options = {"llm": "scripted", "n": 2, "horizon": 2}
    simenv.bench(["gsp"], catalog=ads, personas=personas, out=tmp_path / "run", **options)
    Path(ads).write_bytes(Path(others).read_bytes())
    with pytest.raises(InputError, match=r"cannot answer its auctions again: .* was run on other data: catalog was"):
        simenv.advertiser_report(tmp_path / "run", LEFT_OUT, counterfactual=True)
