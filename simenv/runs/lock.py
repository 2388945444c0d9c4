"""One process at a time writes a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from simenv.errors import CannotWrite, InputError

LOCK = ".lock"
"""An empty file in the run's folder. It stays there: only the operating system's lock on it counts, and that ends with
the process that holds it."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes from writing the run in `folder` during the block.

    Args:
        folder: The run's folder. It must exist.

    Raises:
        InputError: another process, or another call in this one, writes the run.
        CannotWrite: the folder cannot be written.
    """
    lock = filelock.FileLock(folder / LOCK, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise InputError(f"{folder} is being written by another process: wait until it ends, or end it") from None
    except OSError as error:
        raise CannotWrite(f"cannot write into {folder}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
