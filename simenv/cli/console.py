"""Output of commands: one console for results, one for progress and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from simenv.secrets import masked

out = Console()
"""Results."""
err = Console(stderr=True)
"""Progress, warnings and errors."""


def warn(text: str) -> None:
    """Prints a warning in one paragraph."""
    err.print(f"simenv: {masked(text)}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def fail(text: str) -> None:
    """Prints what went wrong in one paragraph."""
    err.print(f"simenv: {masked(text)}", style="red", markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Prints one line beside the results, for instance what can be done next."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def written_to(path: object) -> None:
    """Prints the path of the results."""
    out.print(f"written to {path}", style="dim", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def named_bars(width: int = 12) -> Iterator[tuple[Callable[[str, int, int], None], Console]]:
    """Shows one progress bar per part. Yields a callback for (part, done, planned) and a console for other lines."""
    columns = (TextColumn(f"{{task.description:{width}}}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
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


def _stop(progress: Progress) -> None:
    if progress.live.is_started:
        progress.stop()
