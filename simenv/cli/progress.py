"""Progress of a run: a bar on a terminal, and a line every half minute where there is none.

Rates and the time left count only answers that ran now. Those of a resumed run's log, and those whose completions all
come from a cassette, are done in no time and say nothing about the others.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from simenv.cli import console
from simenv.errors import SimenvError
from simenv.llm.server_health import longest_wait

if TYPE_CHECKING:
    from simenv.runs.answering import Progress as Report

EVERY = 30.0
"""Seconds between two lines where there is no terminal."""
_WINDOW = 600.0
"""Seconds over which the rate is measured: a local model's answers come in bursts, minutes apart."""


class RunProgress:
    """The stages of a run, and how far the present one is.

    Args:
        console: Where it is shown.
        clock: Seconds, as of `time.monotonic`.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._lock = threading.Lock()
        self._stage = ""
        self._done = 0
        self._total: int | None = None
        self._working_since = self._last_line = clock()
        self._fresh: deque[float] = deque()
        """When answers ended that ran now, within the window."""
        self._answering = False
        self._bar: Progress | None = None

    def stage(self, name: str) -> None:
        """Begins a stage, such as "loading"."""
        self._begin(name, None)

    def counted(self, done: int, total: int) -> None:
        """Tells how far the stage is that has counts."""
        with self._lock:
            self._done, self._total = done, total
        self._draw()

    def started(self, total: int) -> None:
        """Begins the answers."""
        self._answering = True
        self._begin("answers", total)

    def answered(self) -> None:
        """Counts an answer that ran now."""
        with self._lock:
            self._done += 1
            self._fresh.append(self._clock())
        self._draw()

    def skipped(self) -> None:
        """Counts an answer that was there already."""
        with self._lock:
            self._done += 1
            if not self._fresh:
                self._working_since = self._clock()
        self._draw()

    @property
    def rate(self) -> float | None:
        """Answers per second that ran now, over the last ten minutes; None: none did."""
        with self._lock:
            now = self._clock()
            while self._fresh and self._fresh[0] <= now - _WINDOW:
                self._fresh.popleft()
            span = now - max(self._working_since, now - _WINDOW)
            return len(self._fresh) / span if self._fresh and span > 0 else None

    def text(self) -> str:
        """The present stage in one line, for instance "answers 312/640, 1.25/s, 4:22 left"."""
        count = "" if self._total is None else f" {self._done}/{self._total}"
        return ", ".join([f"{self._stage}{count}", *self.pace()])

    def pace(self) -> list[str]:
        """Rate, time left, and how long a server asks to wait; nothing where they are unknown."""
        wait = longest_wait()
        waits = [] if wait is None else [f"no calls for {wait[1]:.0f} s: {wait[0]} asks to wait"]
        rate = self.rate if self._answering else None
        if rate is None or self._total is None:
            return waits
        minutes, seconds = divmod(round((self._total - self._done) / rate), 60)
        hours, minutes = divmod(minutes, 60)
        left = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return [f"{rate:.2f}/s", f"{left} left", *waits]

    def tick(self) -> None:
        """Prints a line if the last one is half a minute old. Called every second where there is no terminal."""
        if self._stage and self._clock() >= self._last_line + EVERY:
            self._line()

    def end(self) -> None:
        """Ends the bar, or prints the last line if answers were begun."""
        if self._bar is not None:
            self._bar.stop()
        elif self._answering:
            self._line()

    def _begin(self, name: str, total: int | None) -> None:
        with self._lock:
            self._stage, self._done, self._total = name, 0, total
            self._working_since = self._clock()
        if not self._console.is_terminal:
            return
        if self._bar is not None:
            self._bar.stop()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Pace(self))
        # What was before the answers disappears, so that an earlier error is the only line of output.
        self._bar = Progress(*columns, console=self._console, transient=not self._answering)
        self._bar.add_task(name, total=total)
        self._bar.start()

    def _draw(self) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._done, total=self._total)

    def _line(self) -> None:
        self._last_line = self._clock()
        self._console.print(self.text(), highlight=False, soft_wrap=True)


@contextmanager
def run_progress(screen: Console) -> Iterator[RunProgress]:
    """Shows a run's progress on `screen`."""
    progress = RunProgress(screen)
    ended = threading.Event()

    def tick() -> None:
        while not ended.wait(1.0):
            progress.tick()

    ticker = threading.Thread(target=tick, name="simenv progress", daemon=True)
    if not screen.is_terminal:
        ticker.start()
    try:
        yield progress
    finally:
        ended.set()
        progress.end()


@contextmanager
def followed(go_on: str | None) -> Iterator[Report]:
    """Shows the progress of a run on the terminal, for a `with` block that runs it.

    Args:
        go_on: What to say if the run stops after it has begun; None: nothing.

    Yields:
        What the run reports to.
    """
    from simenv.runs.answering import Progress as Report

    begun = False
    try:
        with run_progress(console.err) as shown:

            def started(answers: int) -> None:
                nonlocal begun
                begun = True
                shown.started(answers)

            yield Report(
                stage=shown.stage,
                encoded=shown.counted,
                started=started,
                answered=shown.answered,
                skipped=shown.skipped,
                warned=console.warn,
                noted=console.note,
            )
    except SimenvError as error:
        if begun and go_on is not None:
            error.add_note(go_on)
        raise
    except (KeyboardInterrupt, SystemExit):
        if begun and go_on is not None:
            console.note(go_on)
        raise


class _Pace(ProgressColumn):
    """Rate and time left of the answers."""

    def __init__(self, progress: RunProgress) -> None:
        super().__init__()
        self._progress = progress

    def render(self, task: Task) -> Text:
        return Text("  ".join(self._progress.pace()), style="progress.data.speed")
