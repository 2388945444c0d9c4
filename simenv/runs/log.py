"""Reads the log of a run and checks it: every chunk against its checksum, its length against the manifest.

Nothing is read that is not what the run wrote. A reader may ask for the sound part of a damaged log; it is told what is
left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from simenv.errors import DataFileError
from simenv.files.limits import check_regular, read_lines
from simenv.records import Persona, Transition
from simenv.runs.manifest import read_manifest
from simenv.runs.older_logs import upgrade_transition
from simenv.runs.rows import sound_rows, whole_rows
from simenv.runs.shards import span_of_options
from simenv.users.queries import Question
from simenv.world import Session

LeftOut = Callable[[str], None]
"""Called with what a reader leaves out, one line."""
LOG, CHUNKS, SESSIONS = "transitions.jsonl", "chunks.jsonl", "sessions.jsonl"
_HINT = "resume the run to write it again, or read the sound part with sound_only"


def read_transitions(path: str | Path, *, left_out: LeftOut | None = None) -> Iterator[Transition]:
    """Reads the transitions of a run, in the order written, and checks that they are those that were written.

    Memory is that of one chunk. A .jsonl file that lies in no run's folder has no checksums: only its lines are
    checked, and that none is there twice.

    Args:
        path: The run's folder, or its transitions.jsonl.
        left_out: Called with what is not sound, which is then left out. None: it is an error.

    Raises:
        DataFileError: the folder holds no run, a chunk was changed or is incomplete, a finished run lacks auctions, or
            a line is not a transition.
    """
    file = Path(path) / LOG if Path(path).is_dir() else Path(path)
    if not file.exists():
        raise DataFileError(f"{path}: no transitions.jsonl: not the folder of a run")
    lines = _checked_lines(file, left_out or _refuse) if _has_checksums(file) else _plain_lines(file)
    for number, line in lines:
        yield _read_line(file, number, line)


def read_chunks(folder: Path, start: int, stop: int) -> Iterator[Transition]:
    """Reads the transitions of some chunks of a run's log.

    Args:
        folder: The run's folder.
        start, stop: Numbers of the first chunk, and of the one after the last.

    Raises:
        DataFileError: one of them was changed, or a line is not a transition.
    """
    for row, content in islice(chunks_of_log(folder, start), stop - start):
        if content is None:
            _refuse(
                f"{folder / LOG}: auctions {row['first_index']} to {row['last_index']} are not as they were written"
            )
            return
        for number, line in enumerate(content.splitlines(keepends=True), start=1):
            yield _read_line(folder / LOG, number, line)


def chunk_ends(folder: Path) -> list[int]:
    """Where each chunk of a run's log ends, in bytes; none if the log is damaged or holds more than these chunks."""
    log = folder / LOG
    if not _has_checksums(log) or not log.is_file():
        return []
    size, ends, auctions = log.stat().st_size, [], 0
    for row in sound_rows(folder / CHUNKS):
        ends.append(row["end"])
        auctions += auctions_in([row])
    return ends if ends and ends[-1] == size and auctions >= _auctions_of_finished(folder) else []


def read_sessions(path: str | Path, *, left_out: LeftOut | None = None) -> dict[int, Session]:
    """Reads the sessions of a run's folder, by number.

    Args:
        path: The run's folder.
        left_out: As in `read_transitions`.

    Raises:
        DataFileError: the folder holds none, a row is incomplete or changed, or it is not a session.
    """
    file = Path(path) / SESSIONS
    if not file.is_file():
        raise DataFileError(f"{path}: no sessions.jsonl: not the folder of a run")
    rows, whole = whole_rows(file)
    if not whole:
        (left_out or _refuse)(f"{file}: row {len(rows) + 1} is incomplete or changed")
    return {row["number"]: to_session(row, file) for row in rows}


def to_session(row: dict[str, Any], file: Path) -> Session:
    """Returns the session of a row of sessions.jsonl.

    Raises:
        DataFileError: it is not one.
    """
    try:
        persona = Persona.model_validate(row["persona"])
        return Session(row["id"], persona, [Question(**question) for question in row["questions"]])
    except (KeyError, TypeError, ValidationError) as error:
        raise DataFileError(f"{file}: not a session: {' '.join(str(error).split())}") from None


def sound_chunks(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns the rows of the chunks before the first unsound one, and the byte at which they end."""
    chunks: list[dict[str, Any]] = []
    for row, content in chunks_of_log(folder):
        if content is None:
            break
        chunks.append(row)
    return chunks, chunks[-1]["end"] if chunks else 0


def _read_line(file: Path, number: int, line: bytes) -> Transition:
    try:
        transition = _transition(line)
    except ValidationError as error:
        first = error.errors()[0]
        message = " ".join([*map(str, first["loc"]), first["msg"]])
        raise DataFileError(f"{file}:{number}: not a transition: {message}") from None
    if wrong := _contradiction(transition):
        raise DataFileError(f"{file}:{number}: not a transition: {wrong}")
    return transition


def _has_checksums(file: Path) -> bool:
    """Whether the log is that of a run's folder. A folder of format 3 has checksums once a chunk is finished."""
    if file.name != LOG:
        return False
    if (file.parent / CHUNKS).is_file():
        return True
    try:
        return bool(read_manifest(file.parent).get("format", 0) >= 3)
    except (DataFileError, TypeError):
        return False


def _plain_lines(file: Path) -> Iterator[tuple[int, bytes]]:
    seen: dict[bytes, int] = {}
    for number, line in enumerate(read_lines(file), start=1):  # bytes: an incomplete line may not be UTF-8
        same = seen.setdefault(hashlib.sha256(line).digest(), number)
        if same != number:
            raise DataFileError(f"{file}:{number}: the same as line {same}")
        yield number, line


def _checked_lines(file: Path, left_out: LeftOut) -> Iterator[tuple[int, bytes]]:
    check_regular(file)
    size = file.stat().st_size  # before chunks.jsonl is read: a run that is being written grows
    number, end, auctions = 0, 0, 0
    for row, content in chunks_of_log(file.parent):
        end, auctions = row["end"], auctions + auctions_in([row])
        if content is None:
            left_out(f"{file}: auctions {row['first_index']} to {row['last_index']} are not as they were written")
            continue
        for line in content.splitlines(keepends=True):
            number += 1
            yield number, line
    if size > end:
        left_out(
            f"{file}: {size - end} bytes after the last finished chunk: the run was cut off or is being written, or "
            f"{CHUNKS} is damaged"
        )
    wanted = _auctions_of_finished(file.parent)
    if auctions < wanted:
        left_out(f"{file}: {auctions} auctions, its manifest says that {wanted} are finished")


def chunks_of_log(folder: Path, start: int = 0) -> Iterator[tuple[dict[str, Any], bytes | None]]:
    """Yields every chunk's row with its bytes, from number `start` on; None for bytes that are not those written."""
    if not (folder / LOG).is_file():
        return
    end = 0
    with (folder / LOG).open("rb") as log:
        for number, row in enumerate(sound_rows(folder / CHUNKS)):
            begin, end = end, row["end"]
            if number < start:
                continue
            log.seek(begin)
            content = log.read(max(0, end - begin))
            yield row, content if hashlib.sha256(content).hexdigest() == row["sha256"] else None


def auctions_in(chunks: Iterable[Mapping[str, Any]]) -> int:
    """The number of auctions in chunks, by their rows."""
    return sum(row["last_index"] + 1 - row["first_index"] for row in chunks)


def _auctions_of_finished(folder: Path) -> int:
    """The number of auctions of a finished run or shard; 0 if it is not finished or has no manifest."""
    try:
        manifest = read_manifest(folder)
    except DataFileError:
        return 0
    span = span_of_options(manifest["options"]) if manifest.get("finished") else None
    return span.auctions if span is not None else 0


def _refuse(text: str) -> None:
    raise DataFileError(text, hint=_HINT)


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


def to_log_lines(transitions: Iterable[Transition]) -> bytes:
    """Returns transitions as lines of the log."""
    return "".join(f"{t.model_dump_json()}\n" for t in transitions).encode()


def from_log_lines(lines: bytes) -> list[Transition]:
    """The transitions of lines that `to_log_lines` made."""
    return [Transition.model_validate_json(line) for line in lines.splitlines()]
