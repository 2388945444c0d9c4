"""Reads files within limits, so that no file takes all memory or never ends.

Only regular files are read: a pipe may wait forever, a device may have no end. The limits are environment variables:

    SIMENV_MAX_BYTES   bytes of a file that is read as a whole, or of one line of a log; after unpacking; 100,000,000
    SIMENV_MAX_ROWS    rows of a table; 1,000,000
    SIMENV_MAX_FIELD   characters of one cell of a table, or of one line of a .jsonl or .txt file; 1,000,000
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from simenv.errors import DataFileError, InputError

_DEFAULTS = {"SIMENV_MAX_BYTES": 100_000_000, "SIMENV_MAX_ROWS": 1_000_000, "SIMENV_MAX_FIELD": 1_000_000}
_PIECE = 1 << 20


class Limits(NamedTuple):
    """The limits in force."""

    bytes: int
    rows: int
    field: int


def limits() -> Limits:
    """The limits, from the environment.

    Raises:
        InputError: a variable is not a whole number of at least 1.
    """
    return Limits(*map(_limit, _DEFAULTS))


def _limit(name: str) -> int:
    text = os.environ.get(name)
    if text is None:
        return _DEFAULTS[name]
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
        raise InputError(f"environment variable {name} must be a whole number of at least 1, got {text!r:.40}")
    return int(text)


def check_regular(path: Path, expected: str = "file") -> None:
    """Refuses what is not a regular file, before it is opened.

    Raises:
        DataFileError: no such file, a folder, or a pipe, socket or device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataFileError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise DataFileError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        raise DataFileError(f"{path}: is a folder, expected a {expected}")
    if not stat.S_ISREG(mode):
        raise DataFileError(f"{path}: is a pipe, socket or device: copy its content into a file first")


def read_bytes(path: Path, expected: str = "file") -> bytes:
    """Reads a whole file.

    Args:
        path: The file.
        expected: What kind of file is expected, for the message if it is a folder.

    Raises:
        DataFileError: it is not a regular file, cannot be read, or is longer than SIMENV_MAX_BYTES.
    """
    check_regular(path, expected)
    most = limits().bytes
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > most:
        raise too_much(str(path), f"more than {most:,} bytes", "SIMENV_MAX_BYTES")
    return content


def read_lines(path: Path) -> Iterator[bytes]:
    """Reads a file line by line, with the line ends. Only the length of a line is limited, not that of the file.

    Raises:
        DataFileError: as `read_bytes`; the limit is that of one line.
    """
    check_regular(path)
    most = limits().bytes
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(most + 1):
                number += 1
                if len(line) > most:
                    raise too_much(f"{path}:{number}", f"a line of more than {most:,} bytes", "SIMENV_MAX_BYTES")
                yield line
    except OSError as error:
        raise DataFileError(f"{path}: cannot be read: {error.strerror}") from None


def unpacked(path: Path, content: bytes) -> bytes:
    """Unpacks gzip, which may hold several members, up to SIMENV_MAX_BYTES.

    Raises:
        DataFileError: not gzip, cut off, or too long after unpacking.
    """
    most, pieces, size = limits().bytes, [], 0
    member, pending, at = zlib.decompressobj(wbits=31), b"", 0
    try:
        while pending or at < len(content):
            if not pending:
                pending, at = content[at : at + _PIECE], at + _PIECE
            if member.eof:  # another member may follow, after a padding of zeros
                pending = pending.lstrip(b"\0")
                if not pending:
                    continue
                member = zlib.decompressobj(wbits=31)
            pieces.append(member.decompress(pending, _PIECE))
            pending = member.unused_data if member.eof else member.unconsumed_tail
            size += len(pieces[-1])
            if size > most:
                raise too_much(str(path), f"more than {most:,} bytes after unpacking", "SIMENV_MAX_BYTES")
        pieces.append(member.flush())
    except zlib.error as error:
        raise DataFileError(f"{path}: not readable as gzip: {str(error).rpartition(': ')[2]}") from None
    if not member.eof:
        raise DataFileError(f"{path}: not readable as gzip: it is cut off")
    return b"".join(pieces)


def too_much(where: str, what: str, variable: str) -> DataFileError:
    """The error for a file that passes a limit."""
    return DataFileError(f"{where}: {what}: a higher limit can be given in the environment variable {variable}")
