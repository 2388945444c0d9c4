"""What the command line does when it is told to stop: Ctrl-C (SIGINT) and SIGTERM."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_GRACE = 0.3
"""Seconds that running work has to end. A language model's batch may take minutes and cannot be interrupted."""


@contextmanager
def stopping() -> Iterator[None]:
    """Within the block, the first signal unwinds what the main thread does, then ends the process; the second one
    ends it at once. The exit code is 128 and the signal's number, as shells have it: 130 or 143.

    A signal that the process was started to ignore, as under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    received: list[int] = []
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler)
    }

    def stop(number: int, _: FrameType | None) -> None:
        if received:
            _end(128 + number)
        received.append(number)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        if received:
            finish(128 + received[0])
        for number, handler in before.items():
            signal.signal(number, handler)


def finish(code: int) -> NoReturn:
    """Cancels what runs and ends the process. What a run wrote is sound at any moment, even if it does not end."""
    from simenv import background_loop

    if not background_loop.stop(_GRACE):
        _end(code)
    sys.exit(code)


def _end(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a closed pipe
            stream.flush()
    os._exit(code)
