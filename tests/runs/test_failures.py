"""Answers that fail: rows of the log, up to a limit, which a resumed run asks for again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simenv
from simenv import Auction, Outcome, outcome
from simenv.background_loop import run_sync
from simenv.datasets.export import export_run, failed_answers
from simenv.errors import LLMRefused, LLMUnavailable, MechanismFailed, SimenvError, TooManyFailures, UnreadableReply
from simenv.records import Transition
from simenv.runs.failures import Failures
from simenv.runs.folder import read_transitions
from simenv.runs.rollout import Finished, rollout
from simenv.runs.summary import summarize
from simenv.runs.tables import to_markdown
from simenv.testing import small_world

QUICK = {"llm": "scripted", "n": 6, "horizon": 2, "quality": "none", "chunk": 2}


class Flaky:
    """Shows the first candidate. On auctions that `fails` accepts, it raises `error`."""

    def __init__(self, fails: Callable[[int], bool], error: Exception | None = None) -> None:
        self.fails = fails
        self.error = error or LLMUnavailable("server at http://me:pw@host/v1 is gone")
        self.asked: list[str] = []

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        self.asked.append(auction.id)
        if self.fails(int(auction.id.split(".")[1]) * 2 + auction.turn):
            raise self.error
        bid = auction.bids[0]
        return outcome(auction, f"Try {bid.ad.link}.", {bid.ad.id: 1.0})


def rolled(mechanism: Any, failures: Failures | None, n: int = 12) -> list[Transition]:
    chunks: list[Finished] = []
    world = small_world(horizon=2)

    async def go() -> None:
        await rollout(world, {"flaky": mechanism}, n=n, seed=0, on_chunk=chunks.append, chunk=4, failures=failures)

    run_sync(go)
    return [t for chunk in chunks for t in chunk.transitions]


@pytest.mark.parametrize("error", [LLMUnavailable("gone"), LLMRefused("no"), UnreadableReply("what?")], ids=repr)
def test_a_failed_answer_is_a_row_with_its_error(error: SimenvError) -> None:
    warned: list[str] = []
    rows = rolled(Flaky(lambda i: i in (1, 7), error), Failures(0.2, warned=warned.append))
    assert [t.index for t in rows] == list(range(12))
    failed = [t for t in rows if t.error is not None]
    assert [t.index for t in failed] == [1, 7]
    for t in failed:
        assert t.error is not None
        assert (t.error.kind, t.error.text) == (type(error).__name__, str(error))
        assert (t.outcome.response, t.payments, t.reward, t.expected_reward) == ("", {}, None, None)
        assert t.auction.bids
        assert Transition.model_validate_json(t.model_dump_json()) == t
    assert warned == [f"an answer failed, and is kept as an error: {error}"], "once"
    assert '"error"' not in rows[0].model_dump_json(), "logs without failures are as they were"


def test_no_number_but_errors_counts_a_failed_answer() -> None:
    rows = rolled(Flaky(lambda i: i in (1, 7)), Failures(0.2))
    table = summarize(rows)
    alone = summarize([t for t in rows if t.error is None])
    cells, others = ({c.metric: c for c in t.cells} for t in (table, alone))
    assert cells["errors"].estimate.value == pytest.approx(2 / 12)
    assert "errors" not in others
    assert table.expected
    assert {name: cell for name, cell in cells.items() if name != "errors"} == others
    text = to_markdown(table)
    assert "| mechanism | CTR | ads | violations | abstentions | errors |" in text
    assert "Answers that failed (errors) are left out of all other numbers." in text


@pytest.mark.parametrize(("limit", "failed"), [(0.2, 5), (0.99, 5), (3, 4), (5, 6)])
def test_a_server_that_is_gone_ends_the_run_soon(limit: float, failed: int) -> None:
    said = rf"^{failed} of {failed} answers failed, more than fail_on_error={limit:g} allows; the last: server at"
    with pytest.raises(TooManyFailures, match=said) as caught:
        rolled(Flaky(lambda _: True), Failures(limit))
    assert isinstance(caught.value.__cause__, LLMUnavailable)
    assert "me:pw" not in str(caught.value)


@pytest.mark.parametrize(("limit", "fails"), [(0.2, range(4)), (0.5, range(1, 12, 2)), (12, range(12))])
def test_as_many_as_are_allowed_may_fail(limit: float, fails: range) -> None:
    rows = rolled(Flaky(lambda i: i in fails), Failures(limit))
    assert [t.index for t in rows if t.error is not None] == list(fails)


@pytest.mark.parametrize("failures", [None, Failures(0)], ids=["without", "0"])
def test_none_may_fail_where_none_is_allowed(failures: Failures | None) -> None:
    with pytest.raises(LLMUnavailable, match="is gone"):
        rolled(Flaky(lambda i: i == 3), failures)


def test_a_bug_ends_the_run_unless_it_may_not() -> None:
    with pytest.raises(MechanismFailed, match="ZeroDivisionError"):
        rolled(Flaky(lambda i: i == 3, ZeroDivisionError()), Failures(0.2))
    rows = rolled(Flaky(lambda i: i == 3, ZeroDivisionError()), Failures(0.2, bugs_end=False))
    assert [t.error.kind for t in rows if t.error is not None] == ["MechanismFailed"]


def test_learners_do_not_see_failed_answers() -> None:
    class Learner(Flaky):
        def __init__(self) -> None:
            super().__init__(lambda i: i in (1, 7))
            self.seen: list[int] = []

        def observe(self, transition: Transition) -> None:
            self.seen.append(transition.index)

    learner = Learner()
    rolled(learner, Failures(0.2))
    assert sorted(learner.seen) == [i for i in range(12) if i not in (1, 7)]


@pytest.mark.weights
def test_a_resumed_run_asks_for_failed_answers_again(tmp_path: Path) -> None:
    whole = simenv.bench({"flaky": Flaky(lambda _: False)}, out=tmp_path / "whole", **QUICK)
    assert whole.problems == ()

    first = simenv.bench({"flaky": Flaky(lambda i: i in (1, 4))}, out=tmp_path / "run", fail_on_error=2, **QUICK)
    assert first.problems == ()
    assert [t.index for t in first.records if t.error is not None] == [1, 4]
    assert failed_answers(first.folder) == 2
    assert export_run(first.folder, tmp_path / "clicks.jsonl") == 4
    assert "| answers that failed, left out | 2 |" in (tmp_path / "clicks.jsonl.md").read_text(encoding="utf-8")

    gone = Flaky(lambda i: i in (1, 4))
    again = simenv.bench({"flaky": gone}, out=first.folder, resume=True, fail_on_error=0.2, **QUICK)
    assert len(gone.asked) == 2, "the other answers are not asked for again"
    assert again.problems == ("2 of 6 answers failed; the first: server at http://***@host/v1 is gone",)

    back = Flaky(lambda _: False)
    last = simenv.bench({"flaky": back}, out=first.folder, resume=True, **QUICK)
    assert len(back.asked) == 2
    assert last.problems == ()
    for file in ("transitions.jsonl", "chunks.jsonl", "table.csv"):
        assert (first.folder / file).read_bytes() == (whole.folder / file).read_bytes(), file


@pytest.mark.weights
def test_chunks_that_were_finished_stay_when_the_run_ends(tmp_path: Path) -> None:
    with pytest.raises(TooManyFailures):
        simenv.bench({"flaky": Flaky(lambda i: i > 2)}, out=tmp_path / "run", fail_on_error=1, **QUICK)
    assert [t.index for t in read_transitions(tmp_path / "run")] == [0, 1, 2, 3]
    assert json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["finished"] is None
