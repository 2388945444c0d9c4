"""Gives tasks to workers that may die, and passes on the results in the order of the tasks.

What a worker had when it died runs again on another one. Only so many tasks are under way that finished results which
wait for an earlier one stay few. A task whose workers die again and again ends the run.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Protocol, TypeVar

from simenv.errors import SimenvError

T = TypeVar("T")
R = TypeVar("R")
_Task = TypeVar("_Task", contravariant=True)
_Result = TypeVar("_Result", covariant=True)

DEATHS = 3
"""So many workers may die of one task, or while they start, before the run ends."""
_AHEAD = 4
"""Tasks between the first unfinished one and the last one that is given out, for each that can run at once."""


class WorkerLost(Exception):
    """A worker died, or cannot be reached. The message says how."""


class Worker(Protocol[_Task, _Result]):
    """Runs tasks in another process."""

    async def run(self, task: _Task) -> _Result:
        """The task's result.

        Raises:
            WorkerLost: the worker died. The task can run again elsewhere.
            SimenvError: what the task raised.
        """
        ...


class Pool(Protocol[_Task, _Result]):
    """Starts workers: what an engine with processes of its own implements.

    Attributes:
        size: Number of workers.
        at_once: Tasks that a worker runs at the same time. It is given one more, which waits there.
    """

    size: int
    at_once: int

    async def start(self) -> Worker[_Task, _Result]:
        """A new worker that is ready to run tasks.

        Raises:
            WorkerLost: it died while it started.
            SimenvError: it cannot be built.
        """
        ...

    def give_back(self, worker: Worker[Any, Any]) -> None:
        """Called with each living worker when all tasks are done: the pool may keep it for later ones."""
        ...


async def dispatch(
    tasks: AsyncIterator[T],
    pool: Pool[T, R],
    on_result: Callable[[R], None],
    *,
    name: Callable[[T], str],
    warned: Callable[[str], None] = lambda text: None,
) -> None:
    """Runs all tasks.

    Args:
        tasks: The tasks. Each is asked for when there is room for it.
        pool: Where they run.
        on_result: Called with each result, in the order of the tasks, each once.
        name: What a task is called in errors.
        warned: Called when a worker is lost.

    Raises:
        SimenvError: what a task or the start of a worker raised, or workers died too often. Results passed on before
            it remain valid.
    """
    await _Dispatch(tasks, pool, on_result, name, warned).run()


class _Given(Generic[T]):
    """A task that was given out, and how many workers died of it."""

    def __init__(self, position: int, task: T) -> None:
        self.position = position
        self.task = task
        self.deaths = 0

    def __lt__(self, other: _Given[T]) -> bool:
        return self.position < other.position


class _Slot(Generic[T, R]):
    """The place of one worker: the present one, and what it has, the oldest first."""

    def __init__(self) -> None:
        self.worker: Worker[T, R] | None = None
        self.has: list[_Given[T]] = []
        self.starting = asyncio.Lock()


class _Dispatch(Generic[T, R]):
    def __init__(
        self,
        tasks: AsyncIterator[T],
        pool: Pool[T, R],
        on_result: Callable[[R], None],
        name: Callable[[T], str],
        warned: Callable[[str], None],
    ) -> None:
        self._tasks = tasks
        self._pool = pool
        self._on_result = on_result
        self._name = name
        self._warned = warned
        self._ahead = _AHEAD * pool.size * pool.at_once
        self._again: list[_Given[T]] = []
        self._results: dict[int, R] = {}
        self._count = 0  # tasks taken from the iterator
        self._due = 0  # the position whose result is passed on next
        self._out = 0  # tasks that workers have
        self._asking = False  # whether someone waits for the iterator
        self._no_more = False
        self._news = asyncio.Event()

    async def run(self) -> None:
        if (first := await self._take()) is None:
            return  # before any worker is started
        self._give_back(first)
        slots: list[_Slot[T, R]] = [_Slot() for _ in range(self._pool.size)]
        lanes = [asyncio.ensure_future(self._lane(slot)) for slot in slots for _ in range(self._pool.at_once + 1)]
        try:
            # A lane returns when everything is done; others may still wait for a worker that never starts.
            ended, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_COMPLETED)
            for lane in ended:
                lane.result()
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
            for slot in slots:
                if slot.worker is not None:
                    self._pool.give_back(slot.worker)

    async def _lane(self, slot: _Slot[T, R]) -> None:
        """Gives one task after another to the worker of a slot."""
        while True:
            worker = await self._worker(slot)  # before a task is taken, which would wait with it
            given = await self._take()
            if given is None:
                return
            has = slot.has
            has.append(given)
            try:
                result = await worker.run(given.task)
            except WorkerLost as error:
                if slot.worker is worker:
                    self._blame(slot, error)
                has.remove(given)
                self._give_back(given)
            else:
                self._results[given.position] = result
                while self._due in self._results:
                    self._on_result(self._results.pop(self._due))
                    self._due += 1
                has.remove(given)
                self._out -= 1
                self._tell()

    async def _worker(self, slot: _Slot[T, R]) -> Worker[T, R]:
        async with slot.starting:
            deaths = 0
            while slot.worker is None:
                try:
                    slot.worker = await self._pool.start()
                except WorkerLost as error:
                    deaths += 1
                    if deaths == DEATHS:
                        raise SimenvError(f"{deaths} workers in a row died while they started: {error}") from None
            return slot.worker

    def _blame(self, slot: _Slot[T, R], error: WorkerLost) -> None:
        """Counts the death of a slot's worker for the tasks that it ran, not for those that waited in it."""
        had, slot.has, slot.worker = slot.has, [], None
        self._warned(f"a worker was lost, and what it had runs again: {error}")
        for given in had[: self._pool.at_once]:
            given.deaths += 1
            if given.deaths == DEATHS:
                raise SimenvError(f"{self._name(given.task)}: {DEATHS} workers died while they ran it: {error}")

    async def _take(self) -> _Given[T] | None:
        """The next task to give out; None when everything is done."""
        while True:
            if self._again:
                self._out += 1
                return heapq.heappop(self._again)
            if self._no_more and not self._out:
                return None
            if not self._no_more and not self._asking and self._count < self._due + self._ahead:
                self._asking = True
                try:
                    given = _Given(self._count, await anext(self._tasks))
                    self._count += 1
                    self._out += 1
                    return given
                except StopAsyncIteration:
                    self._no_more = True
                finally:
                    self._asking = False
                    self._tell()
            else:
                await self._news.wait()

    def _give_back(self, given: _Given[T]) -> None:
        heapq.heappush(self._again, given)
        self._out -= 1
        self._tell()

    def _tell(self) -> None:
        """Wakes all who wait for something to change."""
        self._news.set()
        self._news = asyncio.Event()
