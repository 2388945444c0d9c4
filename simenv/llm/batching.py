"""Concurrent calls become batches: the data-loader pattern.

Requests are collected until no other task can run, then handled as one batch, in an order that does not depend on
which task came first. The batch runs in the event loop's own thread on purpose: nothing else moves meanwhile, so
what lands in which batch depends on the program alone, not on timing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from simenv.background_loop import PerLoop

Job = TypeVar("Job")
Result = TypeVar("Result")

_QUIET_ROUNDS = 12
"""Turns of the event loop without a new request after which nobody else is coming. A completion travels through a
handful of futures (task, shield, gather) before its awaiter can ask for the next one; each costs one turn."""


class _Queue(Generic[Job, Result]):
    """The jobs of one event loop that wait for their batch."""

    def __init__(self) -> None:
        self.pending: list[tuple[Job, asyncio.Future[Result]]] = []
        self.flushing: asyncio.Task[None] | None = None


class Batcher(Generic[Job, Result]):
    """Collects jobs from concurrent tasks and hands them to `run` together.

    Args:
        run: Takes the jobs in order and returns their results in the same order.
        order: Sort key that makes the batch independent of arrival.
        max_batch: Most jobs in one call of `run`.
    """

    def __init__(
        self, run: Callable[[Sequence[Job]], list[Result]], order: Callable[[Job], tuple[object, ...]], max_batch: int
    ) -> None:
        self._run = run
        self._order = order
        self.max_batch = max_batch
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
            seen = -1
            while seen != len(queue.pending):
                seen = len(queue.pending)
                for _ in range(_QUIET_ROUNDS):
                    await asyncio.sleep(0)
            collected = sorted(queue.pending, key=lambda item: self._order(item[0]))
            queue.pending = []
            for start in range(0, len(collected), self.max_batch):
                self._run_batch(collected[start : start + self.max_batch])

    def _run_batch(self, batch: list[tuple[Job, asyncio.Future[Result]]]) -> None:
        live = [(job, future) for job, future in batch if not future.done()]
        if not live:  # all who asked have left
            return
        try:
            results = self._run([job for job, _ in live])
        except Exception as error:
            for _, future in live:
                future.set_exception(error)
            return
        for (_, future), result in zip(live, results, strict=True):
            future.set_result(result)
