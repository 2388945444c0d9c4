"""From synchronous code into the async inside: one event loop in one background thread, started at first use; jobs
that run at once in it; and what belongs to one event loop alone.

`asyncio.run` fails where a loop already runs, as in a notebook; a loop in a thread of its own does not.

A forked child has the parent's objects, but not its threads: it starts a background loop of its own at first use.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_GRACE = 0.5
"""Seconds that an interrupted call has to end: code that does not await cannot be interrupted."""


class _Background:
    """An event loop that runs in a thread until it is stopped."""

    def __init__(self) -> None:
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self.thread = threading.Thread(target=asyncio.run, args=(self._run(started),), name="simenv", daemon=True)
        self.thread.start()
        self.loop, self._stopped = started.result()

    async def _run(self, started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
        stopped = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stopped))
        await stopped.wait()

    def stop(self, timeout: float | None = None) -> bool:
        """Cancels what still runs, lets asynchronous generators finish, and ends the thread: whether it has ended."""
        self.loop.call_soon_threadsafe(self._stopped.set)
        self.thread.join(timeout)
        return not self.thread.is_alive()


_lock = threading.Lock()
_background: _Background | None = None
_of_parents: list[_Background] = []
"""Loops whose threads stayed behind in the process that was forked. They are kept, because an object that is made in
the place of a collected loop would pass for it (LiteLLM knows loops by their `id`)."""


def run_sync(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Runs `await function(*args)` in the background loop and waits for the result.

    If the wait is interrupted, so is what runs: it is cancelled, and has half a second to end.

    Raises:
        RuntimeError: called from within that loop, where it would wait for itself: a mechanism is already inside, so
            it awaits instead.
    """
    background = _started()
    if threading.current_thread() is background.thread:
        raise RuntimeError("run_sync was called inside simenv's event loop: await the function instead")

    ended = threading.Event()

    async def call() -> T:
        try:
            return await function(*args)
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(call(), background.loop)
    try:
        return future.result()
    except BaseException:
        if future.cancel():  # the wait was interrupted
            ended.wait(_GRACE)
        raise
    finally:
        del future  # an error's traceback has this frame: no circle


def _started() -> _Background:
    global _background
    with _lock:
        if _background is None or not _background.thread.is_alive():
            _background = _Background()
        return _background


@atexit.register
def stop(timeout: float | None = None) -> bool:
    """Ends the background loop and cancels what runs in it. The next `run_sync` starts another one.

    Args:
        timeout: Seconds to wait for the end; without, as long as it takes.

    Returns:
        Whether it has ended. Code that does not await, such as a language model's batch, ends when it is done.
    """
    global _background
    background, _background = _background, None
    return background is None or not background.thread.is_alive() or background.stop(timeout)


def _forget_parents_loop() -> None:
    global _background, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    if _background is not None:
        _of_parents.append(_background)
        _background = None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_parents_loop)


class PerLoop(Generic[T]):
    """Something that belongs to one event loop, such as futures and semaphores: in another loop, it is made anew.

    A copy, and what is sent to another process, begins without it.

    Args:
        make: Makes it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: tuple[asyncio.AbstractEventLoop, T] | None = None

    def get(self) -> T:
        """That of the running loop; of a loop that was left for another one, nothing is kept."""
        loop = asyncio.get_running_loop()
        if self._made is None or self._made[0] is not loop:
            self._made = (loop, self._make())
        return self._made[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_made": None}


async def gather(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """Runs jobs at once; unlike asyncio's gather it leaves none running behind an error."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
