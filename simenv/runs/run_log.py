"""Where a run's answers go: new chunks to the end of the log, answers that were asked for again into their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from simenv.records import Transition
from simenv.runs.folder import RunFolder
from simenv.runs.space import SpaceCheck
from simenv.runs.window import Finished


class RunLog:
    """The log of a run that goes on, for a `with` block.

    Args:
        run: The run's folder.
        done: Its transitions by (index, mechanism).
        n: Auctions of the run, or of the shard of it that is run here.
        again: Whether failed answers are asked for again.
        places: Files and folders that grow with the run. After the first new chunk, their disks must hold the rest;
            None: that is not asked.
    """

    def __init__(
        self,
        run: RunFolder,
        done: Mapping[tuple[int, str], Transition],
        *,
        n: int,
        again: bool,
        places: Iterable[Path] | None = None,
    ) -> None:
        self._run = run
        self._space = None if places is None else SpaceCheck(places)
        self._failed = {key for key, t in done.items() if again and t.error is not None}
        self._last = max((index for index, _ in done), default=-1)
        self._left = n - len({index for index, _ in done})
        self._fresh: dict[tuple[int, str], Transition] = {}
        self.done = {key: t for key, t in done.items() if key not in self._failed}
        """What is not asked for again."""
        self.answered = 0.0
        """Auctions answered now, written or not; a mechanism's answer is a part of one."""

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        """Writes the answers that were asked for again, also where the run ends with an error."""
        if self._fresh:
            self._run.replace(self._fresh)

    def write(self, finished: Finished) -> None:
        """Writes a finished chunk, or remembers its new answers if the log has the chunk.

        Raises:
            CannotWrite: the disk is full, or will not hold the rest of the run. The chunk is complete then.
        """
        first, last = finished.transitions[0].index, finished.transitions[-1].index
        if first <= self._last:
            rows = {(t.index, t.mechanism): t for t in finished.transitions}
            self._fresh |= {key: t for key, t in rows.items() if key in self._failed}
            return
        self._run.append(finished)
        if self._space is not None:
            written = last + 1 - first
            self._space.check(written, self._left - written, self.answered)
            self._space = None
