"""Time limits of answers: a mechanism or judge that never returns ends the run with an error that names it.

Asynchronous code that waits is cancelled when its time is up. Code that does not await, such as an endless loop, cannot
be ended, because it runs in the thread of the event loop: `simenv.background_loop.run_sync` asks `overdue` from
outside, raises the error, and leaves that thread behind.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

from simenv.errors import InputError, SimenvError

T = TypeVar("T")

_GRACE = 0.5
"""Seconds after its limit that an answer has to end by itself, before `overdue` reports it."""
_seconds: ContextVar[float | None] = ContextVar("answer_timeout", default=None)


class _Running(NamedTuple):
    until: float
    """By `time.monotonic`."""
    thread: int
    task: asyncio.Task[Any] | None
    late: SimenvError


_running: dict[int, _Running] = {}


def check_timeout(seconds: float | None) -> None:
    """Raises InputError if `seconds` is no time limit."""
    if seconds is not None and not 0 < seconds < float("inf"):
        raise InputError(f"answer_timeout must be above 0 and finite, or None for no limit, got {seconds}")


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Within the block, a mechanism has `seconds` for each answer, and a judge for each verdict. None: as before.

    It is wall time, in which other answers may run: those of a whole chunk, and a local model's batches.
    """
    token = _seconds.set(_seconds.get() if seconds is None else seconds)
    try:
        yield
    finally:
        _seconds.reset(token)


async def limited(job: Callable[[], T | Awaitable[T]], late: Callable[[str], SimenvError]) -> T:
    """Runs `job`, which may be a plain `def` or an `async def`, under the limit of `time_limit`.

    Args:
        job: What to run.
        late: Builds the error from a text such as "within 5 s".

    Raises:
        SimenvError: the result of `late`, if the job took longer.
    """
    seconds = _seconds.get()
    if seconds is None:
        result = job()
        return await result if inspect.isawaitable(result) else result
    error = late(f"within {seconds:g} s (answer_timeout)")
    until = time.monotonic() + seconds
    number = id(error)
    _running[number] = _Running(until, threading.get_ident(), asyncio.current_task(), error)
    try:
        async with asyncio.timeout(seconds) as limit:
            result = job()
            finished = await result if inspect.isawaitable(result) else result
    except TimeoutError:
        if limit.expired():
            raise error from None
        raise
    finally:
        del _running[number]
    if time.monotonic() > until:  # it did not await, or ignored that it was cancelled
        raise error
    return finished


def overdue(thread: int, loop: asyncio.AbstractEventLoop) -> SimenvError | None:
    """Returns the error of an answer in this thread that did not end after its limit, and says where it is."""
    now = time.monotonic()
    late = [running for running in list(_running.values()) if running.thread == thread and running.until + _GRACE < now]
    if not late:
        return None
    current = asyncio.current_task(loop)  # the task that does not give the others their turn
    error = min(late, key=lambda running: (running.task is not current, running.until)).late
    frame = sys._current_frames().get(thread)
    if frame is not None:
        where = f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_lineno})"
        error.hint = f"its thread is in {where}; such code cannot be ended and goes on until the process ends"
    return error
