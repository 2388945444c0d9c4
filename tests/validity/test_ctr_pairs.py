"""Pairs of answers for CTR models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from simenv.cli.main import main
from simenv.ctr.models import CosineCTR, Floats
from simenv.records import Auction
from simenv.testing import FakeEncoder
from simenv.validity.ctr_pairs import FALLS, STAYS, CTRValidity, measure_ctr, pairs
from simenv.validity.ctr_report import blocks_of
from simenv.validity.scenarios import load_scenarios

ENCODER = FakeEncoder()
SCENARIOS = load_scenarios("dev", 4)


class ReadsTheText:
    """A CTR model that falls with the marks of a bad ad, and knows the scenarios' irrelevant ads."""

    name = "reads"
    position_discount = 0.8

    def relevance(self, auction: Auction) -> Floats:
        return np.full(len(auction.bids), 0.5)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        irrelevant = {s.other.advertiser for s in SCENARIOS}
        calm = 0.5 - 0.1 * ("!!!" in response) - 0.01 * response.count("!") - 0.05 * (len(shown) - 1)
        spliced = any(s.sentences.spliced.split("{link}")[0].lower()[:20] in response.lower() for s in SCENARIOS)
        return {i: calm - 0.1 * spliced - 0.2 * (auction.bid_of(i).ad.advertiser in irrelevant) for i in shown}


def measured(model: CosineCTR | ReadsTheText) -> CTRValidity:
    return measure_ctr(model, SCENARIOS, "dev", ENCODER)


def test_a_model_that_reads_the_text_falls_with_it() -> None:
    report = measured(ReadsTheText())
    for kind in ("relevance", "spliced", "shouted", "degraded", "flooding"):
        found = report.falls[kind]
        assert (found.pairs, found.right, found.ties) == (4, 4, 0), kind
    assert report.in_order == 4
    assert report.falls["interest"].ties == 4
    assert report.renamed_same == 4
    assert all(report.stays[name].largest == 0 for name in ("ad_id", "bids", "brand"))
    assert report.falls["all"].pairs == 4 * len(FALLS)


def test_ties_of_a_model_that_does_not_read_are_counted_by_themselves() -> None:
    report = measured(CosineCTR())
    assert report.falls["spliced"].ties == 4
    assert report.falls["spliced"].share.value == 0.5
    assert report.in_order == 0
    falls, stays = blocks_of(report)
    cells = {row[0]: row[1:] for row in falls.rows}
    assert cells[FALLS["spliced"]][:4] == ("0", "0", "4", "-")
    assert falls.note.startswith("4 scenarios of the part dev")
    assert len(stays.rows) == len(STAYS)
    assert stays.note.endswith(f"in {report.renamed_same} of 4 scenarios.")


def test_the_second_answer_is_the_worse_one() -> None:
    found = pairs(SCENARIOS[0])
    assert {pair.kind for pair in found} == set(FALLS)
    shouted = next(pair for pair in found if pair.kind == "shouted")
    assert shouted.second.outcome.response.endswith("!!!")
    assert shouted.second.ad_id in shouted.second.outcome.response
    assert not shouted.second.outcome.violations


def test_the_command_prints_and_writes_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simenv.encoder.default_encoder", lambda: ENCODER)
    out = tmp_path / "pairs.json"
    with pytest.raises(SystemExit) as ended:
        main(["validate-ctr", "cosine,cosine", "--part", "dev", "--limit", "2", "--out", str(out)])
    assert ended.value.code == 0
    assert "Pairs in the right order by cosine" in capsys.readouterr().out
    reports = [CTRValidity.model_validate(report) for report in json.loads(out.read_text())]
    assert [report.scenarios for report in reports] == [2, 2]
    with pytest.raises(SystemExit) as ended:
        main(["validate-ctr", "oracle", "--part", "dev"])
    assert ended.value.code == 2
    assert "needs a world" in capsys.readouterr().err
