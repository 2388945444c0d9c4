"""Combines concurrent calls into batches (the data-loader pattern).

Requests are collected until no other task can run, then processed as one batch, in an order that does not depend on
which task came first. The batch runs in the thread of the event loop, so no other task runs at the same time. The
content of a batch therefore depends only on the program, not on timing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from simenv.background_loop import PerLoop

Job = TypeVar("Job")
Result = TypeVar("Result")

_QUIET_ROUNDS = 12
"""Turns of the event loop without a new request after which the batch is closed. A completion passes through several
futures (task, shield, gather) before its caller can send the next request; each takes one turn."""


async def settled(waiting: Callable[[], int], quiet_rounds: int = _QUIET_ROUNDS) -> None:
    """Waits until no other task adds to what is `waiting` in so many turns of the event loop."""
    seen = -1
    while seen != waiting():
        seen = waiting()
        for _ in range(quiet_rounds):
            await asyncio.sleep(0)


class _Queue(Generic[Job, Result]):
    """The jobs of one event loop that wait for their batch."""

    def __init__(self) -> None:
        self.pending: list[tuple[Job, asyncio.Future[Result]]] = []
        self.flushing: asyncio.Task[None] | None = None


class Batcher(Generic[Job, Result]):
    """Collects jobs from concurrent tasks and hands them to `run` together.

    Args:
        run: Takes the jobs in order and returns their results in the same order.
        order: Sort key that makes the batch independent of the order of arrival.
        max_batch: Maximum number of jobs in one call of `run`.
        quiet_rounds: Turns of the event loop without a new job after which a batch is closed.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Job]], list[Result]],
        order: Callable[[Job], tuple[object, ...]],
        max_batch: int,
        quiet_rounds: int = _QUIET_ROUNDS,
    ) -> None:
        self._run = run
        self._order = order
        self.max_batch = max_batch
        self._quiet_rounds = quiet_rounds
        self._queue: PerLoop[_Queue[Job, Result]] = PerLoop(_Queue)

    async def submit(self, job: Job) -> Result:
        """Waits for the batch that contains `job`."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        queue = self._queue.get()
        queue.pending.append((job, future))
        if queue.flushing is None or queue.flushing.done():
            queue.flushing = asyncio.create_task(self._flush(queue))
        return await future

    async def _flush(self, queue: _Queue[Job, Result]) -> None:
        while queue.pending:
            await settled(lambda: len(queue.pending), self._quiet_rounds)
            collected = sorted(queue.pending, key=lambda item: self._order(item[0]))
            queue.pending = []
            for start in range(0, len(collected), self.max_batch):
                self._run_batch(collected[start : start + self.max_batch])

    def _run_batch(self, batch: list[tuple[Job, asyncio.Future[Result]]]) -> None:
        live = [(job, future) for job, future in batch if not future.done()]
        if not live:  # all callers were cancelled
            return
        try:
            results = self._run([job for job, _ in live])
        except Exception as error:
            for _, future in live:
                future.set_exception(error)
            return
        for (_, future), result in zip(live, results, strict=True):
            future.set_result(result)
