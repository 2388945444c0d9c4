"""Processes that run the command line, forked from one that has everything loaded: a hundred take a minute.

A test may say when such a process dies: after some seconds, or at the k-th time that it touches a file of a folder. The
events that count are those of Python's audit hooks: opening, renaming, cutting and removing a file, making a folder.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

TEXTS = "SIMENV_TEST_TEXTS"
"""Environment variable that names a JSON file of texts; the processes begin with their vectors."""
_EVENTS = frozenset({"open", "os.mkdir", "os.remove", "os.rename", "os.truncate"})
_context = get_context("forkserver")
_context.set_forkserver_preload(["tests.support.loaded"])


def prepare(texts: Path) -> None:
    """Gives every process that starts later the vectors of the texts in a JSON file. The first call counts."""
    os.environ.setdefault(TEXTS, str(texts))


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    """Exit code; minus the signal's number if a signal ended it."""
    out: str
    err: str

    @property
    def traceback(self) -> bool:
        return "Traceback" in self.err + self.out


@dataclass(frozen=True)
class Death:
    """When a process is killed (SIGKILL)."""

    folder: Path
    """Whose files count."""
    event: int = 0
    """At which event, the first being 1; 0: at none."""
    seconds: float = 0.0
    """Or after so many seconds; 0: never."""


class Running:
    """The command line in a process of its own."""

    def __init__(
        self, arguments: Sequence[str], scratch: Path, *, death: Death | None = None, file_limit: int | None = None
    ) -> None:
        """Starts it.

        Args:
            arguments: What follows `simenv`.
            scratch: A folder that exists, for its output.
            death: When it is killed.
            file_limit: Bytes that a file may have (RLIMIT_FSIZE).
        """
        self._out, self._err = scratch / f"{time.monotonic_ns()}.out", scratch / f"{time.monotonic_ns()}.err"
        self._process = _context.Process(
            target=_main, args=(list(arguments), str(self._out), str(self._err), death, file_limit)
        )
        self._process.start()

    def wait(self, seconds: float = 120) -> Ended:
        self._process.join(seconds)
        assert self._process.exitcode is not None, f"still running after {seconds} s"
        out, err = (file.read_text(errors="replace") if file.is_file() else "" for file in (self._out, self._err))
        return Ended(self._process.exitcode, out, err)


def simenv(
    arguments: Sequence[str], scratch: Path, *, death: Death | None = None, file_limit: int | None = None
) -> Ended:
    """Runs the command line in a process of its own to its end."""
    return Running(arguments, scratch, death=death, file_limit=file_limit).wait()


def events(arguments: Sequence[str], scratch: Path, folder: Path) -> tuple[int, float]:
    """Number of events in `folder` of a whole run, and its seconds."""
    counted = scratch / "events"
    begun = time.monotonic()
    process = _context.Process(target=_count, args=(list(arguments), str(scratch / "counted"), folder, counted))
    process.start()
    process.join()
    return len(counted.read_bytes()), time.monotonic() - begun


def _main(arguments: list[str], out: str, err: str, death: Death | None, file_limit: int | None) -> None:
    from simenv.cli.main import main

    _redirect(out, err)
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if death is not None:
        _arm(death)
    main(arguments)


def _arm(death: Death) -> None:
    if death.seconds:
        threading.Thread(target=_die_after, args=(death.seconds,), daemon=True).start()
    if death.event:
        seen = 0

        def die() -> None:
            nonlocal seen
            seen += 1
            if seen == death.event:
                os.kill(os.getpid(), signal.SIGKILL)

        _watch(death.folder, die)


def _die_after(seconds: float) -> None:
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)


def _count(arguments: list[str], scratch: str, folder: Path, counted: Path) -> None:
    target = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    _watch(folder, lambda: os.write(target, b"."))
    _main(arguments, f"{scratch}.out", f"{scratch}.err", None, None)


def _watch(folder: Path, happened: Callable[[], object]) -> None:
    prefix = str(folder)

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if name in _EVENTS and arguments and str(arguments[0]).startswith(prefix):
            happened()

    sys.addaudithook(hook)


def _redirect(out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
