"""Runs the answers of a run and passes on finished chunks in order.

`run_together` keeps a bounded number of answers in flight, across chunks and mechanisms: a slow answer holds up the
writing of its chunk, not the other answers. `run_in_turns` runs one chunk and one mechanism at a time, for models whose
texts depend on what shares their batch: a batch is then a chunk's, at any speed and on any machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from simenv.background_loop import as_task, gather
from simenv.records import Transition

AHEAD = 16
"""Unwritten answers per answer in flight. With as many calls in flight as half of the answers, an answer may take 32
times as long as the others before they wait for it. Finished answers that wait to be written are held in memory."""


class Finished(NamedTuple):
    """Results of one chunk: transitions by index, then by mechanism, and seconds per mechanism.

    The seconds are the sum of the answers' own, from the beginning of each to its end. Answers overlap, so the sum may
    be larger than the time that passed.
    """

    transitions: list[Transition]
    seconds: dict[str, float]


class Answers(Protocol):
    """What runs: `rollout` has it."""

    labels: Sequence[str]
    """The mechanisms, in the order of the log."""
    in_order: Collection[str]
    """Labels whose answers run one after another, because they learn."""

    def known(self, index: int, label: str) -> bool:
        """Whether the answer is there already, so that it asks nobody."""
        ...

    def may_begin(self) -> bool:
        """Whether a new answer may begin. False ends the run: what has begun is finished."""
        ...

    async def begin(self, index: int) -> None:
        """Called before the answers to an auction: what they need is begun, and is there if it asks no model."""
        ...

    async def ready(self, indices: Sequence[int]) -> None:
        """Waits until what the answers to these auctions need is there."""
        ...

    def waves(self, indices: Sequence[int], label: str) -> Sequence[Sequence[int]]:
        """The answers of a chunk that may run at once, those after the others later; for `run_in_turns`."""
        ...

    def answer(self, index: int, label: str) -> Coroutine[Any, Any, Transition]:
        """Answers an auction."""
        ...

    def finish(self, indices: Sequence[int], finished: Finished) -> None:
        """Takes a finished chunk. Chunks come in order."""
        ...


class _Chunk:
    """The answers of one chunk as they come in."""

    def __init__(self, number: int, indices: Sequence[int], labels: Sequence[str]) -> None:
        self.number = number
        self.indices = indices
        self._labels = labels
        self._rows: dict[tuple[int, str], Transition] = {}
        self._seconds = dict.fromkeys(labels, 0.0)

    async def answer(self, answers: Answers, index: int, label: str) -> None:
        started = time.perf_counter()
        self._rows[index, label] = await answers.answer(index, label)
        self._seconds[label] += time.perf_counter() - started

    @property
    def complete(self) -> bool:
        return len(self._rows) == len(self.indices) * len(self._labels)

    def finished(self) -> Finished:
        return Finished([self._rows[i, label] for i in self.indices for label in self._labels], self._seconds)


async def run_in_turns(chunks: Iterable[Sequence[int]], answers: Answers) -> None:
    """Runs one chunk after another, and in it one mechanism after another; all answers of a mechanism at once.

    Args:
        chunks: Indices of the auctions of each chunk.
        answers: What runs.
    """
    for number, indices in enumerate(chunks):
        chunk = _Chunk(number, indices, answers.labels)
        await answers.ready(indices)
        for label in answers.labels:
            for wave in answers.waves(indices, label):
                if not all(answers.known(i, label) for i in wave) and not answers.may_begin():
                    return
                await gather(chunk.answer(answers, i, label) for i in wave)
        answers.finish(indices, chunk.finished())


async def run_together(chunks: Iterable[Sequence[int]], answers: Answers, *, in_flight: int, unwritten: int) -> None:
    """Runs up to `in_flight` answers at once, begun by index, then by mechanism.

    If an answer raises, none begins any more. Those of earlier chunks that have begun are finished, and their chunks
    are passed on; then the error is raised, of several that of the first chunk.

    Args:
        chunks: Indices of the auctions of each chunk.
        answers: What runs.
        in_flight: Most answers at once.
        unwritten: About how many answers may be begun and not passed on. It bounds the memory.
    """
    await _Window(iter(chunks), answers, in_flight, unwritten).run()


class _Window:
    """The chunks that have begun and are not written, and the answers in flight."""

    def __init__(self, chunks: Iterator[Sequence[int]], answers: Answers, in_flight: int, unwritten: int) -> None:
        self._left = chunks
        self._answers = answers
        self._unwritten = unwritten
        self._slots = asyncio.Semaphore(in_flight)
        self._open: dict[int, _Chunk] = {}
        self._opened = 0
        self._written = 0
        self._moved = asyncio.Event()
        self._tasks: dict[asyncio.Task[None], int] = {}
        """Task -> number of its chunk."""
        self._stopping = False
        self._failed: tuple[int, BaseException] | None = None
        """The first chunk that cannot be finished, and why."""

    async def run(self) -> None:
        labels = self._answers.labels
        free = [label for label in labels if label not in self._answers.in_order]
        lanes = [self._run_free(free)] if free else []
        lanes += [self._run_in_order(label) for label in labels if label in self._answers.in_order]
        try:
            await gather(lanes)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            left = list(self._tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if self._failed is not None:
            raise self._failed[1]

    async def _run_free(self, labels: Sequence[str]) -> None:
        async for chunk in self._chunks():
            for i in chunk.indices:
                for label in labels:
                    if await self._begin(chunk, i, label) is None:
                        return

    async def _run_in_order(self, label: str) -> None:
        async for chunk in self._chunks():
            for i in chunk.indices:
                task = await self._begin(chunk, i, label)
                if task is None:
                    return
                await asyncio.wait([task])

    async def _chunks(self) -> AsyncIterator[_Chunk]:
        """The chunks for one lane, each when there is room for it."""
        number = 0
        while True:
            while not self._stopping and number == self._opened and self._is_full():
                self._moved.clear()
                await self._moved.wait()
            if self._stopping:
                return
            if number == self._opened:
                indices = next(self._left, None)
                if indices is None:
                    return
                self._open[number] = _Chunk(number, indices, self._answers.labels)
                self._opened += 1
            yield self._open[number]
            number += 1

    def _is_full(self) -> bool:
        return sum(len(chunk.indices) for chunk in self._open.values()) * len(self._answers.labels) >= self._unwritten

    async def _begin(self, chunk: _Chunk, index: int, label: str) -> asyncio.Task[None] | None:
        """Begins an answer when one more may be in flight. None: no answer may begin any more."""
        await self._slots.acquire()
        known = self._answers.known(index, label)
        if self._stopping or not (known or self._answers.may_begin()):
            self._slots.release()
            self._stop()
            return None
        await self._answers.begin(index)
        task = as_task(self._run(chunk, index, label))
        self._tasks[task] = chunk.number
        task.add_done_callback(self._ended)
        await asyncio.sleep(0)  # its first call is counted before the next answer asks whether it may begin
        return task

    async def _run(self, chunk: _Chunk, index: int, label: str) -> None:
        await chunk.answer(self._answers, index, label)
        while (first := self._open.get(self._written)) is not None and first.complete:
            if self._failed is not None and first.number >= self._failed[0]:
                return
            try:
                self._answers.finish(first.indices, first.finished())
            except BaseException as error:
                self._fail(first.number, error)
                return
            del self._open[self._written]
            self._written += 1
            self._moved.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._slots.release()
        number = self._tasks.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(number, error)

    def _fail(self, number: int, error: BaseException) -> None:
        if self._failed is None or number < self._failed[0]:
            self._failed = (number, error)
            for task, of_chunk in self._tasks.items():
                if of_chunk >= number and task is not asyncio.current_task():
                    task.cancel()
        self._stop()

    def _stop(self) -> None:
        """Begins no answer any more."""
        self._stopping = True
        self._moved.set()
