"""The file of a pack during writing, and its manifest."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, NonNegativeInt

from simenv.errors import DataFileError, InputError
from simenv.files.atomic import append_bytes, write_bytes_atomically
from simenv.files.limits import read_bytes
from simenv.records import Usage


class _Progress(BaseModel):
    """What a manifest says of the progress of a pack; it has other fields, too."""

    rejected: dict[str, NonNegativeInt]
    usage: Usage
    calls: NonNegativeInt
    started: str


class PackFile:
    """Opens a new pack, or resumes one that was started with the same options.

    Args:
        path: A .jsonl file.
        identity: Fields that identify the pack: kind, model, seed, prompts. Only a pack with equal fields is resumed.
        sha256: Computes the hash of a file's records.

    Raises:
        DataFileError: another file extension, no such folder, or a file that `make_pack` did not write.
        InputError: the pack was started with other options.
    """

    def __init__(self, path: Path, identity: dict[str, Any], sha256: Callable[[Path], str]) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.rejected: Counter[str] = Counter()
        self.usage = Usage()
        self.calls = 0
        self._identity = identity
        self._sha256 = sha256
        self._started = _now()
        self._manifest = path.with_name(f"{path.name}.manifest.json")
        if path.suffix != ".jsonl":
            raise DataFileError(f"{path}: cannot write files of type {path.suffix!r}, expected .jsonl")
        if not path.parent.is_dir():
            raise DataFileError(f"{path}: folder {path.parent} does not exist")
        if self._manifest.exists():
            self._resume()
        elif path.exists():
            raise DataFileError(f"{path} exists and has no {self._manifest.name}: give a new file")
        self._calls_before = self.calls

    def next_call(self) -> int:
        """Returns the number of the next call. Numbers continue after a resume, so that new calls draw new samples."""
        self.calls += 1
        return self.calls

    def next_name(self) -> str:
        """Returns a name for the next record: the file's name and the number of the record."""
        stem = re.sub(r"[^a-z0-9]+", "-", self.path.stem.lower()).strip("-")[:50] or "pack"
        return f"{stem}-{len(self.rows) + 1:03d}"

    def count(self, usage: Usage) -> None:
        self.usage = self.usage + usage

    def reject(self, reason: str) -> None:
        self.rejected[reason] += 1

    def append(self, row: dict[str, Any]) -> None:
        """Appends a record to the file and flushes it to disk."""
        append_bytes(self.path, json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.rows.append(row)

    def save(self, **more: Any) -> None:
        """Writes the manifest."""
        manifest = {
            "format": 1,
            **self._identity,
            "started": self._started,
            "stopped": None,
            "records": len(self.rows),
            "calls": self.calls,
            "rejected": dict(self.rejected),
            "usage": self.usage.model_dump(),
            "packages": {name: version(name) for name in ("simenv-ads", "litellm", "transformers")},
            "sha256": None,
            **more,
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        write_bytes_atomically(self._manifest, text.encode())

    def close(self) -> None:
        """Writes the time of the stop and the hash of the records to the manifest.

        Without new calls, the manifest does not change.
        """
        if self.calls > self._calls_before:
            self.save(stopped=_now(), sha256=self._sha256(self.path) if self.rows else None)

    def _resume(self) -> None:
        try:
            before = json.loads(read_bytes(self._manifest).decode())
            progress = _Progress.model_validate(before)
        except (ValueError, RecursionError) as error:
            why = " ".join(str(error).split())
            raise DataFileError(f"{self._manifest}: not the manifest of a pack: {why:.200}") from None
        self.rejected.update(progress.rejected)
        self.usage, self.calls, self._started = progress.usage, progress.calls, progress.started
        differing = [name for name, value in self._identity.items() if before.get(name) != value]
        if differing:
            shown = [f"{name} was {_brief(before.get(name))}, now {_brief(self._identity[name])}" for name in differing]
            raise InputError(f"cannot resume {self.path}: {'; '.join(shown)}", hint="give a new file")
        content = read_bytes(self.path) if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # drop an incomplete last line
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                row = json.loads(line)
                if not isinstance(row["cell"], str):
                    raise TypeError(f"cell must be a string, got {row['cell']!r}")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise DataFileError(f"{self.path}:{number}: not a record of a pack: {error!r}") from None
            self.rows.append(row)
        if whole != content:
            os.truncate(self.path, len(whole))


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
