"""Writes that leave nothing incomplete: a reader sees the complete file or the old one, also after a power failure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from simenv.errors import CannotWrite

PART = ".part"
"""Suffix of temporary files. A remaining one belongs to an unfinished write."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns an OSError of the block into one line that names `path`.

    Raises:
        CannotWrite: the operating system refused: full disk, limit on the size of a file, read-only folder.
    """
    try:
        yield
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Yields a temporary file in the same folder, which replaces `path` if the block succeeds.

    If the block fails, the temporary file is removed and `path` is not changed.

    Args:
        path: The file to write. Its folder must exist.
        shared: Whether other processes may write the same file at the same time.

    Raises:
        CannotWrite: the file cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}{PART}" if shared else f"{path.name}{PART}")
    with writing(path):
        try:
            yield part
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            raise


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """Writes a file atomically: a reader sees the old content or the new one.

    Raises:
        CannotWrite: the file cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(content)


def append_bytes(path: Path, content: bytes, *, flush: bool = True) -> None:
    """Appends to a file: all of `content`, or nothing where the operating system refuses a part of it.

    Args:
        path: The file. Its folder must exist.
        content: What to append.
        flush: Whether to wait until it is on the disk, so that it outlives a power failure.

    Raises:
        CannotWrite: the file cannot be written.
    """
    with writing(path), path.open("ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            rest = memoryview(content)
            while rest:  # a nearly full disk takes a part
                rest = rest[file.write(rest) :]
            if flush:
                os.fsync(file.fileno())
        except OSError:
            with suppress(OSError):
                file.truncate(end)
            raise
