"""Merges the parts of a sharded run into the folder that one process would have written.

transitions.jsonl, sessions.jsonl, chunks.jsonl and the tables are the same to the byte. The manifest lists the parts.
The log is copied chunk by chunk, each compared with its checksum.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from simenv.errors import DataFileError
from simenv.files.atomic import PART, write_bytes_atomically, writing
from simenv.files.folders import check_folder, ensure_folder
from simenv.runs.bench import BenchResult, result_of
from simenv.runs.build import metrics_of
from simenv.runs.ceilings import CEILINGS, SPENT
from simenv.runs.folder import TIMINGS
from simenv.runs.lock import LOCK, locked
from simenv.runs.log import CHUNKS, LOG, SESSIONS, chunks_of_log
from simenv.runs.manifest import MANIFEST, command, manifest_bytes, now, refuse_other_version
from simenv.runs.options import options_of_manifest
from simenv.runs.parts import OWN_FILES, Part, parts_of_run
from simenv.runs.resume import MAY_CHANGE
from simenv.runs.rows import sound_rows, to_lines
from simenv.runs.shards import Blocks

_HINT = "resume the part to write it again"


def merge(folders: Sequence[str | Path], out: str | Path, *, across_machines: bool = False) -> BenchResult:
    """Merges the parts of a sharded run: all shards, each once. The parts stay as they are.

    Memory does not grow with the length of the log while it is merged; the tables are then made as in `bench`.

    Args:
        folders: The folders of the parts, in any order. A shard that ran twice with the same bytes may be there twice.
        out: A new folder, for the whole run. It appears when everything is written.
        across_machines: Also merge parts of machines that may give other bytes: processors with other instructions, and
            where a local model runs other processors, threads or devices.

    Raises:
        PartsMissing: a shard has no part, or a part is not finished.
        InputError: the parts are not of one run: other options, data, files, code or versions of packages.
        DataFileError: a part is damaged, or `out` is not new.
        CannotWrite: `out` cannot be written.
    """
    folder = Path(out)
    check_folder(folder)
    parts = parts_of_run([Path(part) for part in folders], across_machines=across_machines)
    refuse_other_version(parts[0].folder, parts[0].manifest, "merge it")
    manifest = _manifest(parts)
    options = options_of_manifest(manifest["options"], str(folder))
    blocks = Blocks(options.n, options.chunk, options.horizon)
    metrics = metrics_of(options)
    with _appearing(folder) as unfinished:
        _write_log(unfinished, parts, blocks, options.n, options.chunk)
        sessions = range(-(-options.n // options.horizon))
        _write_sessions(unfinished, parts, blocks, sessions, options.horizon)
        _write_spent(unfinished, parts)
        write_bytes_atomically(unfinished / MANIFEST, manifest_bytes(manifest))
        result = result_of(unfinished, manifest, options, metrics)
        finished = {**manifest, "finished": now(), "judge_disagreement": result.disagreement}
        write_bytes_atomically(unfinished / MANIFEST, manifest_bytes(finished))
    return BenchResult(folder, result.summary, None, result.disagreement, result.problems)


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """Yields a folder beside `folder`, which gets its name if the block succeeds. What an earlier merge left in it,
    which was killed, is removed."""
    unfinished = folder.with_name(folder.name + PART)
    ensure_folder(unfinished)
    with locked(unfinished):
        _empty(unfinished)
        try:
            yield unfinished
            with writing(folder):
                unfinished.replace(folder)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise


def _empty(folder: Path) -> None:
    with writing(folder):
        for file in folder.iterdir():
            if file.name != LOCK:
                file.unlink()


def _write_log(folder: Path, parts: Sequence[Part], blocks: Blocks, n: int, chunk: int) -> None:
    """Writes transitions, chunks and timings, in the order of the chunks."""
    logs = [_Log(part) for part in parts]
    end = 0
    with _new(folder / LOG) as log, _new(folder / CHUNKS) as chunks, _new(folder / TIMINGS) as timings:
        for number in blocks.chunks():
            of_part = logs[blocks.shard_of(number, len(parts))]
            first, last = number * chunk, min((number + 1) * chunk, n) - 1
            content = of_part.chunk(first, last)
            end += len(content)
            digest = hashlib.sha256(content).hexdigest()
            log.write(content)
            chunks.write(to_lines([{"first_index": first, "last_index": last, "end": end, "sha256": digest}]))
            timings.write(to_lines(of_part.timings(first)))
    for part in logs:
        part.check_end()


class _Log:
    """The log of a part, read chunk by chunk."""

    def __init__(self, part: Part) -> None:
        self._file = part.folder / LOG
        self._chunks = chunks_of_log(part.folder)
        self._timings = sound_rows(part.folder / TIMINGS)
        self._ahead: dict[str, Any] | None = None
        self._end = 0

    def chunk(self, first: int, last: int) -> bytes:
        """The bytes of the next chunk, which must be that of these auctions."""
        row, content = next(self._chunks, ({}, None))
        if content is None or (row["first_index"], row["last_index"]) != (first, last):
            raise DataFileError(f"{self._file}: auctions {first} to {last} are not as they were written", hint=_HINT)
        self._end = row["end"]
        return content

    def timings(self, first: int) -> Iterator[dict[str, Any]]:
        """The seconds of a chunk. They are no result, so that a part may lack some."""
        for row in chain([] if self._ahead is None else [self._ahead], self._timings):
            self._ahead = row
            if row["first_index"] > first:
                return
            self._ahead = None
            if row["first_index"] == first:
                yield row

    def check_end(self) -> None:
        """Raises DataFileError if the part has more than its chunks."""
        if next(self._chunks, None) is not None or self._file.stat().st_size != self._end:
            raise DataFileError(f"{self._file}: it goes on after its last chunk", hint=_HINT)


def _write_sessions(folder: Path, parts: Sequence[Part], blocks: Blocks, sessions: range, horizon: int) -> None:
    """Writes the sessions by number. Each is in one part: a block has whole sessions."""
    of_parts = [_Sessions(part) for part in parts]
    with _new(folder / SESSIONS) as file:
        for number in sessions:
            block = number * horizon // blocks.auctions
            file.write(to_lines([of_parts[block % len(parts)].row(number)]))


class _Sessions:
    """The sessions of a part, read in the order of their numbers."""

    def __init__(self, part: Part) -> None:
        self._file = part.folder / SESSIONS
        self._rows = sound_rows(self._file)
        self._ahead: dict[int, dict[str, Any]] = {}

    def row(self, number: int) -> dict[str, Any]:
        while number not in self._ahead:
            row = next(self._rows, None)
            if row is None:
                raise DataFileError(f"{self._file}: session {number} is not as it was written", hint=_HINT)
            self._ahead[row["number"]] = row
        return self._ahead.pop(number)


def _write_spent(folder: Path, parts: Sequence[Part]) -> None:
    """Writes what the parts spent, one after another, so that a resume of the whole run counts it."""
    with _new(folder / SPENT) as file:
        for part in parts:
            file.writelines(to_lines([row]) for row in sound_rows(part.folder / SPENT))


@contextmanager
def _new(path: Path) -> Iterator[IO[bytes]]:
    """A new file that is on the disk when the block ends."""
    with writing(path), path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _manifest(parts: Sequence[Part]) -> dict[str, Any]:
    """The manifest of the whole run, before it is finished."""
    manifests = [part.manifest for part in parts]
    first = manifests[0]
    options = {**first["options"], "shard": None, **dict.fromkeys(CEILINGS)}  # ceilings are those of one part
    for name in OWN_FILES:
        if any(manifest["options"].get(name) != options.get(name) for manifest in manifests):
            options[name] = None
    retries: Counter[str] = Counter()
    for manifest in manifests:
        retries.update(manifest.get("retries") or {})
    return {
        **first,
        "started": min(manifest["started"] for manifest in manifests),
        "finished": None,
        "command": command(),
        "options": options,
        "resumed": [
            {"shard": str(part.shard), **entry} for part in parts for entry in part.manifest.get("resumed") or []
        ],
        "parts": [_entry(part) for part in parts],
        "retries": dict(retries),
    }


def _entry(part: Part) -> dict[str, Any]:
    """What the manifest says of a part: all in which the parts of a run may differ."""
    own = ("started", "finished", "command", "platform", "machine")
    options = {name: part.manifest["options"].get(name) for name in (*OWN_FILES, *sorted(MAY_CHANGE))}
    return {
        "shard": str(part.shard),
        "folder": str(part.folder),
        **{name: part.manifest.get(name) for name in own},
        "options": options,
    }
