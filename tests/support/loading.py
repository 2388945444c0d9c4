"""Error messages of unreadable files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from simenv.errors import SimenvError


def complaint(load: Callable[[Path], Sequence[object]], path: Path) -> str:
    """Returns the error message, which must be one line; the path if the file loads."""
    try:
        records = load(path)
    except SimenvError as error:
        (line,) = str(error).splitlines()
        return line
    return str(path) if records else "no records and no error"
