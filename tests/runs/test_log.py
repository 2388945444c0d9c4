"""Readers refuse a log that is not what was written, or read the sound part and say what they leave out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from simenv.cli import main as cli
from simenv.datasets.export import export_run
from simenv.errors import DataFileError
from simenv.records import Transition
from simenv.runs.compare import compare
from simenv.runs.folder import RunFolder, read_sessions, read_transitions
from simenv.runs.rollout import Finished
from simenv.runs.sensitivity import sensitivity_of_run
from simenv.testing import small_world
from tests.support.runs import transitions

HINT = " (resume the run to write it again, or read the sound part with sound_only)"
CHUNK = 2


@pytest.fixture(scope="module")
def rows() -> list[Transition]:
    return transitions(small_world(), "gsp", "softmax", n=6)


@pytest.fixture
def run(tmp_path: Path, rows: list[Transition]) -> Path:
    """A finished run of three chunks."""
    folder = RunFolder(tmp_path / "run")
    folder.begin({"n": 6, "chunk": CHUNK, "mechanisms": ["gsp", "softmax"]}, {}, {})
    for start in range(0, 12, 2 * CHUNK):
        folder.append(Finished(rows[start : start + 2 * CHUNK], {}))
    (tmp_path / "run" / "sessions.jsonl").touch()
    folder.finish()
    return tmp_path / "run"


def edit_payment(log: bytes) -> bytes:
    at = log.index(b'"payments":{"', len(log) // 2)
    at = log.index(b":", at + 13) + 1
    return log[:at] + b"9" + log[at + 1 :]


CHANGED = "auctions {} to {} are not as they were written"
REST = "{} bytes after the last finished chunk: the run was cut off or is being written, or chunks.jsonl is damaged"
HARMS: dict[str, tuple[Callable[[bytes], bytes], list[str], list[int]]] = {
    # what happened -> what is said, and the auctions that are read nevertheless
    "a payment is edited": (edit_payment, [CHANGED.format(2, 3)], [0, 1, 4, 5]),
    "cut in half": (lambda log: log[: len(log) // 2], [CHANGED.format(2, 3), CHANGED.format(4, 5)], [0, 1]),
    "doubled": (lambda log: log + log, [REST], [0, 1, 2, 3, 4, 5]),
    "a line is there twice": (
        lambda log: log[: log.index(b"\n") + 1] + log,
        [CHANGED.format(0, 1), CHANGED.format(2, 3), CHANGED.format(4, 5), REST],
        [],
    ),
    "torn in its last line": (lambda log: log[:-9], [CHANGED.format(4, 5)], [0, 1, 2, 3]),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_log_that_is_not_what_was_written_is_refused(run: Path, harm: str) -> None:
    change, said, kept = HARMS[harm]
    log = run / "transitions.jsonl"
    whole = log.read_bytes()
    log.write_bytes(change(whole))
    said = [f"{log}: {text.format(len(log.read_bytes()) - len(whole))}" for text in said]
    for path in (run, log):
        with pytest.raises(DataFileError) as caught:
            list(read_transitions(path))
        assert str(caught.value) == said[0] + HINT
    left_out: list[str] = []
    read = list(read_transitions(run, left_out=left_out.append))
    assert [t.index for t in read] == [i for i in kept for _ in range(2)]
    assert left_out == said


def test_a_finished_run_whose_last_chunk_is_gone_everywhere_is_refused(run: Path) -> None:
    """Neither the log nor its checksums tell; the manifest does."""
    log, chunks = run / "transitions.jsonl", run / "chunks.jsonl"
    lines = chunks.read_bytes().splitlines(keepends=True)
    chunks.write_bytes(b"".join(lines[:2]))
    log.write_bytes(log.read_bytes()[: json.loads(lines[1])["end"]])
    with pytest.raises(DataFileError, match="4 auctions, its manifest says that 6 are finished"):
        list(read_transitions(run))
    left_out: list[str] = []
    assert len(list(read_transitions(run, left_out=left_out.append))) == 8
    assert len(left_out) == 1


@pytest.mark.parametrize("change", [lambda text: text[:-5], lambda text: text[1:], lambda text: b""])
def test_without_its_checksums_a_run_is_refused(run: Path, change: Callable[[bytes], bytes]) -> None:
    chunks = run / "chunks.jsonl"
    chunks.write_bytes(change(chunks.read_bytes()))
    with pytest.raises(DataFileError, match="bytes after the last finished chunk"):
        list(read_transitions(run))
    chunks.unlink()
    with pytest.raises(DataFileError, match="bytes after the last finished chunk"):
        list(read_transitions(run))


def test_an_unfinished_run_is_read_as_far_as_it_is_finished(run: Path, rows: list[Transition]) -> None:
    manifest = run / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "finished": None}))
    lines = (run / "chunks.jsonl").read_bytes().splitlines(keepends=True)
    (run / "chunks.jsonl").write_bytes(lines[0])
    log = (run / "transitions.jsonl").read_bytes()
    (run / "transitions.jsonl").write_bytes(log[: json.loads(lines[0])["end"]])
    assert list(read_transitions(run)) == rows[: 2 * CHUNK]


def test_a_bare_log_with_a_line_twice_is_refused(tmp_path: Path, rows: list[Transition]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("".join(f"{row.model_dump_json()}\n" for row in (*rows[:3], rows[1])), encoding="utf-8")
    with pytest.raises(DataFileError, match=r"log\.jsonl:4: the same as line 2$"):
        list(read_transitions(log))


def test_changed_sessions_are_refused(run: Path) -> None:
    (run / "sessions.jsonl").write_bytes(b'{"number": 0}\n')
    with pytest.raises(DataFileError, match=r"sessions\.jsonl: row 1 is incomplete or changed"):
        read_sessions(run)
    left_out: list[str] = []
    assert read_sessions(run, left_out=left_out.append) == {}
    assert len(left_out) == 1


def test_every_reader_refuses(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One changed payment; each reader by its function, and by its command."""
    log = run / "transitions.jsonl"
    log.write_bytes(edit_payment(log.read_bytes()))
    said = f"{log}: {CHANGED.format(2, 3)}"
    readers: dict[str, Callable[[], object]] = {
        "compare": lambda: compare([run, run / ".." / ".." / run.parent.name / "run2"]),
        "export": lambda: export_run(run, tmp_path / "rows.jsonl"),
        "sensitivity": lambda: sensitivity_of_run(run),
    }
    (tmp_path / "run2").mkdir()
    for name in ("manifest.json", "transitions.jsonl", "chunks.jsonl"):
        (tmp_path / "run2" / name).write_bytes((run / name).read_bytes())
    for reader in readers.values():
        with pytest.raises(DataFileError, match="auctions 2 to 3 are not as they were written"):
            reader()
    out = str(tmp_path / "rows.jsonl")
    commands = (["ope", str(run), "--target", "softmax"], ["export", str(run), "--out", out])
    fit = ["fit-ctr", str(run), "--out", str(tmp_path / "ctr.json")]
    for command in (*commands, fit):
        with pytest.raises(SystemExit) as caught:
            cli.main(command)
        assert (caught.value.code, capsys.readouterr().err) == (2, f"simenv: {said}{HINT}\n")
    with pytest.raises(SystemExit) as caught:
        cli.main([*commands[1], "--sound-only"])
    assert (caught.value.code, capsys.readouterr().err) == (0, f"simenv: left out: {said}\n")
    assert {json.loads(line)["index"] for line in Path(out).read_bytes().splitlines()} <= {0, 1, 4, 5}
    assert "--format clicks --sound-only --out" in Path(f"{out}.md").read_text(encoding="utf-8")


def test_a_mechanism_that_the_run_does_not_have_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["fit-ctr", str(run), "--mechanism", "nope", "--out", str(tmp_path / "ctr.json")])
    assert caught.value.code == 2
    assert "unknown mechanism of the run 'nope': known are " in capsys.readouterr().err
