"""Disks that are full, too small, read-only or limited: one line, nothing lost, and before the work where it can be."""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import simenv
from simenv.cli import main as cli
from simenv.errors import CannotWrite, DataFileError
from simenv.files import folders
from simenv.files.atomic import append_bytes, replacing, write_bytes_atomically
from simenv.files.folders import check_folder, check_new_file, try_file, try_folder
from simenv.llm import ScriptedLLM
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.runs import space
from simenv.runs.machine import machine_of, other_machine
from simenv.runs.space import SpaceCheck

QUICK = {"llm": "scripted", "horizon": 2, "quality": "none", "chunk": 2}


@pytest.fixture
def limited() -> Iterator[Callable[[int], None]]:
    """Sets the largest size of a file, as `ulimit -f` does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_an_append_is_whole_or_nothing(tmp_path: Path, limited: Callable[[int], None]) -> None:
    file = tmp_path / "log"
    append_bytes(file, b"x" * 5000)
    limited(8192)
    with pytest.raises(CannotWrite, match=rf"^cannot write {file}: File too large$"):
        append_bytes(file, b"y" * 5000)
    assert file.read_bytes() == b"x" * 5000, "the part that fitted is taken away"
    append_bytes(file, b"z" * 1000)
    assert file.stat().st_size == 6000


def test_a_file_that_cannot_be_replaced_stays(tmp_path: Path, limited: Callable[[int], None]) -> None:
    file = tmp_path / "manifest.json"
    write_bytes_atomically(file, b"old")
    limited(4096)
    with pytest.raises(CannotWrite, match="File too large"):
        write_bytes_atomically(file, b"n" * 5000)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("manifest.json", b"old")]


def test_a_cassette_on_a_full_disk_can_be_gone_on_with(tmp_path: Path, limited: Callable[[int], None]) -> None:
    tape = tmp_path / "tape.jsonl"
    llm = CassetteLLM(Cassette(tape, "record"), ScriptedLLM(lambda request: "word " * 300))

    def ask(number: int, asked: CassetteLLM = llm) -> str:
        return simenv.background_loop.run_sync(lambda: asked.complete("Hi", key=("k", number))).text

    ask(0)
    size = tape.stat().st_size
    limited(size + size // 2)
    with pytest.raises(CannotWrite, match=r"tape\.jsonl: File too large"):
        ask(1)
    assert tape.stat().st_size == size
    limited(2**40)
    again = CassetteLLM(Cassette(tape, "cache"), ScriptedLLM(lambda request: pytest.fail("asked again")))
    assert ask(0, again).startswith("word")


@pytest.mark.parametrize("place", ["file/inside", "file/inside/deeper"])
def test_a_folder_that_cannot_be_made_is_refused_at_once(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    for check in (check_folder, try_folder):
        with pytest.raises(CannotWrite, match=r"^cannot make folder .*: Not a directory$"):
            check(tmp_path / place)
    with pytest.raises(DataFileError, match=r"folder .*inside does not exist"):
        check_new_file(tmp_path / "file" / "inside" / "table.csv")


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="a folder that nobody may write is that of Linux")
def test_a_read_only_folder_is_refused_at_once() -> None:
    for check, path in ((check_folder, "/proc/run"), (try_folder, "/proc"), (check_new_file, "/proc/table.csv")):
        with pytest.raises(CannotWrite, match=rf"^cannot write {path}: "):
            check(Path(path))


def test_a_try_leaves_nothing_and_is_more_than_an_empty_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_text("mine")
    try_file(tmp_path / "there")
    try_file(tmp_path / "new")
    try_folder(tmp_path / "new" / "folder")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("there", "mine")]

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders.os, "fsync", full)
    with pytest.raises(CannotWrite, match=rf"^cannot write {tmp_path}: No space left on device$"):
        try_folder(tmp_path)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_what_the_rest_of_a_run_needs_is_compared_with_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tape = tmp_path / "run", tmp_path / "tape.jsonl"
    run.mkdir()
    tape.write_bytes(bytes(1000))
    check = SpaceCheck([run, tape])
    (run / "transitions.jsonl").write_bytes(bytes(3000))
    tape.write_bytes(bytes(2000))  # 4,000 bytes for 2 auctions: 2,000 each
    free = 0
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: Usage(0, 0, free))
    free = 200_000
    check.check(2, 100, 2)
    with pytest.raises(CannotWrite) as caught:
        check.check(2, 101, 2)
    assert str(caught.value) == (
        f"{run}: the 101 auctions that are left take about 202.0 kB, 200.0 kB are free "
        "(what is written can be resumed; with ignore_disk_space the run goes on anyway)"
    )


@pytest.mark.weights
def test_a_run_that_the_disk_will_not_hold_stops_after_its_first_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(space.shutil, "disk_usage", lambda path: Usage(0, 0, 20_000))
    run = tmp_path / "run"
    size = ["--llm", "scripted", "--horizon", "2", "--quality", "none", "--chunk", "2", "--n", "8"]

    def bench(*arguments: str) -> tuple[int, list[str]]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["bench", *arguments])
        assert isinstance(ended.value.code, int)
        return ended.value.code, [line for line in capsys.readouterr().err.splitlines() if "answers" not in line]

    code, err = bench("--mechanisms", "gsp", *size, "--out", str(run))
    assert (code, len(err)) == (1, 2)
    assert err[0].startswith(f"simenv: {run}: the 6 auctions that are left take about ")
    assert err[1] == f"go on with: simenv bench --resume --out {run}"
    assert (run / "chunks.jsonl").read_bytes().count(b"\n") == 1
    assert bench("--resume", "--out", str(run), "--ignore-disk-space") == (0, [])
    whole = simenv.bench("gsp", out=tmp_path / "whole", n=8, ignore_disk_space=True, **QUICK)
    assert (run / "transitions.jsonl").read_bytes() == (whole.folder / "transitions.jsonl").read_bytes()


@pytest.mark.parametrize(
    "command",
    [
        ["bench", "--mechanisms", "gsp", "--llm", "embedded", "--out", "file/run"],
        ["bench", "--mechanisms", "gsp", "--llm", "embedded", "--out", "run", "--record", "file/tape.jsonl"],
        ["audit", "gsp", "--llm", "embedded", "--out", "file/audit"],
        ["validate-judge", "--judge", "embedded", "--out", "file/report"],
        ["validate-quality", "--out", "file/quality.json"],
        ["train", "llm-auction", "--out", "file/training"],
        ["make-pack", "ads", "--llm", "local:nowhere", "--out", "file/ads.jsonl"],
        ["compare", "a", "b", "--out", "file/table.csv"],
        ["sensitivity", "a", "--out", "file/table.csv"],
        ["export", "a", "--out", "file/rows.jsonl"],
        ["fit-ctr", "a", "--out", "file/ctr.json"],
        ["fit-evaluator", "a", "--out", "file/evaluator.json"],
    ],
)
def test_every_command_tries_its_place_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    """No model is there to be loaded, and no run to be read: what is said is of the place."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simenv.llm.weights.find_spec", lambda package: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    (line,) = capsys.readouterr().err.splitlines()
    assert "file" in line
    assert ended.value.code == (1 if line.endswith("Not a directory") else 2)
    assert "Not a directory" in line or line.endswith("folder file does not exist")


def test_a_full_disk_anywhere_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(**arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cli, "app", full)
    with pytest.raises(SystemExit) as ended:
        cli.main([])
    assert (ended.value.code, capsys.readouterr().err) == (1, "simenv: No space left on device\n")


def test_plots_that_cannot_be_written_are_named(tmp_path: Path, limited: Callable[[int], None]) -> None:
    from matplotlib.figure import Figure

    limited(1024)
    with pytest.raises(CannotWrite, match=r"plot\.png: File too large"), replacing(tmp_path / "plot.png") as part:
        Figure().savefig(part, format="png")
    assert list(tmp_path.iterdir()) == []


# The machine


class Local(ScriptedLLM):
    runs_here = True


def test_a_run_that_goes_on_on_another_machine_warns_where_bytes_depend_on_it(tmp_path: Path) -> None:
    assert machine_of([ScriptedLLM()])["threads"] is None
    here = machine_of([ScriptedLLM(), CassetteLLM(Cassette(tmp_path / "tape.jsonl", "record"), Local())])
    torch = sys.modules.get("torch")
    assert here["threads"] == (os.cpu_count() if torch is None else torch.get_num_threads())
    assert here["cpu"]
    other = {**here, "threads": 64, "cpu": "another"}
    assert other_machine(here, here) is None
    assert other_machine(here, None) is None, "a manifest of before"
    none = {**here, "threads": None, "device": None}
    assert other_machine(none, other) is None, "threads and the processor's name count where a local model runs"
    assert other_machine({**none, "instructions": "maker avx2"}, {**other, "instructions": "maker"}) == (
        "the run goes on on another machine (instructions was maker, is maker avx2): the last digits of numbers may "
        "differ from those that the first one would have given"
    )
    assert other_machine({**here, "cpu": "mine", "threads": 2}, other) == (
        "the run goes on on another machine (cpu was another, is mine; threads was 64, is 2): a local model's answers "
        "may differ from those that the first one would have given"
    )
