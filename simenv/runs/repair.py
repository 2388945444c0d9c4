"""What a repair takes away from a run's log is kept beside it."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

from simenv.files.atomic import write_bytes_atomically

DAMAGED = ".damaged"
"""Ending of the file that keeps what was taken away; a number follows from the second one on."""


def cut_off(log: Path, end: int) -> tuple[Path, int] | None:
    """Cuts a log of JSON lines at byte `end`, and keeps what follows in a file beside it.

    Returns:
        That file and the number of lines in it that were begun; None where nothing follows.

    Raises:
        OSError: a file cannot be written. The log is then as it was.
    """
    with log.open("r+b") as file:
        file.seek(end)
        removed = file.read()
        if not removed:
            return None
        kept = _free(log.with_name(log.name + DAMAGED))
        write_bytes_atomically(kept, removed)
        file.truncate(end)
        file.flush()
        os.fsync(file.fileno())
    return kept, sum(line.startswith(b"{") for line in removed.split(b"\n"))


def _free(path: Path) -> Path:
    names = (path if i == 1 else path.with_name(f"{path.name}.{i}") for i in count(1))
    return next(name for name in names if not name.exists())
