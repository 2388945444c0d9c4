"""Decodes the requests of a model whose rows do not depend on each other.

A request joins the batch while others are being decoded, so that a batch does not wait for its longest text. What the
batch contains depends on timing; no text does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from simenv.background_loop import PerLoop
from simenv.llm.batching import settled
from simenv.llm.requests import Completion, Request
from simenv.llm.rows import Row
from simenv.llm.runtime import GrowingBatch, GrowingRuntime, Logits


@dataclass
class _Job:
    """A row, its prompt, and who waits for it."""

    row: Row
    prompt: list[int]
    future: asyncio.Future[Completion]


@dataclass
class _Queue:
    """The jobs of one event loop that are not in the batch yet."""

    pending: list[_Job] = field(default_factory=list)
    working: asyncio.Task[None] | None = None


class Stream:
    """One batch that requests join and leave.

    Args:
        runtime: The model.
        begin: The row of a request, and the tokens of its prompt.
        max_rows: Maximum number of rows in the batch.
    """

    def __init__(
        self, runtime: GrowingRuntime, begin: Callable[[Request], tuple[Row, list[int]]], max_rows: int
    ) -> None:
        self._runtime = runtime
        self._begin = begin
        self._max_rows = max_rows
        self._queue: PerLoop[_Queue] = PerLoop(_Queue)

    async def submit(self, request: Request) -> Completion:
        """Waits for the completion of `request`."""
        row, prompt = self._begin(request)
        job = _Job(row, prompt, asyncio.get_running_loop().create_future())
        queue = self._queue.get()
        queue.pending.append(job)
        if queue.working is None or queue.working.done():
            queue.working = asyncio.create_task(self._work(queue))
        return await job.future

    async def _work(self, queue: _Queue) -> None:
        jobs: list[_Job] = []
        batch: GrowingBatch | None = None
        logits: Logits = np.empty((0, 0), dtype=np.float32)
        while True:
            await settled(lambda: len(queue.pending))
            try:
                kept = [i for i, job in enumerate(jobs) if not job.future.done()]  # a caller may have been cancelled
                if batch is not None and len(kept) < len(jobs):
                    jobs, logits = [jobs[i] for i in kept], logits[kept]
                    batch = self._dropped(batch, kept)
                queue.pending = [job for job in queue.pending if not job.future.done()]
                fresh = queue.pending[: self._max_rows - len(jobs)]
                del queue.pending[: len(fresh)]
                if fresh:
                    jobs += fresh
                    prompts = [job.prompt for job in fresh]
                    if batch is None:
                        batch, logits = self._runtime.read(prompts)
                    else:
                        logits = np.concatenate([logits, batch.add(prompts)])
                if batch is None:
                    return
                jobs, logits = self._decode(jobs, batch, logits)
                batch = batch if jobs else None
            except Exception as error:
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(error)
                jobs, batch = [], None

    def _decode(self, jobs: list[_Job], batch: GrowingBatch, logits: Logits) -> tuple[list[_Job], Logits]:
        """Decodes until at least one row is complete. Returns the other jobs with the logits after their tokens."""
        while True:
            tokens = [job.row.sample(scores) for job, scores in zip(jobs, logits, strict=True)]
            going = [i for i, job in enumerate(jobs) if job.row.finish is None]
            if len(going) < len(jobs):
                batch.keep(going)
            if going:
                logits = batch.step([[tokens[i]] for i in going])
            if len(going) < len(jobs):
                for job in jobs:
                    if job.row.finish is not None:
                        job.future.set_result(job.row.completion(len(job.prompt)))
                return [jobs[i] for i in going], logits

    @staticmethod
    def _dropped(batch: GrowingBatch, kept: list[int]) -> GrowingBatch | None:
        batch.keep(kept)
        return batch if kept else None
