"""Output of commands: one console for results, one for progress and warnings.

Whatever a command prints may hold text from outside: labels, column names, a server's error, another run's manifest.
So the consoles themselves make it harmless, and no caller can forget to: they read no rich mark-up, show control
characters as escapes (`\\x1b`), replace what the terminal's encoding lacks, and survive a terminal that takes no more.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from simenv.secrets import masked
from simenv.text import escaped, printable

_ASCII: dict[int, str] = str.maketrans(
    {
        "±": "+-",
        "×": "x",
        "–": "-",
        "—": "-",
        "−": "-",
        "…": "...",
        "‘": "'",
        "’": "'",
        "“": '"',
        "”": '"',
        "‹": "<",
        "›": ">",
        "→": "->",
        "≥": ">=",
        "≤": "<=",
        "•": "*",
        "━": "-",
        "╸": "-",
        "╺": "-",
    }
)
_GONE = frozenset({errno.EPIPE, errno.ESHUTDOWN})
_EXIT_OF_SIGPIPE = 141


def harmless(text: str, encoding: str = "utf-8", *, keep: str = "\n\t") -> str:
    """Text that a terminal of this encoding shows and does not obey.

    Args:
        text: Text from outside.
        encoding: The terminal's encoding. Characters that it lacks are replaced.
        keep: Control characters that stay.
    """
    shown = printable(text, keep=keep)
    try:
        shown.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        shown = "".join(_substitute(c, encoding) for c in shown)
    return shown


def _substitute(character: str, encoding: str) -> str:
    """The character, or what stands for it in an encoding that lacks it."""
    try:
        character.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return _ASCII.get(ord(character)) or escaped(character)
    return character


class Terminal(Console):
    """A console for text from outside: see the module.

    Args:
        stderr: Whether it writes to standard error.
        file: A file instead; for tests.
        options: Further options of rich's Console.
    """

    def __init__(self, *, stderr: bool = False, file: IO[str] | None = None, **options: Any) -> None:
        super().__init__(stderr=stderr, file=file, markup=False, emoji=False, highlight=False, **options)
        self.failure: OSError | None = None
        """Why the last thing could not be written; nothing is written after it."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints text, tables and other renderables of rich. Mark-up in strings is text."""
        super().print(*map(self._harmless, objects), **(options | {"markup": False, "emoji": False}))

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Renders as rich does. Here nothing passes that `print` cannot reach, such as the texts of a progress bar."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else harmless(segment.text, self.encoding)
            yield segment if text == segment.text else Segment(text, segment.style)

    def _harmless(self, item: Any) -> Any:
        """The same before it is measured, so that tables fit."""
        if isinstance(item, str):
            return harmless(item, self.encoding)
        if isinstance(item, Text):
            plain = harmless(item.plain, self.encoding)
            return item if plain == item.plain else Text(plain, style=item.style, justify=item.justify)
        if isinstance(item, Table):
            item = copy(item)
            item.title, item.caption = self._harmless(item.title), self._harmless(item.caption)
            item.columns = [copy(column) for column in item.columns]
            for column in item.columns:
                column.header, column.footer = self._harmless(column.header), self._harmless(column.footer)
                column._cells = [self._harmless(cell) for cell in column._cells]
        return item

    def _write_buffer(self) -> None:
        """Writes as rich does. A stream that takes no more ends no work: `ended_early` reports it afterwards."""
        try:
            if self.failure is None:
                super()._write_buffer()
        except OSError as refused:
            self.failure = refused
        if self.failure is not None:
            del self._buffer[:]

    def on_broken_pipe(self) -> None:
        """Nothing: rich would end the process, in the middle of the work."""
        self.failure = self.failure or BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


class _Log(logging.Handler):
    """Prints the warnings that simenv logs."""

    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


AT_A_CEILING = 3
"""The exit code of a run that stopped at one of its ceilings and can go on."""
out = Terminal()
"""Results."""
err = Terminal(stderr=True)
"""Progress, warnings and errors."""


def begin() -> None:
    """Makes the consoles ready for a command: what the library logs is printed as a warning, from now on."""
    out.failure = err.failure = None
    log = logging.getLogger("simenv")
    if not any(isinstance(handler, _Log) for handler in log.handlers):
        log.addHandler(_Log(logging.WARNING))


def ended_early() -> int | None:
    """The exit code if standard output took less than the command printed; None if it took all.

    A closed pipe (`| head -1`) is no fault: the exit code is a shell's for it, and nothing is said. Of a full disk, one
    line on standard error tells.
    """
    failure = out.failure
    if failure is None:
        try:
            sys.stdout.flush()
        except OSError as refused:
            failure = refused
        except ValueError:  # it is closed
            return None
    if failure is None:
        return None
    with contextlib.suppress(OSError, ValueError):  # else Python complains when it flushes at its end
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    if failure.errno in _GONE:
        return _EXIT_OF_SIGPIPE
    error(f"cannot write to standard output: {failure.strerror}")
    return 1


def line(text: str, style: str = "") -> None:
    """Prints one paragraph among the results."""
    out.print(text, style=style, soft_wrap=True)


def error(text: str) -> None:
    """Prints what went wrong in one line; text quoted from a file may hold line breaks."""
    err.print(f"simenv: {' '.join(masked(text).split())}", style="red", soft_wrap=True)


def warn(text: str) -> None:
    """Prints a warning in one paragraph."""
    err.print(f"simenv: {' '.join(masked(text).split())}", style="yellow", soft_wrap=True)


def note(text: str) -> None:
    """Prints one line beside the results, for instance what can be done next."""
    err.print(text, soft_wrap=True)


def left_out(sound_only: bool) -> Callable[[str], None] | None:
    """For readers of a run's log: with `sound_only` they warn of what they leave out, otherwise they refuse the run."""
    return (lambda text: warn(f"left out: {text}")) if sound_only else None


def written_to(path: object) -> None:
    """Prints the path of the results."""
    line(f"written to {path}", style="dim")


@contextmanager
def named_bars(width: int = 12) -> Iterator[tuple[Callable[[str, int, int], None], Console]]:
    """Shows one progress bar per part. Yields a callback for (part, done, planned) and a console for other lines."""
    columns = (_name(f"{{task.description:{width}}}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=err)
    bars: dict[str, TaskID] = {}

    def watch(part: str, done: int, planned: int) -> None:
        if not bars:
            progress.start()
        if part not in bars:
            bars[part] = progress.add_task(part)
        progress.update(bars[part], completed=done, total=planned)

    try:
        yield watch, progress.console
    finally:
        _stop(progress)


def _name(template: str) -> TextColumn:
    return TextColumn(template, markup=False)


def _stop(progress: Progress) -> None:
    if progress.live.is_started:
        progress.stop()
