"""Atomic writes: a reader sees the complete file or the old one, also after a power failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""Suffix of temporary files. A remaining one belongs to an unfinished write."""


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary file in the same folder, which replaces `path` if the block succeeds.

    If the block fails, the temporary file is removed and `path` is not changed.

    Args:
        path: The file to write. Its folder must exist.
        shared: Whether other processes may write the same file at the same time.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}" if shared else f"{path.name}{PART}")
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Writes a file atomically: a reader sees the old content or the new one.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(content)


def append_bytes(path: Path, content: bytes) -> None:
    """Appends to a file and flushes it to the disk.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
