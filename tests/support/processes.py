"""Processes that run the command line or a script, forked from one that has everything loaded: they start at once.

A test may say when such a process dies: after some seconds, or at the k-th time that it touches a file of a folder. The
events that count are those of Python's audit hooks: opening, renaming, cutting and removing a file, making a folder.
"""

from __future__ import annotations

import os
import resource
import runpy
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp

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
    """The command line in a process of its own.

    Args:
        arguments: What follows `simenv`; or, if the first one ends in .py, that script and its arguments.
        folder: An existing folder that it runs in.
        death: When it is killed.
        file_limit: Bytes that a file may have (RLIMIT_FSIZE).
    """

    def __init__(
        self, arguments: Sequence[str], folder: Path, *, death: Death | None = None, file_limit: int | None = None
    ) -> None:
        self._output = Path(mkdtemp(prefix="simenv-process-"))
        self._process = _context.Process(target=_main, args=(list(arguments), folder, self._output, death, file_limit))
        self._process.start()

    def wait(self, seconds: float = 900) -> Ended:
        """Waits for its end."""
        self._process.join(seconds)
        code = self._process.exitcode
        if code is None:
            self._process.kill()
        out, err = (file.read_text(errors="replace") if file.is_file() else "" for file in _streams(self._output))
        shutil.rmtree(self._output)
        assert code is not None, f"still running after {seconds} s: {out}{err}"
        return Ended(code, out, err)


def simenv(
    arguments: Sequence[str], folder: Path, *, death: Death | None = None, file_limit: int | None = None
) -> Ended:
    """Runs the command line in a process of its own to its end; see `Running`."""
    return Running(arguments, folder, death=death, file_limit=file_limit).wait()


def events(arguments: Sequence[str], folder: Path, watched: Path) -> tuple[int, float]:
    """Number of events in the folder `watched` of a whole run, and the run's seconds."""
    counted = folder / "events"
    begun = time.monotonic()
    process = _context.Process(target=_count, args=(list(arguments), folder, watched, counted))
    process.start()
    process.join()
    return len(counted.read_bytes()), time.monotonic() - begun


def _streams(output: Path) -> tuple[Path, Path]:
    return output / "stdout", output / "stderr"


def _main(arguments: list[str], folder: Path, output: Path, death: Death | None, file_limit: int | None) -> None:
    from simenv.cli.main import main

    _redirect(*_streams(output))
    os.chdir(folder)
    if file_limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if death is not None:
        _arm(death)
    if arguments[0].endswith(".py"):
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")
    else:
        sys.argv = ["simenv", *arguments]
        main()


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


def _count(arguments: list[str], folder: Path, watched: Path, counted: Path) -> None:
    target = os.open(counted, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    _watch(watched, lambda: os.write(target, b"."))
    _main(arguments, folder, folder, None, None)


def _watch(folder: Path, happened: Callable[[], object]) -> None:
    prefix = str(folder)

    def hook(name: str, arguments: tuple[object, ...]) -> None:
        if name in _EVENTS and arguments and str(arguments[0]).startswith(prefix):
            happened()

    sys.addaudithook(hook)


def _redirect(out: Path, err: Path) -> None:
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
