"""The file of a pack that is being written, and its manifest."""

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

from simenv.errors import DataFileError, InputError
from simenv.files.atomic import append_bytes, write_bytes_atomically
from simenv.records import Usage


class PackFile:
    """Opens a new pack, or goes on with one that was begun with the same options.

    Args:
        path: A .jsonl file.
        what: What names the pack: kind, model, seed, prompts. A pack that was begun otherwise is not gone on with.
        sha256: Of a file's records.

    Raises:
        DataFileError: another ending, no such folder, or a file that is no pack written here.
        InputError: it was begun with other options.
    """

    def __init__(self, path: Path, what: dict[str, Any], sha256: Callable[[Path], str]) -> None:
        self.path = path
        self.rows: list[dict[str, Any]] = []
        self.rejected: Counter[str] = Counter()
        self.usage = Usage()
        self.calls = 0
        self._what = what
        self._sha256 = sha256
        self._started = _now()
        self._manifest = path.with_name(f"{path.name}.manifest.json")
        if path.suffix != ".jsonl":
            raise DataFileError(f"{path}: ending {path.suffix!r} is not written here, expected .jsonl")
        if not path.parent.is_dir():
            raise DataFileError(f"{path}: folder {path.parent} does not exist")
        if self._manifest.exists():
            self._go_on()
        elif path.exists():
            raise DataFileError(f"{path} exists and has no {self._manifest.name}: give a new file")
        self._calls_before = self.calls

    def next_call(self) -> int:
        """A number for one more call: a second start draws other samples than the first."""
        self.calls += 1
        return self.calls

    def next_name(self) -> str:
        """What the next record is called, if it needs a name: the file's own and the line."""
        stem = re.sub(r"[^a-z0-9]+", "-", self.path.stem.lower()).strip("-")[:50] or "pack"
        return f"{stem}-{len(self.rows) + 1:03d}"

    def count(self, usage: Usage) -> None:
        self.usage = self.usage + usage

    def reject(self, reason: str) -> None:
        self.rejected[reason] += 1

    def append(self, row: dict[str, Any]) -> None:
        """Writes a record through to the disk."""
        append_bytes(self.path, json.dumps(row, ensure_ascii=False).encode() + b"\n")
        self.rows.append(row)

    def save(self, **more: Any) -> None:
        """Writes the manifest."""
        manifest = {
            "format": 1,
            **self._what,
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
        """Notes when it stopped and what the records' hash is, as a run's manifest will have it.

        A start that asked nothing leaves everything as it was.
        """
        if self.calls > self._calls_before:
            self.save(stopped=_now(), sha256=self._sha256(self.path) if self.rows else None)

    def _go_on(self) -> None:
        try:
            before = json.loads(self._manifest.read_text(encoding="utf-8"))
            self.rejected.update(before["rejected"])
            self.usage = Usage.model_validate(before["usage"])
            self.calls, self._started = int(before["calls"]), str(before["started"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataFileError(f"{self._manifest}: not the manifest of a pack: {error!r}") from None
        other = [name for name, value in self._what.items() if before.get(name) != value]
        if other:
            shown = [f"{name} was {_brief(before.get(name))}, now {_brief(self._what[name])}" for name in other]
            raise InputError(f"cannot go on with {self.path}: {'; '.join(shown)}", hint="give a new file")
        content = self.path.read_bytes() if self.path.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]  # a torn last line is written anew
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
            try:
                row = json.loads(line)
                if not isinstance(row["cell"], str):
                    raise TypeError("its cell is no text")
            except (ValueError, KeyError, TypeError) as error:
                raise DataFileError(f"{self.path}:{number}: not a record written here: {error!r}") from None
            self.rows.append(row)
        if whole != content:
            os.truncate(self.path, len(whole))


def _brief(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
