"""Runs: the same auctions for every mechanism, rows in order, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simenv import make_mechanism, outcome
from simenv.background_loop import run_sync
from simenv.errors import InputError, MechanismFailed
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism
from simenv.records import Auction, Outcome, Transition
from simenv.runs.failures import Failures
from simenv.runs.folder import RunFolder, read_transitions
from simenv.runs.rollout import Finished, Sessions, rollout
from simenv.testing import PERSONAS, small_world
from simenv.world import World

NAMES = ("gsp", "best_of_n", "organic", "prompted")


def built() -> dict[str, Mechanism]:
    llm = ScriptedLLM()
    return {name: make_mechanism(name, context={"llm": llm}) for name in NAMES}


def run(
    mechanisms: Mapping[str, Mechanism],
    on_chunk: Callable[[Finished], None],
    *,
    n: int = 14,
    seed: int = 3,
    chunk: int = 5,
    world: World | None = None,
    **options: Any,
) -> None:
    async def go() -> None:
        await rollout(world or small_world(), mechanisms, n=n, seed=seed, on_chunk=on_chunk, chunk=chunk, **options)

    run_sync(go)


def rows_of(mechanisms: Mapping[str, Mechanism], **options: Any) -> list[Transition]:
    chunks: list[Finished] = []
    run(mechanisms, chunks.append, **options)
    return [row for chunk in chunks for row in chunk.transitions]


class ShowsFirst:
    """The most relevant candidate at the end of a text, for nothing."""

    def __init__(self, text: str) -> None:
        self.text = text

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        ad = auction.bids[0].ad
        return outcome(auction, f"{self.text} {ad.link} may help.", {ad.id: 0.0})


class Fails:
    """Organic for some auctions, then an error."""

    def __init__(self, after: int) -> None:
        self.left = after

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        self.left -= 1
        if self.left < 0:
            raise ArithmeticError("no more")
        return outcome(auction, "Fine.")


def test_rows_come_by_index_then_by_mechanism() -> None:
    rows = rows_of(built())
    assert [(row.index, row.mechanism) for row in rows] == [(i, name) for i in range(14) for name in NAMES]
    assert [row.turn for row in rows if row.mechanism == "gsp"] == [i % 3 for i in range(14)]


def test_every_persona_comes_once_before_any_comes_twice() -> None:
    sessions = [row.persona_id for row in rows_of({"organic": built()["organic"]}, n=24) if row.turn == 0]
    assert sorted(sessions[:4]) == sorted(sessions[4:]) == sorted(p.id for p in PERSONAS)


def test_all_mechanisms_meet_the_same_auctions_and_values() -> None:
    rows = rows_of(built())
    assert {row.mechanism for row in rows if row.outcome.placements} == {"gsp", "best_of_n", "prompted"}
    for i in range(14):
        first, *others = [row for row in rows if row.index == i]
        assert len(others) == len(NAMES) - 1
        for other in others:
            assert (other.auction, other.values, other.persona_id) == (first.auction, first.values, first.persona_id)


def test_all_mechanisms_meet_the_same_user_noise() -> None:
    """One uniform per auction decides the click on the same ad, whoever shows it and in which text.

    With a draw of its own per mechanism a pair is out of order with probability low x (1 - high); that none of the
    120 is would then happen once in 5e8 worlds.
    """
    mechanisms: dict[str, Mechanism] = {"short": ShowsFirst("Yes."), "long": ShowsFirst("It depends! " * 20)}
    rows = rows_of(mechanisms, n=120)
    clicked = 0
    for i in range(120):
        pair = [row.feedback.clicks[0] for row in rows if row.index == i]
        low, high = sorted(pair, key=lambda click: click.click_prob or 0.0)
        assert low.click_prob != high.click_prob
        assert not low.clicked or high.clicked
        clicked += bool(low.clicked)
    assert clicked > 0


def test_the_same_mechanism_under_two_names_gives_the_same_rows() -> None:
    rows = rows_of({"a": built()["gsp"], "b": built()["gsp"]})
    for a, b in zip(rows[::2], rows[1::2], strict=True):
        assert b == a.model_copy(update={"mechanism": "b"})


@pytest.mark.parametrize("chunk", [1, 3, 14, 100])
def test_the_chunk_does_not_change_a_row(chunk: int) -> None:
    assert rows_of(built(), chunk=chunk) == rows_of(built(), chunk=5)


@pytest.mark.parametrize("in_flight", [None, 1, 3])
def test_how_many_are_in_flight_does_not_change_a_row(in_flight: int | None) -> None:
    assert rows_of(built(), in_flight=in_flight) == rows_of(built(), in_flight=64)


def test_a_chunk_alone_has_the_rows_of_the_whole_run() -> None:
    whole = rows_of(built())
    assert rows_of(built(), chunks=[1]) == [row for row in whole if 5 <= row.index < 10]
    assert rows_of(built(), chunks=[0, 2]) == [row for row in whole if not 5 <= row.index < 10]


@pytest.mark.parametrize(("chunks", "got"), [([3], "3 after -1"), ([1, 1], "1 after 1"), ([-1], "-1 after -1")])
def test_chunks_that_do_not_exist_or_do_not_ascend_are_refused(chunks: list[int], got: str) -> None:
    with pytest.raises(InputError, match=f"^chunks must be ascending numbers below 3, got {got}$"):
        rows_of(built(), chunks=chunks)


def test_sessions_are_saved_once_and_in_order() -> None:
    saved: list[int] = []
    sessions = Sessions(save=lambda fresh: saved.extend(fresh))
    rows_of(built(), sessions=sessions)
    assert saved == [0, 1, 2, 3, 4]


def test_another_seed_is_another_run() -> None:
    assert rows_of(built(), seed=3) != rows_of(built(), seed=4)


def test_a_run_repeated_is_the_same_to_the_byte(tmp_path: Path) -> None:
    written = []
    for name in ("first", "second"):
        folder = RunFolder(tmp_path / name)
        folder.begin({}, {}, {})
        run(built(), folder.append)
        written.append((tmp_path / name / "transitions.jsonl").read_bytes())
    assert written[0] == written[1]
    assert written[0].count(b"\n") == 14 * len(NAMES)


def test_chunks_and_answers_are_reported_as_they_finish() -> None:
    chunks: list[Finished] = []
    answers: list[int] = []
    run(built(), chunks.append, in_flight=None, on_answer=lambda fresh: answers.append(len(chunks)))
    assert [len(chunk.transitions) for chunk in chunks] == [20, 20, 16]
    assert [set(chunk.seconds) for chunk in chunks] == [set(NAMES)] * 3
    assert answers == [0] * 20 + [1] * 20 + [2] * 16
    answers.clear()
    run(built(), chunks.append, on_answer=lambda fresh: answers.append(len(chunks)))
    assert len(answers) == 56


def test_what_a_failing_mechanism_leaves_is_every_chunk_before(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.begin({}, {}, {})
    with pytest.raises(MechanismFailed, match="Fails raised ArithmeticError: no more"):
        run({"organic": built()["organic"], "fails": Fails(after=8)}, folder.append, n=15)
    rows = list(read_transitions(tmp_path / "run"))
    assert [(row.index, row.mechanism) for row in rows] == [(i, m) for i in range(5) for m in ("organic", "fails")]


def test_none_in_flight_is_refused() -> None:
    with pytest.raises(InputError, match="in_flight must be at least 1, got 0"):
        rows_of(built(), in_flight=0)


@pytest.mark.parametrize(("n", "chunk"), [(0, 5), (-1, 5), (5, 0)])
def test_numbers_below_one_are_refused(n: int, chunk: int) -> None:
    with pytest.raises(InputError, match=f"must be at least 1, got n={n}, chunk={chunk}"):
        rows_of(built(), n=n, chunk=chunk)


def test_no_mechanism_is_refused() -> None:
    with pytest.raises(InputError, match="no mechanisms to run"):
        rows_of({})


def test_a_chunk_that_goes_on_with_a_session_of_linked_turns_needs_the_one_before() -> None:
    world = small_world(turns="linked")
    whole = rows_of(built(), n=12, chunk=4, world=world)
    assert rows_of(built(), n=12, chunk=4, chunks=[0, 1], world=world) == whole[: 8 * len(NAMES)]
    assert rows_of(built(), n=12, chunk=6, chunks=[1], world=world) == whole[6 * len(NAMES) :]
    with pytest.raises(InputError, match="the auctions from 4 on go on with a session of 3 linked turns"):
        rows_of(built(), n=12, chunk=4, chunks=[1], world=world)


def test_an_answer_that_failed_leaves_its_question_in_the_history() -> None:
    class Fails(ShowsFirst):
        def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
            if auction.turn == 1:
                raise MechanismFailed("not this one")
            return super().run(auction, rng)

    mechanisms: dict[str, Mechanism] = {"fails": Fails("Look at")}
    rows = rows_of(mechanisms, n=3, chunk=3, world=small_world(turns="linked"), failures=Failures(3, bugs_end=False))
    assert [row.error is None for row in rows] == [True, False, True]
    assert [exchange.response for exchange in rows[2].auction.history] == [rows[0].outcome.response, ""]
    assert [it.turn for it in rows[2].auction.shown] == [0]
