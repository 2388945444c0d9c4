"""Asks whether the disk holds the rest of a run, once its first chunk shows how much an auction takes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from simenv.errors import CannotWrite

UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class SpaceCheck:
    """Compares what the rest of a run needs with the free space, once.

    Args:
        places: Files and folders that the run writes to. They may lie on several disks, and may not exist yet.
    """

    def __init__(self, places: Iterable[Path]) -> None:
        self._before = {place: size_of(place) for place in places}

    def check(self, written: int, left: int, answered: float) -> None:
        """Compares.

        Args:
            written: Auctions written since this object was made; at least 1.
            left: Auctions that are still to be written.
            answered: Auctions answered since then, written or not. Files outside of the run's folder, which are
                cassettes, grow with them.

        Raises:
            CannotWrite: a disk holds less than the rest will take.
        """
        needed: dict[int, tuple[float, Path]] = {}
        for place, before in self._before.items():
            if place.exists():
                disk = place.stat().st_dev
                bytes_, first = needed.get(disk, (0.0, place))
                done = written if place.is_dir() else max(answered, written)
                needed[disk] = (bytes_ + (size_of(place) - before) / done * (written + left - done), first)
        for bytes_, place in needed.values():
            free = shutil.disk_usage(place).free
            if bytes_ > free:
                raise CannotWrite(
                    f"{place}: the {left} auctions that are left take about {_shown(bytes_)}, {_shown(free)} are free",
                    hint="what is written can be resumed; with ignore_disk_space the run goes on anyway",
                )


def size_of(place: Path) -> int:
    """Bytes of a file, or of the files directly in a folder; 0 if there is none."""
    if place.is_dir():
        return sum(file.stat().st_size for file in place.iterdir() if file.is_file())
    return place.stat().st_size if place.is_file() else 0


def _shown(number: float) -> str:
    return next((f"{number / unit:.1f} {name}" for unit, name in UNITS if number >= unit), f"{number:.0f} bytes")
