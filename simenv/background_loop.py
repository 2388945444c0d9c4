"""Runs asynchronous code from synchronous code, in one event loop in a background thread that starts at first use.

Also runs jobs concurrently (`gather`) and holds objects that belong to one event loop (`PerLoop`).

`asyncio.run` fails if a loop already runs in the thread, as in a notebook; a loop in a separate thread does not.

A forked child has the parent's objects, but not its threads. It starts its own background loop at first use.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

from simenv import deadlines
from simenv.errors import SimenvError

T = TypeVar("T")

ENDS_LOOP = (SystemExit, KeyboardInterrupt)
"""What ends an event loop, with all that runs in it, if a task raises it."""

_GRACE = 0.5
"""Seconds that an interrupted call has to end: code that does not await cannot be interrupted."""
_WATCH = 0.2
"""Seconds between two looks for answers that are late."""
_LAST_WAIT = 2.0
"""Seconds that a loop which was left behind has to end when the process ends, all such loops together."""


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
_left_behind: list[_Background] = []
"""Loops whose thread runs code that was interrupted and did not end. They end with it."""
_of_parents: list[_Background] = []
"""Loops of the parent process, whose threads do not exist in this fork. They are kept alive, because a new object could
otherwise get the same `id`, by which LiteLLM identifies loops."""


def run_sync(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Runs `await function(*args)` in the background loop and waits for the result.

    If the wait is interrupted, or an answer exceeds its time limit (`simenv.deadlines`), what runs is cancelled and has
    half a second to end. If it does not, because it never awaits, its loop is left behind with all that runs in it; the
    next call has a fresh loop. The old one's thread cannot be stopped: it runs until its code or the process ends.

    Raises:
        RuntimeError: called from within that loop, where it would wait for itself. A mechanism runs in this loop, so
            it must await instead.
        SimenvError: what runs raised SystemExit or KeyboardInterrupt, which would end the loop; an answer is late; or
            the loop was left behind because of another call in it.
    """
    background = _started()
    if threading.current_thread() is background.thread:
        raise RuntimeError("run_sync was called inside simenv's event loop: await the function instead")

    ended = threading.Event()

    async def call() -> T:
        try:
            return await function(*args)
        except ENDS_LOOP as error:
            raise _stopped_by(error) from error
        finally:
            ended.set()

    future = None
    try:
        future = asyncio.run_coroutine_threadsafe(call(), background.loop)
        return _result(future, background)
    except BaseException:
        # The wait was interrupted, or already the call that starts what runs: it may run without a future to cancel.
        if (future is None or future.cancel()) and not ended.wait(_GRACE):
            _leave_behind(background)
        raise
    finally:
        del future  # avoids a reference cycle through the traceback of an error


def _result(future: Future[T], background: _Background) -> T:
    while not wait([future], _WATCH).done:
        if (late := deadlines.overdue(background.thread.ident or 0, background.loop)) is not None:
            raise late
        if background in _left_behind:
            raise SimenvError("the event loop was left behind: another call in it did not end when it was interrupted")
    return future.result()


def _leave_behind(background: _Background) -> None:
    global _background
    with _lock:
        if _background is background:
            _background = None
            _left_behind[:] = [background, *(left for left in _left_behind if left.thread.is_alive())]
    background.stop(0)


def _stopped_by(error: BaseException) -> SimenvError:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return SimenvError(
        f"{frame.name} ({frame.filename}:{frame.lineno}) raised {error!r}: code that is run must not exit"
    )


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
        Whether it has ended, and all loops that were left behind too. Code that does not await, such as a language
        model's batch, ends when it is done.
    """
    global _background
    background, _background = _background, None
    ended = background is None or not background.thread.is_alive() or background.stop(timeout)
    until = time.monotonic() + (_LAST_WAIT if timeout is None else timeout)
    for left in _left_behind:
        left.thread.join(max(0.0, until - time.monotonic()))
    _left_behind[:] = [left for left in _left_behind if left.thread.is_alive()]
    return ended and not _left_behind


def left_behind() -> bool:
    """Whether a thread runs code that was interrupted and does not end."""
    return any(left.thread.is_alive() for left in _left_behind)


def _forget_parents_loop() -> None:
    global _background, _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _of_parents.extend(_left_behind)
    _left_behind.clear()
    if _background is not None:
        _of_parents.append(_background)
        _background = None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forget_parents_loop)


class PerLoop(Generic[T]):
    """Holds an object that belongs to one event loop, such as a semaphore, and creates a new one in another loop.

    Copies and pickles do not include the object.

    Args:
        make: Creates the object.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: tuple[asyncio.AbstractEventLoop, T] | None = None

    def get(self) -> T:
        """Returns the object of the running loop. Objects of earlier loops are not kept."""
        loop = asyncio.get_running_loop()
        if self._made is None or self._made[0] is not loop:
            self._made = (loop, self._make())
        return self._made[1]

    def __getstate__(self) -> dict[str, Any]:
        return {"_make": self._make, "_made": None}


_ends: set[AsyncGenerator[None, None]] = set()
"""Generators that end with their event loops: kept, because one that is collected ends at once."""


async def at_end_of_loop(close: Callable[[], Awaitable[Any]]) -> None:
    """Has `close` called when the running event loop ends.

    When a loop ends (asyncio.run, the background loop), it first runs the `finally` of every asynchronous generator
    that was begun in it.
    """

    async def until_then() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _ends.discard(generator)
            await close()

    generator = until_then()
    _ends.add(generator)
    await anext(generator)


async def gather(jobs: Iterable[Awaitable[T]]) -> list[T]:
    """Runs jobs concurrently. Unlike asyncio.gather, it cancels the remaining jobs after an error."""
    tasks = [as_task(job) for job in jobs]
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


def as_task(job: Awaitable[T]) -> asyncio.Task[T]:
    """Starts a job as a task of its own, which raises SimenvError instead of SystemExit and KeyboardInterrupt."""
    task = asyncio.ensure_future(_contained(job))
    if isinstance(job, Coroutine):  # one that was cancelled before it began would warn that nobody awaited it
        task.add_done_callback(lambda _: job.close())
    return task


async def _contained(job: Awaitable[T]) -> T:
    try:
        return await job
    except ENDS_LOOP as error:  # in a task of its own, no caller could catch it before it ends the loop
        raise _stopped_by(error) from error
