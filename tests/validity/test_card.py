"""The judge card: one page, what constant judges reach, and the noise floor on a run's answers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from simenv import stats
from simenv.cli.main import main
from simenv.runs.compare import compare
from simenv.runs.noise_floor import CARD
from simenv.testing import FakeEncoder, small_world
from simenv.validity import scenarios
from simenv.validity.card import JudgeCard, judge_card, report_of_card, write_card
from simenv.validity.constant import ConstantJudge, baselines
from simenv.validity.run import ValidityOptions, validate
from simenv.validity.scenarios import build
from tests.support.fakes import ConstantJudge as SameForAll
from tests.support.fakes import RandomJudge
from tests.support.folders import Folder
from tests.support.tiny_scenarios import TWO

COIN = '''
from simenv.records import Click, Feedback
from simenv.seeding import keyed_rng


class Coin:
    """Draws its clicks by the auction's id, and gives no probabilities."""

    name = "coin"

    async def judge(self, persona, auction, outcome):
        draws = {p.ad_id: keyed_rng("coin", auction.id, p.ad_id).random() < 0.5 for p in outcome.placements}
        return Feedback(clicks=tuple(Click(ad_id=i, clicked=bool(clicked)) for i, clicked in draws.items()))
'''


@pytest.fixture
def tiny_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats, "_RESAMPLES", 20)
    monkeypatch.setattr(scenarios, "_embedded", lambda: TWO)


def card_of(judge: Any, **options: Any) -> JudgeCard:
    async def made() -> JudgeCard:
        chosen = ValidityOptions.model_validate({"part": "dev", "limit": 2, "repeats": 2} | options)
        report = await validate(judge, chosen, encoder=FakeEncoder(), world=small_world())
        return await judge_card(judge, report)

    return asyncio.run(made())


@pytest.mark.parametrize(
    ("name", "clicked"), [("always", [True, True]), ("never", [False, False]), ("first", [True, False])]
)
def test_constant_judges_click_by_place_alone(name: str, clicked: list[bool]) -> None:
    case = build(TWO[0], ["native", "second"])
    for outcome in (case.outcome, case.outcome.model_copy(update={"placements": case.outcome.placements[::-1]})):
        feedback = asyncio.run(ConstantJudge(name).judge(case.persona, case.auction, outcome))
        of = {click.ad_id: click.clicked for click in feedback.clicks}
        assert [of[p.ad_id] for p in case.outcome.placements] == clicked
        assert [click.ad_id for click in feedback.clicks] == [p.ad_id for p in outcome.placements]


def test_constant_judges_order_nothing() -> None:
    found = asyncio.run(baselines(TWO))
    assert list(found) == ["always", "never", "first"]
    assert {of.contrasts.value for of in found.values()} == {0.5}
    assert {(of.brier, of.same_verdict, of.rank_correlation) for of in found.values()} == {(None, None, None)}


@pytest.mark.usefixtures("tiny_suite")
def test_a_card_says_what_there_is_and_what_there_is_not(tmp_path: Path) -> None:
    card = card_of(RandomJudge())
    write_card(card, {}, tmp_path / "out")
    write_card(card, {}, tmp_path / "out")  # replaced
    assert JudgeCard.model_validate_json((tmp_path / "out" / CARD).read_text(encoding="utf-8")) == card
    text = (tmp_path / "out" / "judge_card.md").read_text(encoding="utf-8")
    assert "# Judge card of random" in text
    assert "| agreement with labels | none |" in text
    assert "| never clicks | 0.500" in text
    assert "Noise floor" not in text
    silent = report_of_card(card_of(SameForAll(prob=None, clicked=None)), {}).to_markdown()
    assert "| abstention rate | 100.0% |" in silent


@pytest.mark.usefixtures("tiny_suite")
def test_labels_stand_beside_what_constant_judges_reach(tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    rows = [("a", 1), ("b", 0), ("c", 0), ("d", 0)]
    labels.write_text("".join(f'{{"query": "{q}", "ad": "x {q}", "label": {label}}}\n' for q, label in rows))
    card = card_of(SameForAll(0.25), labels=str(labels))
    assert card.labels is not None
    assert (card.labels.base_rate, card.labels.pairs) == (0.25, 4)
    assert {name: of.brier for name, of in card.constants.items()} == {"always": 0.75, "never": 0.25, "first": 0.75}
    assert "| agreement with labels | AUC 0.500" in report_of_card(card, {}).to_markdown()


@pytest.mark.weights
@pytest.mark.usefixtures("tiny_suite")
def test_a_runs_card_gives_compare_its_noise_floor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coin.py").write_text(COIN, encoding="utf-8")
    folder = Folder(tmp_path)
    for name, mechanisms in (("one", ("gsp", "organic")), ("other", ("fixed_slots",))):
        folder.run(name, mechanisms, judge="coin.py:Coin", n=6)
        with pytest.raises(SystemExit) as stopped:
            main(["validate-judge", "--run", name, "--part", "dev", "--limit", "4", "--repeats", "1"])
        out, err = capsys.readouterr()
        assert (stopped.value.code, "Noise floor" in out) == (0, True), err
    card = JudgeCard.model_validate_json((tmp_path / "one" / CARD).read_text(encoding="utf-8"))
    assert card.run == "one"
    assert card.noise_floor is not None
    assert (card.noise_floor.expected, card.noise_floor.auctions) == (False, 4)
    assert card.constants["never"].same_verdict is not None
    found = compare(["one", "other"])
    (cell,) = [c for c in found.summary.cells if (c.mechanism, c.metric) == ("fixed_slots", "revenue")]
    assert cell.floor is not None
    assert cell.floor > 0
    assert "judge cards of one, other" in str(found.summary.ties)


@pytest.mark.weights
@pytest.mark.usefixtures("tiny_suite")
def test_another_judge_judges_the_answers_twice_and_its_card_is_not_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "coin.py").write_text(COIN, encoding="utf-8")
    Folder(tmp_path).run("one", ("gsp",), n=4)
    arguments = ["--judge", "coin.py:Coin", "--part", "dev", "--limit", "1", "--repeats", "1", "--out", "out"]
    with pytest.raises(SystemExit) as stopped:
        main(["validate-judge", "--run", "one", *arguments])
    assert stopped.value.code == 0, capsys.readouterr().err
    card = json.loads((tmp_path / "out" / CARD).read_text(encoding="utf-8"))
    assert (card["judge"], card["run"]) == ("coin", "one")
    assert not (tmp_path / "one" / CARD).exists()
