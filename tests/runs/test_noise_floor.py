"""How far numbers move when the same judge judges the same answers again, and what `compare` makes of it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from simenv.background_loop import run_sync
from simenv.errors import DataFileError, InputError, UnreadableReply
from simenv.records import Auction, Click, Feedback, Outcome, Persona, Transition
from simenv.runs.compare import compare
from simenv.runs.folder import RunFolder
from simenv.runs.judged_again import JudgedRun
from simenv.runs.noise_floor import CARD, NoiseFloor, noise_floor
from simenv.runs.rollout import Finished
from simenv.runs.summary import Cell, summarize
from simenv.runs.tables import caption, to_csv, to_markdown
from simenv.runs.ties import Source, mark_ties
from simenv.seeding import keyed_rng
from simenv.testing import small_world
from tests.support.hand_made import PRICES, turn
from tests.support.runs import transitions


def coins(key: str, n: int = 100, mechanisms: str = "mb") -> list[Transition]:
    """Answers with one ad, "a" by m and "b" by b, that is clicked by a coin."""
    ads = {"m": "a", "b": "b"}
    rng = keyed_rng("noise", key)
    return [turn(i, {ads[m]: (bool(rng.random() < 0.5), None)}, f"p{i % 10}", m) for i in range(n) for m in mechanisms]


def test_a_judge_that_only_reads_the_answer_has_no_noise() -> None:
    """The clicks are drawn with other keys, the probabilities are the same."""
    first = transitions(small_world(), "gsp", "fixed_slots")
    clicks = [
        t.feedback.model_copy(
            update={"clicks": tuple(c.model_copy(update={"clicked": not c.clicked}) for c in t.feedback.clicks)}
        )
        for t in first
    ]
    again = [t.model_copy(update={"feedback": feedback}) for t, feedback in zip(first, clicks, strict=True)]
    floor = noise_floor(first, again)
    assert floor.expected
    assert (floor.change, floor.same_verdict) == (0, 0)
    assert {move for of in floor.moves.values() for others in of.values() for move in others.values()} == {0}
    assert set(floor.moves) == {"revenue", "bid_weighted_clicks", "reward", "welfare", "surplus", "ctr", "conversions"}


def test_a_floor_by_hand() -> None:
    first = [turn(i, {"a": (clicked, None)}) for i, clicked in enumerate((True, True, False, False))]
    again = [turn(i, {"a": (clicked, None)}) for i, clicked in enumerate((True, False, False, False))]
    floor = noise_floor(first, again)
    assert floor.floor("revenue", "m", "m", 4) == pytest.approx(1.959964 * math.sqrt(PRICES["a"] ** 2 / 4) / 2)
    assert floor.floor("ctr", "m", "m", 16) == pytest.approx(1.959964 * math.sqrt(1 / 4) / 4)
    assert (floor.ads, floor.auctions, floor.same_verdict, floor.change) == (4, 4, 0.75, 0.25)
    assert floor.floor("ctr", "m", "other", 4) is None
    assert floor.floor("ads", "m", "m", 4) is None


def test_95_of_100_repetitions_move_a_difference_less_than_the_floor() -> None:
    """Of 2,000: a standard deviation of 10, so 1,900 +- 60 with that of the floor (false alarm below 1e-4; keyed)."""
    floor = noise_floor(coins("x"), coins("y")).floor("revenue", "b", "m", 100)
    assert floor is not None
    rng = keyed_rng("noise", "repetitions")
    clicks = rng.binomial(100, 0.5, size=(2, 2, 2000))  # first and again; a and b
    paid = PRICES["a"] * clicks[:, 0] / 100 - PRICES["b"] * clicks[:, 1] / 100
    assert abs(int((np.abs(paid[1] - paid[0]) <= floor).sum()) - 1900) < 60


def test_answers_that_are_alike_move_together() -> None:
    def rows(clicked: tuple[bool, bool]) -> list[Transition]:
        return [turn(i, {"a": (it, None)}, f"p{i}", m) for i, it in enumerate(clicked) for m in ("m", "b")]

    floor = noise_floor(rows((True, True)), rows((True, False)))
    assert floor.floor("ctr", "m", "b", 2) == 0
    assert floor.floor("ctr", "m", "m", 2) == pytest.approx(1.959964 * math.sqrt(1 / 2) / math.sqrt(2))


# ties


def cell(cells: list[Cell], metric: str, mechanism: str = "m") -> Cell:
    (found,) = [c for c in cells if (c.mechanism, c.metric) == (mechanism, metric)]
    return found


def _source(folder: Path, mechanism: str, judge: str = "llm:x", run: str = "run") -> Source:
    return Source(run, folder, {"world": {"judge": judge, "judge_sha256": None}}, mechanism)


def _write(folder: Path, floor: NoiseFloor | None, judge: str = "llm:x") -> None:
    folder.mkdir(exist_ok=True)
    card = {"judge": judge, "judge_sha256": None, "noise_floor": None if floor is None else floor.model_dump()}
    (folder / CARD).write_text(json.dumps({**card, "more": 1}), encoding="utf-8")


def test_a_difference_inside_the_noise_floor_is_a_tie(tmp_path: Path) -> None:
    rows = [turn(i, {"a": (True, None)}, f"p{i}", "m") for i in range(200)]
    rows += [turn(i, {"b": (i % 10 > 0, None)}, f"p{i}", "b") for i in range(200)]
    table = summarize(rows, baseline="b")
    clear = cell(table.cells, "ctr")
    assert clear.difference is not None
    assert clear.difference.low > 0
    flipped = [
        turn(
            t.index,
            {p.ad_id: (t.index % 2 == (t.mechanism == "b"), None) for p in t.outcome.placements},
            "p",
            t.mechanism,
        )
        for t in rows
    ]
    _write(tmp_path / "run", noise_floor(rows, flipped))
    sources = {name: _source(tmp_path / "run", name) for name in ("m", "b")}
    marked = mark_ties(table, sources)
    tied = cell(marked.cells, "ctr")
    assert tied.tied == "noise floor"
    assert cell(marked.cells, "ads").tied == "interval"
    assert cell(marked.cells, "ads").floor is None
    assert tied.floor is not None
    assert "Noise floors are from the judge cards of run." in caption(marked)
    assert " =" in to_markdown(marked).split("Difference against b")[1]
    assert "noise_floor,tied" in to_csv(marked)
    assert "tied" not in to_csv(table) + to_markdown(table)


def test_a_floor_of_two_runs_is_that_of_both(tmp_path: Path) -> None:
    table = summarize(coins("x"), baseline="b")
    floor = noise_floor(coins("x"), coins("y"))
    for run in ("one", "other"):
        _write(tmp_path / run, floor)
    apart = {"m": _source(tmp_path / "one", "m", run="one"), "b": _source(tmp_path / "other", "b", run="other")}
    of_each = [floor.floor("revenue", name, name, 100) or 0 for name in "mb"]
    assert cell(mark_ties(table, apart).cells, "revenue").floor == pytest.approx(math.hypot(*of_each))


@pytest.mark.parametrize(
    ("card", "says"),
    [
        (lambda folder: None, "The noise floor is not known for run: there is no judge card of its judge."),
        (lambda folder: _write(folder, None), "is not known for run"),
        (lambda folder: _write(folder, noise_floor(coins("x"), coins("y")), "llm:other"), "is not known for run"),
    ],
)
def test_without_a_card_of_the_judge_no_floor_is_known(tmp_path: Path, card: Callable[[Path], None], says: str) -> None:
    card(tmp_path)
    table = mark_ties(summarize(coins("x"), baseline="b"), {name: _source(tmp_path, name) for name in "mb"})
    assert says in caption(table)
    assert {c.floor for c in table.cells} == {None}


def test_the_click_models_floor_is_0_without_a_card(tmp_path: Path) -> None:
    rows = transitions(small_world(), "gsp", "fixed_slots")
    sources = {name: _source(tmp_path, name, "click-model-v1") for name in ("gsp", "fixed_slots")}
    table = mark_ties(summarize(rows), sources)
    assert "The noise floor is 0" in caption(table)
    assert cell(table.cells, "revenue", "fixed_slots").floor == 0


def test_a_card_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / CARD).write_text('{"judge": 1}', encoding="utf-8")
    with pytest.raises(DataFileError, match=r"judge_card.json: no judge card: "):
        mark_ties(summarize(coins("x"), baseline="b"), {name: _source(tmp_path, name) for name in "mb"})


# the answers of a run


class Unreadable:
    """A judge whose replies cannot be read."""

    name = "unreadable"

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        raise UnreadableReply("no verdicts")


class Listens:
    """Clicks on auctions with another key."""

    name = "listens"

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        clicked = auction.id.endswith(".again")
        return Feedback(clicks=tuple(Click(ad_id=p.ad_id, clicked=clicked) for p in outcome.placements))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    world = small_world()
    rows = transitions(world, "gsp", "organic")
    run = RunFolder(tmp_path / "run")
    run.begin({"judge": "click"}, {"judge": world.judge.name, "judge_sha256": "other numbers"}, {})
    run.save_sessions({n: run_sync(world.session, 1, n) for n in range(12 // world.horizon)})
    run.append(Finished(rows, {}))
    return run.path


def test_answers_are_judged_again_with_other_keys(folder: Path) -> None:
    run = JudgedRun(folder, 5)
    assert (len(run.rows), run.answers) == (10, {"gsp": 12, "organic": 12})
    first, again = (run_sync(run.judged_by, Listens(), key) for key in ("", ".again"))
    shown = [click for t in again for click in t.feedback.clicks]
    assert shown
    assert all(click.clicked for click in shown)
    assert [t.auction for t in again] == [t.auction for t in run.rows], "the auctions keep their ids"
    assert noise_floor(first, again).same_verdict == 0
    world = small_world()
    same = run_sync(run.judged_by, world.judge, "")
    assert [t.model_dump() for t in same] == [t.model_dump() for t in run.rows]


def test_a_reply_that_cannot_be_read_is_an_abstention(folder: Path) -> None:
    run = JudgedRun(folder)
    floor = noise_floor(run.rows, run_sync(run.judged_by, Unreadable(), ""))
    assert floor.abstained == (0, 1)
    assert (floor.ads, floor.same_verdict) == (0, None)
    assert floor.moves["revenue"].get("gsp") is None


def test_runs_that_cannot_be_judged_again_are_refused(folder: Path) -> None:
    with pytest.raises(DataFileError, match=r"no manifest\.json"):
        JudgedRun(folder / "other")
    (folder / "sessions.jsonl").write_bytes(b"")
    with pytest.raises(DataFileError, match=r"sessions\.jsonl has no session of "):
        JudgedRun(folder)


@pytest.mark.weights
def test_a_judge_that_is_no_longer_the_runs_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="was judged by click-model-v1, its options now come to"):
        JudgedRun(folder).judge()


def test_compare_marks_ties(tmp_path: Path, folder: Path) -> None:
    other = RunFolder(tmp_path / "other")
    other.begin({"judge": "click"}, {"judge": small_world().judge.name, "judge_sha256": "other numbers"}, {})
    other.append(Finished(transitions(small_world(), "fixed_slots"), {}))
    found = compare([folder, tmp_path / "other"], baseline="gsp")
    frame = found.table.set_index(["mechanism", "metric"])
    assert frame.loc[("fixed_slots", "revenue"), "noise_floor"] == 0
    assert frame.loc[("fixed_slots", "ads"), "tied"] == "interval"
    assert frame.loc[("organic", "ads"), "tied"] == "no"
