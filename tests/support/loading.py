"""What a file that cannot be read is refused with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from simenv.errors import SimenvError


def complaint(load: Callable[[Path], Sequence[object]], path: Path) -> str:
    """The error's message, which must be one line; the path where it loads."""
    try:
        records = load(path)
    except SimenvError as error:
        (line,) = str(error).splitlines()
        return line
    return str(path) if records else "nothing was loaded, and nothing said"
