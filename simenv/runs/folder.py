"""A run's folder.

manifest.json       versions, seeds, models, options, hashes of data, code and files
sessions.jsonl      sessions with their queries, so that a User-LLM writes each session's queries once
transitions.jsonl   one Transition per line, by index, then by mechanism
chunks.jsonl        for each finished chunk, its end in transitions.jsonl and the SHA-256 of its bytes
spent.jsonl         calls, cost and seconds of models, for each time a chunk was finished; see `simenv.runs.ceilings`
timings.jsonl       seconds per chunk and mechanism; a separate file, so that repeated runs have equal transitions
table.csv           every metric of every mechanism with its interval, long format
table.md            the same for people
.lock               locked while a process writes the run

A chunk is written before its row is added to chunks.jsonl. A process that is killed loses nothing that was written.
What is written is flushed to the disk too, at most once a second: a power failure costs no more than a second's work,
since its chunks are found unsound then, and run again. Rows of the small files end in a checksum: the first 16 digits
of the SHA-256 of the row without it. When a run is resumed, everything after the last sound chunk is cut off and run
again. What is cut off transitions.jsonl is kept in transitions.jsonl.damaged, then in transitions.jsonl.damaged.2 and
so on.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from simenv.files.atomic import PART, append_bytes, write_bytes_atomically
from simenv.files.folders import check_folder, ensure_folder
from simenv.market.ad_file import AdFile
from simenv.records import Record, Transition
from simenv.runs.lock import LOCK
from simenv.runs.log import (
    CHUNKS,
    LOG,
    SESSIONS,
    auctions_in,
    read_sessions,
    read_transitions,
    sound_chunks,
    to_log_lines,
    to_session,
)
from simenv.runs.manifest import MANIFEST, manifest_bytes, manifest_to_resume, new_manifest, now, read_manifest
from simenv.runs.repair import NEW_CHUNKS, cut_off, take_new_chunks, truncate
from simenv.runs.rows import to_lines, whole_rows
from simenv.runs.shards import span_of_options
from simenv.runs.window import Finished
from simenv.world import Session

TIMINGS = "timings.jsonl"
_FLUSHES = 1.0
"""Seconds between two flushes. One takes as long as several auctions of a run without a language model."""


class RunFolder:
    """The folder that a run writes to.

    Args:
        path: A folder that does not exist yet, or is empty.

    Raises:
        DataFileError: the folder holds files already, or is a file.
        CannotWrite: it cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.repaired: str | None = None
        """What `reopen` has taken away, for a warning."""
        self._manifest: dict[str, Any] = {}
        self._end = 0
        self._flushed: dict[str, float] = {}
        self._refuse_used()

    @classmethod
    def reopen(
        cls, path: str | Path, changes: Mapping[str, Any] | None = None, resumed: Mapping[str, Any] | None = None
    ) -> tuple[RunFolder, dict[tuple[int, str], Transition], dict[int, Session]]:
        """Opens the folder of an interrupted run, and removes unfinished chunks.

        What is cut off transitions.jsonl is kept in transitions.jsonl.damaged; `repaired` says so. If the run goes on
        to more auctions than before, a last chunk that was not full is run again as a full one.

        Args:
            path: The run's folder.
            changes: Entries of the manifest that are other ones from now on.
            resumed: What the manifest says of this resume, if there is anything left to run.

        Returns:
            The folder, the transitions of its finished chunks by (index, mechanism), and its sessions.

        Raises:
            DataFileError: the folder holds no run, or the manifest cannot be read.
            InputError: another version of simenv started it, which may write other bytes. Nothing is removed then.
            CannotWrite: the folder cannot be written.
        """
        folder = cls.__new__(cls)
        folder.path = Path(path)
        folder._flushed = {}
        folder._manifest = manifest_to_resume(path)
        folder._manifest |= changes or {}
        take_new_chunks(folder.path)
        chunks, sound = sound_chunks(folder.path)
        short = folder._short_chunk(chunks)
        chunks = chunks[:-1] if short else chunks
        folder._end = chunks[-1]["end"] if chunks else 0
        end = chunks[-1]["last_index"] + 1 if chunks else 0
        # The manifest comes first: killed after it, the run goes on to the same end.
        span = span_of_options(folder._manifest["options"])
        if changes or (span is not None and end < span.end):
            folder._enter_resume(auctions_in(chunks), resumed or {})
        said = [folder._repair(sound), short]
        folder.repaired = "; ".join(text for text in said if text) or None
        if short:
            truncate(folder.path / LOG, folder._end)
        timings = [row for row in whole_rows(folder.path / TIMINGS)[0] if row["first_index"] < end]
        sessions = whole_rows(folder.path / SESSIONS)[0]
        for name, rows in ((CHUNKS, chunks), (TIMINGS, timings), (SESSIONS, sessions)):
            small, content = folder.path / name, to_lines(rows)
            if small.is_file() and small.read_bytes() != content:
                write_bytes_atomically(small, content)
        done = {(t.index, t.mechanism): t for t in read_transitions(folder.path)} if folder._end else {}
        return folder, done, {row["number"]: to_session(row, folder.path / SESSIONS) for row in sessions}

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest."""
        return self._manifest

    def make(self) -> None:
        """Makes the folder, if it is not there.

        Raises:
            CannotWrite: it cannot be made.
        """
        ensure_folder(self.path)

    def begin(
        self,
        options: Mapping[str, Any],
        facts: Mapping[str, Any],
        hashes: Mapping[str, str],
        *,
        code: Mapping[str, Any] | None = None,
        files: Mapping[str, str] | None = None,
        machine: Mapping[str, Any] | None = None,
    ) -> None:
        """Creates the folder and writes the manifest, before anything runs.

        Args:
            options: Options of the run.
            facts: The parts that were built: models, judge, query source, encoder, objective, CTR models.
            hashes: SHA-256 of each data pack's content.
            code: Hashes of the code, see `simenv.runs.code`.
            files: SHA-256 of the content of each file that the options name.
            machine: The machine, see `simenv.runs.machine`.

        Raises:
            DataFileError: the folder is no longer empty, or cannot be created.
        """
        self._refuse_used()
        self.make()
        self._manifest = new_manifest(options, facts, hashes, code or {}, files or {}, machine or {})
        self._write_manifest()

    def append(self, finished: Finished) -> None:
        """Appends one chunk, and then its row of chunks.jsonl.

        Raises:
            CannotWrite: the disk is full, or refuses for another reason. Earlier chunks are complete.
        """
        lines = to_log_lines(finished.transitions)
        self._append(LOG, lines)
        first, last = finished.transitions[0].index, finished.transitions[-1].index
        timings = ({"first_index": first, "mechanism": m, "seconds": round(s, 3)} for m, s in finished.seconds.items())
        self._append(TIMINGS, to_lines(timings))
        self._end += len(lines)
        chunk = {
            "first_index": first,
            "last_index": last,
            "end": self._end,
            "sha256": hashlib.sha256(lines).hexdigest(),
        }
        self._append(CHUNKS, to_lines([chunk]))

    def _append(self, name: str, content: bytes) -> None:
        flush = time.monotonic() >= self._flushed.get(name, -math.inf) + _FLUSHES
        append_bytes(self.path / name, content, flush=flush)
        if flush:
            self._flushed[name] = time.monotonic()

    def replace(self, answers: Mapping[tuple[int, str], Transition]) -> None:
        """Puts answers into finished chunks, in the place of those with their index and mechanism.

        The new checksums lie beside the old ones until the new log is in its place: killed in between, `reopen` knows
        which of them belong to the log.

        Raises:
            CannotWrite: the folder cannot be written. The log is then as it was.
        """
        lines: list[bytes] = []
        rows: list[dict[str, Any]] = []
        content, start = (self.path / LOG).read_bytes(), 0
        for chunk in whole_rows(self.path / CHUNKS)[0]:
            of_chunk = content[start : chunk["end"]]
            start = chunk["end"]
            if any(chunk["first_index"] <= index <= chunk["last_index"] for index, _ in answers):
                old = [Transition.model_validate_json(line) for line in of_chunk.splitlines()]
                new = [answers.get((t.index, t.mechanism), t) for t in old]
                of_chunk = to_log_lines(new)
            lines.append(of_chunk)
            end = len(of_chunk) + (rows[-1]["end"] if rows else 0)
            rows.append({**chunk, "end": end, "sha256": hashlib.sha256(of_chunk).hexdigest()})
        write_bytes_atomically(self.path / NEW_CHUNKS, to_lines(rows))
        write_bytes_atomically(self.path / LOG, b"".join(lines))
        take_new_chunks(self.path)
        self._end = rows[-1]["end"] if rows else 0

    def save_sessions(self, fresh: Mapping[int, Session]) -> None:
        """Stores new sessions.

        Raises:
            CannotWrite: as in `append`.
        """
        rows = (
            {
                "number": number,
                "id": s.id,
                "persona": s.persona.model_dump(),
                "questions": [q._asdict() for q in s.questions],
            }
            for number, s in fresh.items()
        )
        self._append(SESSIONS, to_lines(rows))

    def finish(self, whole: bool = True, **facts: Any) -> None:
        """Flushes what was written to the disk, and adds facts to the manifest of a run that has ended, or that stopped
        before it was `whole`."""
        for name in self._flushed:
            append_bytes(self.path / name, b"")
        self._manifest |= {"finished": now() if whole else None, **facts}
        self._write_manifest()

    def _enter_resume(self, after: int, resumed: Mapping[str, Any]) -> None:
        """Writes into the manifest that the run goes on: auctions are left to run, or something changed."""
        entry = {"at": now(), "after_auctions": after, **resumed}
        self._manifest |= {"finished": None, "resumed": [*self._manifest.get("resumed", []), entry]}
        self._write_manifest()

    def _repair(self, sound: int) -> str | None:
        """Cuts the log at the end of its last sound chunk, and says what was wrong with it, if anything was."""
        log, after = self.path / LOG, f"after byte {sound}"
        if log.is_file() and (cut := cut_off(log, sound)) is not None:
            kept, answers = cut
            again = f"{answers} answers are run again"
            return f"{log} holds no finished chunk {after}: what follows is kept in {kept.name}, {again}"
        entered = [row for row in whole_rows(self.path / CHUNKS)[0] if row["end"] > sound]
        if entered:
            first, last = entered[0]["first_index"], entered[-1]["last_index"]
            return f"{log} has nothing {after}: auctions {first} to {last}, which were finished, are run again"
        return None

    def _short_chunk(self, chunks: list[dict[str, Any]]) -> str | None:
        """Says that the last chunk is run again if it is short and the run goes on: only a run's last one may be."""
        n, size = (self._manifest["options"].get(name) for name in ("n", "chunk"))
        if not chunks or not isinstance(n, int) or not isinstance(size, int):
            return None
        first, last = chunks[-1]["first_index"], chunks[-1]["last_index"]
        if last + 1 >= n or last + 1 - first >= size:
            return None
        return f"auctions {first} to {last} are run again: their chunk goes on to auction {min(first + size, n) - 1}"

    def _refuse_used(self) -> None:
        check_folder(
            self.path,
            ignored=lambda file: file.suffix == PART or file.name == LOCK,
            otherwise="give a new folder, or resume its run",
        )

    def _write_manifest(self) -> None:
        write_bytes_atomically(self.path / MANIFEST, manifest_bytes(self._manifest))


def records_hash(records: Iterable[Record]) -> str:
    """Returns the SHA-256 of the records' content: the version of a data pack, independent of the file format."""
    if isinstance(records, AdFile):
        return records.sha256
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.model_dump_json().encode() + b"\n")
    return digest.hexdigest()


__all__ = [
    "RunFolder",
    "manifest_to_resume",
    "read_manifest",
    "read_sessions",
    "read_transitions",
    "records_hash",
]
