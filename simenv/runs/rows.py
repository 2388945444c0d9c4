"""Rows of a run's small files (sessions, chunks, timings): JSON lines, each with a checksum of its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
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
    content = path.read_bytes() if path.is_file() else b""
    *lines, rest = content.split(b"\n")  # what follows the last line end is incomplete
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            return rows, False
        if not isinstance(row, dict) or row.pop("check", None) != checksum(row):
            return rows, False
        rows.append(row)
    return rows, not rest


def checksum(row: Mapping[str, Any]) -> str:
    """The first 16 digits of the SHA-256 of a row as JSON."""
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16]
