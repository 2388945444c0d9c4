"""How the answers of a run are scheduled: together and bounded, or in turns; passed on in order, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

import pytest

from simenv import outcome
from simenv.background_loop import run_sync
from simenv.errors import CannotWrite, LLMUnavailable, SimenvError
from simenv.records import Auction, Feedback, Transition
from simenv.runs.window import Finished, run_in_turns, run_together
from tests.support.auctions import small_auction

AUCTION: Auction = small_auction(1)
ANSWER = outcome(AUCTION, "Yes.")


class FakeAnswers:
    """Answers that take as long as `wait` says, and are known only by index and label."""

    def __init__(
        self,
        wait: Callable[[int, str], Any] = lambda i, label: None,
        labels: Sequence[str] = ("a", "b"),
        in_order: Collection[str] = (),
        most: int = 10**9,
    ) -> None:
        self.labels = labels
        self.in_order = in_order
        self.wait = wait
        self.most = most
        self.prepared: list[int] = []
        self.begun: list[tuple[int, str]] = []
        self.ended: list[tuple[int, str]] = []
        self.cancelled: list[tuple[int, str]] = []
        self.finished: list[int] = []
        self.in_flight = self.most_in_flight = 0

    def known(self, index: int, label: str) -> bool:
        return False

    def may_begin(self) -> bool:
        return len(self.begun) < self.most

    async def begin(self, index: int) -> None:
        self.prepared.append(index)

    async def ready(self, indices: Sequence[int]) -> None:
        self.prepared.extend(indices)

    def waves(self, indices: Sequence[int], label: str) -> list[Sequence[int]]:
        return [[i] for i in indices] if label in self.in_order else [indices]

    async def answer(self, index: int, label: str) -> Transition:
        assert index in self.prepared
        self.begun.append((index, label))
        self.in_flight += 1
        self.most_in_flight = max(self.in_flight, self.most_in_flight)
        try:
            waited = self.wait(index, label)
            await (asyncio.sleep(0.001) if waited is None else waited)
        except asyncio.CancelledError:
            self.cancelled.append((index, label))
            raise
        finally:
            self.in_flight -= 1
        self.ended.append((index, label))
        return Transition(
            index=index,
            mechanism=label,
            persona_id="p",
            turn=0,
            auction=AUCTION,
            outcome=ANSWER,
            feedback=Feedback(),
            values={},
            payments={},
            expected_payments=None,
            reward=None,
            expected_reward=None,
        )

    def finish(self, indices: Sequence[int], finished: Finished) -> None:
        assert [(t.index, t.mechanism) for t in finished.transitions] == [(i, m) for i in indices for m in self.labels]
        assert all(seconds > 0 for seconds in finished.seconds.values())
        self.finished.extend(indices)


def chunks(n: int, size: int) -> list[range]:
    return [range(start, min(start + size, n)) for start in range(0, n, size)]


def together(answers: FakeAnswers, n: int, size: int = 2, in_flight: int = 8, unwritten: int = 1000) -> None:
    run_sync(lambda: run_together(chunks(n, size), answers, in_flight=in_flight, unwritten=unwritten))


def test_answers_of_several_chunks_and_all_mechanisms_are_in_flight() -> None:
    answers = FakeAnswers()
    together(answers, 30)
    assert answers.most_in_flight == 8
    assert answers.begun == [(i, label) for i in range(30) for label in "ab"]
    assert answers.finished == list(range(30))


def test_a_slow_answer_holds_up_no_other() -> None:
    """It ends only when all others have ended."""
    last = asyncio.Event()

    async def wait(index: int) -> None:
        if index == 0:
            await last.wait()
        elif index == 19:
            last.set()

    answers = FakeAnswers(lambda i, label: wait(i), labels=["a"])
    together(answers, 20, in_flight=2)
    assert answers.ended[-1] == (0, "a")
    assert answers.finished == list(range(20)), "in order, although the first was the last to end"


def test_what_is_not_written_is_bounded() -> None:
    begun_before_the_first_ended: list[int] = []

    async def wait(index: int) -> None:
        for _ in range(500 if index == 0 else 1):
            await asyncio.sleep(0)
        if index == 0:
            begun_before_the_first_ended.append(len(answers.begun))

    answers = FakeAnswers(lambda i, label: wait(i), labels=["a"])
    together(answers, 100, in_flight=4, unwritten=20)
    assert begun_before_the_first_ended == [20]
    assert answers.finished == list(range(100))


def test_learners_answer_one_after_another_beside_the_others() -> None:
    waiting: dict[str, int] = dict.fromkeys("abc", 0)
    most = dict(waiting)
    beside: list[bool] = []

    async def wait(label: str) -> None:
        waiting[label] += 1
        beside.append(all(waiting.values()))
        most[label] = max(most[label], waiting[label])
        await asyncio.sleep(0.001)
        waiting[label] -= 1

    answers = FakeAnswers(lambda i, label: wait(label), labels=["a", "b", "c"], in_order={"a", "c"})
    together(answers, 12)
    assert (most["a"], most["c"]) == (1, 1)
    assert most["b"] > 2
    assert any(beside), "all three at once"
    for label in "ac":
        assert [i for i, of in answers.begun if of == label] == list(range(12))
    assert answers.finished == list(range(12))


def failing(*, at: dict[int, Exception], slow: int) -> Callable[[int, str], Any]:
    async def wait(index: int) -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        if index in at:
            raise at[index]
        for _ in range(100 if index <= slow else 10_000):
            await asyncio.sleep(0)

    return lambda i, label: wait(i)


def test_after_an_error_earlier_chunks_are_finished_and_later_answers_cancelled() -> None:
    answers = FakeAnswers(failing(at={7: LLMUnavailable("gone")}, slow=5), labels=["a"])
    with pytest.raises(LLMUnavailable, match="gone"):
        together(answers, 100, in_flight=10)
    assert answers.finished == [0, 1, 2, 3, 4, 5]
    assert {i for i, _ in answers.cancelled} == {6, 8, 9}
    assert len(answers.begun) == 10, "none begins any more"


def test_of_several_errors_that_of_the_first_chunk_is_raised() -> None:
    async def wait(index: int) -> None:
        if index == 7:
            raise LLMUnavailable("later")
        await asyncio.sleep(0.001)
        if index == 2:
            raise LLMUnavailable("earlier")

    answers = FakeAnswers(lambda i, label: wait(i), labels=["a"])
    with pytest.raises(LLMUnavailable, match="earlier"):
        together(answers, 100, in_flight=10)
    assert answers.finished == [0, 1]


def test_a_chunk_that_cannot_be_written_ends_the_run() -> None:
    class FullDisk(FakeAnswers):
        def finish(self, indices: Sequence[int], finished: Finished) -> None:
            if 4 in indices:
                raise CannotWrite("no space")
            super().finish(indices, finished)

    answers = FullDisk()
    with pytest.raises(CannotWrite, match="no space"):
        together(answers, 100)
    assert answers.finished == [0, 1, 2, 3]
    assert len(answers.begun) < 30
    assert answers.in_flight == 0


def test_an_exit_in_an_answer_is_an_error() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    answers = FakeAnswers(lambda i, label: leave() if i == 3 else None)
    with pytest.raises(SimenvError, match="code that is run must not exit"):
        together(answers, 9)
    assert answers.finished == [0, 1]


def test_when_no_answer_may_begin_those_that_have_begun_are_finished() -> None:
    answers = FakeAnswers(most=11)
    together(answers, 100)
    assert (len(answers.begun), len(answers.ended)) == (11, 11)
    assert answers.finished == [0, 1, 2, 3], "of 11 answers, 8 are of whole chunks"
    answers = FakeAnswers(most=11)
    run_sync(run_in_turns, chunks(100, 2), answers)
    assert answers.finished == [0, 1, 2, 3, 4, 5]
    assert len(answers.ended) == 12, "a chunk's answers of one mechanism begin together"


def test_cancelled_it_leaves_nothing_running() -> None:
    answers = FakeAnswers(lambda i, label: asyncio.sleep(60), in_order={"b"})

    async def cancel() -> None:
        running = asyncio.ensure_future(run_together(chunks(9, 2), answers, in_flight=4, unwritten=100))
        await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run_sync(cancel)
    assert len(answers.cancelled) == len(answers.begun) == 4


def test_in_turns_a_batch_holds_one_chunk_of_one_mechanism() -> None:
    together_now: set[tuple[int, str]] = set()
    seen: list[set[tuple[int, str]]] = []

    async def wait(index: int, label: str) -> None:
        together_now.add((index, label))
        for _ in range(3):
            await asyncio.sleep(0)
        seen.append(set(together_now))
        await asyncio.sleep(0)
        together_now.discard((index, label))

    answers = FakeAnswers(wait, labels=["a", "b", "c"], in_order={"c"})
    run_sync(run_in_turns, chunks(5, 3), answers)
    batches = [{(i, label) for i in chunk} for chunk in chunks(5, 3) for label in "ab"]
    assert all(batch in seen for batch in batches)
    assert all(any(now <= batch for batch in batches) or {label for _, label in now} == {"c"} for now in seen)
    assert all(len(now) == 1 for now in seen if ("c" in {label for _, label in now}))
    assert answers.finished == list(range(5))
