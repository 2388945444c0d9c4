"""Rows of a run's small files (sessions, chunks, timings): JSON lines, each with a checksum of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any


def to_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Returns the rows as lines that end in a checksum."""
    return b"".join(json.dumps({**row, "check": checksum(row)}, ensure_ascii=False).encode() + b"\n" for row in rows)


def whole_rows(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """Reads rows up to the first incomplete or changed one.

    Returns:
        The rows without their checksums, and whether nothing follows them. No rows and True if there is no file.
    """
    rows: list[dict[str, Any]] = []
    for row in _each(path):
        if row is None:
            return rows, False
        rows.append(row)
    return rows, True


def sound_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields rows, without their checksums, up to the first incomplete or changed one; memory is that of one row."""
    for row in _each(path):
        if row is None:
            return
        yield row


def _each(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yields rows without their checksums, and None at the first one that is incomplete or changed."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            row = _row(line)
            yield row
            if row is None:
                return


def _row(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):  # what follows the last line end is incomplete
        return None
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and row.pop("check", None) == checksum(row) else None


def checksum(row: Mapping[str, Any]) -> str:
    """The first 16 digits of the SHA-256 of a row as JSON."""
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16]
