"""Output of commands: one console for results, one for progress and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

out = Console()
"""Results."""
err = Console(stderr=True)
"""Progress, warnings and errors."""


def warn(text: str) -> None:
    """Prints a warning in one paragraph."""
    err.print(f"simenv: {text}", style="yellow", markup=False, highlight=False, soft_wrap=True)


def note(text: str) -> None:
    """Prints one line beside the results, for instance what can be done next."""
    err.print(text, markup=False, highlight=False, soft_wrap=True)


def left_out(sound_only: bool) -> Callable[[str], None] | None:
    """For readers of a run's log: with `sound_only` they warn of what they leave out, otherwise they refuse the run."""
    return (lambda text: warn(f"left out: {text}")) if sound_only else None


def written_to(path: object) -> None:
    """Prints the path of the results."""
    out.print(f"written to {path}", style="dim", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def answers_bar() -> Iterator[tuple[Callable[[int], None], Callable[[], None]]]:
    """Shows a progress bar of answers. Yields callbacks: one for the total, one to call after each answer."""
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    progress = Progress(*columns, console=err, speed_estimate_period=120)
    bar = progress.add_task("answers")

    def started(total: int) -> None:
        progress.update(bar, total=total)
        progress.start()  # only now, so that an earlier error is the only line of output

    try:
        yield started, lambda: progress.advance(bar)
    finally:
        _stop(progress)


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


class _Rate(ProgressColumn):
    """Answers per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "", style="progress.data.speed")
