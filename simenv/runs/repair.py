"""What a repair takes away from a run's log is kept beside it."""

from __future__ import annotations

import hashlib
import os
from itertools import count
from pathlib import Path
from typing import Any

from simenv.files.atomic import write_bytes_atomically, writing
from simenv.runs.log import CHUNKS, LOG
from simenv.runs.rows import whole_rows

DAMAGED = ".damaged"
"""Ending of the file that keeps what was taken away; a number follows from the second one on."""


NEW_CHUNKS = "chunks.jsonl.new"
"""The checksums of a log in which answers are being replaced."""


def take_new_chunks(folder: Path) -> None:
    """Puts new checksums into their place if they are those of the log; otherwise the log is the old one.

    Raises:
        CannotWrite: the folder cannot be written.
    """
    new = folder / NEW_CHUNKS
    if not new.is_file():
        return
    with writing(new):
        if _fits(whole_rows(new)[0], folder / LOG):
            new.replace(folder / CHUNKS)
        else:
            new.unlink()


def _fits(rows: list[dict[str, Any]], log: Path) -> bool:
    end = 0
    with log.open("rb") as file:
        for row in rows:
            if hashlib.sha256(file.read(row["end"] - end)).hexdigest() != row["sha256"]:
                return False
            end = row["end"]
        return not file.read(1)


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
