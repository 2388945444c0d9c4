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
    rows = list(each_row(path))
    whole = [row for row in rows if row is not None]
    return whole, len(whole) == len(rows)


def sound_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yields rows, without their checksums, up to the first incomplete or changed one; memory is that of one row."""
    return (row for row in each_row(path) if row is not None)


def each_row(path: Path) -> Iterator[dict[str, Any] | None]:
    """Yields rows without their checksums, and None in the place of the first incomplete or changed one, the last."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for line in file:
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict) or row.pop("check", None) != checksum(row):
                yield None
                return
            yield row


def checksum(row: Mapping[str, Any]) -> str:
    """The first 16 digits of the SHA-256 of a row as JSON."""
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16]
