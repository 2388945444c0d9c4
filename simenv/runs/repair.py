"""What a repair takes away from a run's log is kept beside it."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from simenv.files.atomic import write_bytes_atomically, writing

DAMAGED = ".damaged"
"""Ending of the file that keeps what was taken away; a number follows from the second one on."""


def cut_off(log: Path, end: int) -> tuple[Path, int] | None:
    """Cuts a log of JSON lines at byte `end`, and keeps what follows in a file beside it.

    Returns:
        That file and the number of lines in it that were begun; None where nothing follows.

    Raises:
        CannotWrite: a file cannot be written. The log is then as it was.
    """
    with writing(log), log.open("rb") as file:
        file.seek(end)
        removed = file.read()
    if not removed:
        return None
    kept = _place_of(removed, log.with_name(log.name + DAMAGED))
    if not kept.exists():
        write_bytes_atomically(kept, removed)
    truncate(log, end)
    return kept, sum(line.startswith(b"{") for line in removed.split(b"\n"))


def truncate(log: Path, end: int) -> None:
    """Cuts a file at byte `end`.

    Raises:
        CannotWrite: it cannot be written.
    """
    with writing(log), log.open("r+b") as file:
        file.truncate(end)
        os.fsync(file.fileno())


def _place_of(removed: bytes, path: Path) -> Path:
    """A free name, or that of the same bytes: an earlier repair was killed before it had cut them off."""
    names = (path if i == 1 else path.with_name(f"{path.name}.{i}") for i in count(1))
    return next(name for name in names if not name.exists() or name.read_bytes() == removed)
