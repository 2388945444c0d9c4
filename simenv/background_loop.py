"""From synchronous code into the async inside: one event loop in one background thread, started at first use; and
jobs that run at once in it.

`asyncio.run` fails where a loop already runs, as in a notebook; a loop in a thread of its own does not.
"""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Awaitable, Callable, Iterable
from functools import cache
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")


@cache
def _portal() -> BlockingPortal:
    manager = start_blocking_portal("asyncio", name="simenv")
    portal = manager.__enter__()
    atexit.register(manager.__exit__, None, None, None)
    return portal


def run_sync(function: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Runs `await function(*args)` in the background loop and waits for the result.

    Must not be called from within that loop (a mechanism is already inside: it awaits instead).
    """
    return _portal().call(function, *args)


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
