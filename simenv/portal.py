"""From synchronous code into the async inside: one event loop in one background thread, started at first use.

`asyncio.run` fails where a loop already runs, as in a notebook; a loop in a thread of its own does not.
"""

from __future__ import annotations

import atexit
from collections.abc import Awaitable, Callable
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
