"""A catalog on disk: of 10^6 ads only those that are candidates become objects.

The first time that a long catalog is read, every row is checked and written as one line of JSON into the user's cache
folder, under a hash of the file, its column names and our version. Later runs use these lines. Their SHA-256 is the
catalog's hash in manifests, and it is checked whenever they are opened.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import warnings
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, overload

import filelock
import numpy as np
import numpy.typing as npt

from simenv.errors import DataFileError, DataFileWarning
from simenv.files.atomic import PART, write_bytes_atomically, writing
from simenv.files.characters import as_seen
from simenv.llm.weights import cache_dir
from simenv.records import Ad

LARGE = 50_000
"""Catalogs of more ads are read from disk, and their candidates are found by an index. Smaller ones are searched
exactly: that takes at most about 10 ms a query."""
_SHORTEST = 10
"""Bytes of a row that a file has at least; one that has fewer than LARGE of them is not looked up."""
Located = tuple[Ad, str]
"""An ad and its row, "FILE:LINE"."""


class AdFile(Sequence[Ad]):
    """The ads of a folder that `kept` has written. A sequence like any other, whose ads are read when they are needed.

    Args:
        folder: The folder.

    Raises:
        OSError, ValueError: it holds no catalog, or not what was written.
    """

    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_bytes())
        with (folder / "ads.jsonl").open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != about["sha256"]:
                raise ValueError(f"{folder} is not as it was written")
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._ends: npt.NDArray[np.int64] = np.load(folder / "ends.npy")
        self.sha256: str = about["sha256"]
        """SHA-256 of the ads: the catalog's version, see `simenv.runs.folder.records_hash`."""
        self.warnings: list[str] = about["warnings"]
        """What was warned of when the file was read."""
        if len(self._ends) != about["ads"] or self._ends[-1] != len(self._lines):
            raise ValueError(f"{folder} is not as it was written")

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> Ad: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Ad, ...]: ...

    def __getitem__(self, place: int | slice) -> Ad | tuple[Ad, ...]:
        if isinstance(place, slice):
            return tuple(self[i] for i in range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(f"ad {place} of {len(self)}")
        return Ad.model_validate_json(self._line(place % len(self)))

    def _line(self, place: int) -> bytes:
        return self._lines[int(self._ends[place - 1]) if place else 0 : int(self._ends[place])]


def open_kept(source: Path, columns: Mapping[str, str] | None) -> AdFile | None:
    """The catalog of a file, if the cache folder has it.

    Args:
        source: The file.
        columns: As for `load_catalog`: they belong to what the file says.
    """
    try:
        if source.stat().st_size < LARGE * _SHORTEST or not source.is_file():
            return None
        ads = AdFile(_folder(source, columns))
    except (OSError, ValueError, KeyError, EOFError):
        return None
    for text in ads.warnings:
        warnings.warn(text, DataFileWarning, stacklevel=3)
    return ads


def keep(source: Path, columns: Mapping[str, str] | None, ads: Iterable[Located]) -> AdFile:
    """Writes the catalog of a file into the cache folder. Other processes that need it wait.

    Args:
        source, columns: As for `open_kept`.
        ads: The ads of the file, each checked by itself, with its row.

    Raises:
        DataFileError: a row, or two rows that contradict each other.
        CannotWrite: the cache folder cannot be written.
    """
    folder = _folder(source, columns)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / ".lock")
        with lock:
            with suppress(OSError, ValueError, KeyError, EOFError):
                return AdFile(folder)  # of a process that was first
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                about = _write(folder, ads)
            said = [it for it in caught if issubclass(it.category, DataFileWarning)]
            about["warnings"] = [str(it.message) for it in said]
            write_bytes_atomically(folder / "about.json", json.dumps(about).encode())
    for it in said:
        warnings.warn(str(it.message), DataFileWarning, stacklevel=3)
    return AdFile(folder)


def _folder(source: Path, columns: Mapping[str, str] | None) -> Path:
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    # The ending says how the file is read; another version may check otherwise.
    read_as = [source.name.lower().partition(".")[2], sorted((columns or {}).items()), version("simenv-ads")]
    digest.update(json.dumps(read_as).encode())
    return cache_dir() / "catalogs" / digest.hexdigest()


def _write(folder: Path, rows: Iterable[Located]) -> dict[str, Any]:
    """Writes the lines of a catalog, and returns what `about.json` says, without which they do not count."""
    (folder / "about.json").unlink(missing_ok=True)
    digest, end = hashlib.sha256(), 0
    ends, lines, ids, titles, seen = array("q"), array("q"), array("Q"), array("Q"), array("Q")
    part = folder / f"ads.jsonl{PART}"
    where = ""
    with writing(part), part.open("wb") as file:
        for ad, where in rows:
            line = ad.model_dump_json().encode() + b"\n"
            digest.update(line)
            file.write(line)
            end += len(line)
            ends.append(end)
            lines.append(int(where.rpartition(":")[2]))
            for hashes, text in ((ids, ad.id), (titles, ad.title), (seen, as_seen(ad.title))):
                hashes.append(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))
    _refuse_doubles(where.rpartition(":")[0], part, *(np.array(it) for it in (ends, lines, ids, titles, seen)))
    with writing(folder):
        part.replace(folder / "ads.jsonl")
        np.save(folder / "ends.npy", np.array(ends))
    return {"ads": len(ends), "sha256": digest.hexdigest()}


def _refuse_doubles(
    source: str,
    part: Path,
    ends: npt.NDArray[np.int64],
    lines: npt.NDArray[np.int64],
    ids: npt.NDArray[np.uint64],
    titles: npt.NDArray[np.uint64],
    seen: npt.NDArray[np.uint64],
) -> None:
    """Refuses two ads of one id, and two titles that look alike. Hashes find them, their texts decide."""

    def ad(place: int) -> Ad:
        with part.open("rb") as file:
            file.seek(int(ends[place - 1]) if place else 0)
            return Ad.model_validate_json(file.readline())

    for place, other in _same(ids):
        if ad(place).id == ad(other).id:
            raise DataFileError(
                f"{source}:{lines[other]}: duplicate ad id {ad(other).id!r}, first used at {source}:{lines[place]}"
            )
    for place, other in _same(seen):
        one, two = ad(place).title, ad(other).title
        if titles[place] != titles[other] and as_seen(one) == as_seen(two):
            raise look_alike(f"{source}:{lines[other]}", two, one, f"{source}:{lines[place]}")


def _same(hashes: npt.NDArray[np.uint64]) -> Iterable[tuple[int, int]]:
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    return sorted((int(order[i]), int(order[i + 1])) for i in equal)


def look_alike(where: str, title: str, other: str, other_where: str) -> DataFileError:
    """The error for two titles that differ only by characters that nobody sees."""
    return DataFileError(
        f"{where}: title {title!a} looks like {other!a} at {other_where}: they differ only by characters that "
        "nobody sees"
    )
