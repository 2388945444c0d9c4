"""Writes that another process, or whoever reads after a power cut, sees whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""Ending of a temporary file: one that is left over holds nothing that was finished."""


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Gives a temporary file beside `path` to write to, which takes the place of `path` if the block succeeds.

    If the block fails, the temporary file is removed and `path` stays as it was.

    Args:
        path: The file to write. Its folder must exist.
        shared: Other processes may write the same file at the same time.

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
    """Writes a file: a reader sees the old content or the new, never half of it.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(content)


def append_bytes(path: Path, content: bytes) -> None:
    """Appends to a file and makes sure that it is on the disk.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
