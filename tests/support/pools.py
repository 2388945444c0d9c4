"""Fake pools of workers: threads instead of processes, and deaths where a test wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from simenv.runs.dispatch import WorkerLost


class FakePool:
    """Workers that are threads of this process.

    Args:
        make: Builds what runs tasks, from the number of workers.
        workers: Their number.
        at_once: Tasks of a worker that run at the same time.
        dies: Called with each task as it begins; True: its worker dies of it.
        starts: Called with the number of each start; False: the worker dies while it starts; None: it never starts.
    """

    def __init__(
        self,
        make: Callable[[int], Any],
        *,
        workers: int | None = None,
        at_once: int = 1,
        dies: Callable[[Any], bool] = lambda task: False,
        starts: Callable[[int], bool | None] = lambda number: True,
        **_: object,
    ) -> None:
        self.size, self.at_once = workers or 2, at_once
        self.started = 0
        self._building = asyncio.Lock()
        self.closed = False
        self.kept: list[object] = []
        self._make, self._dies, self._starts = make, dies, starts

    def __enter__(self) -> FakePool:
        return self

    def __exit__(self, *_: object) -> None: ...

    def give_back(self, worker: object) -> None:
        self.kept.append(worker)

    def close(self) -> None:
        self.closed = True

    async def start(self) -> Any:
        if self.kept:
            return self.kept.pop()
        self.started += 1
        starts = self._starts(self.started)
        if starts is None:
            await asyncio.Event().wait()
        if not starts:
            raise WorkerLost("no memory")
        async with self._building:  # each in its turn: Python 3.11 parses code in one thread alone
            made = await asyncio.to_thread(self._make, self.size)
        return _FakeWorker(made, self.at_once, self._dies)


class _FakeWorker:
    def __init__(self, runner: Any, at_once: int, dies: Callable[[Any], bool]) -> None:
        self._runner, self._dies = runner, dies
        self._room = asyncio.Semaphore(at_once)
        self._dead = asyncio.Event()

    async def run(self, task: Any) -> Any:
        dead = asyncio.ensure_future(self._dead.wait())
        running = asyncio.ensure_future(self._run(task))
        try:
            await asyncio.wait([dead, running], return_when=asyncio.FIRST_COMPLETED)
            if self._dead.is_set():
                raise WorkerLost("killed")
            return running.result()
        finally:
            dead.cancel()
            running.cancel()
            await asyncio.gather(dead, running, return_exceptions=True)

    async def _run(self, task: Any) -> Any:
        async with self._room:
            if self._dead.is_set():
                return None  # a dead process begins nothing
            if self._dies(task):
                await asyncio.sleep(0.002)
                self._dead.set()
                await asyncio.Event().wait()
            return await asyncio.to_thread(self._runner.run, task)
