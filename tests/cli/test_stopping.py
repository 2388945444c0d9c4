"""A run that is told to stop ends at once, keeps its finished chunks, says how to go on, and goes on. While it runs, no
other process writes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from simenv.testing import ADS, PERSONAS
from tests.support.command_line import bench

SLOW = """
import asyncio
import time
from pathlib import Path

from simenv import outcome
from simenv.errors import LLMUnavailable

HERE = Path(__file__).parent


class Slow:
    '''From the third auction on, it hinders the run as the file `hinder` says, if there is one. Answers of several
    chunks are in flight together, so it waits until the first two chunks are written.'''

    async def run(self, auction, rng):
        hinder = HERE / "hinder"
        if hinder.exists() and auction.turn == 2:
            kind = hinder.read_text()
            while not any(chunks.read_bytes().count(b"\\n") >= 2 for chunks in HERE.glob("*/chunks.jsonl")):
                await asyncio.sleep(0.01)
            (HERE / "hindered").touch()
            if kind == "wait":
                await asyncio.sleep(60)
            elif kind == "block":
                time.sleep(60)
            elif kind == "swallow":
                while True:
                    try:
                        await asyncio.sleep(60)
                    except asyncio.CancelledError:
                        pass
            else:
                raise LLMUnavailable("the server is down")
        bid = auction.bids[0]
        return outcome(auction, f"Have a look at {bid.ad.link}.", {bid.ad.id: 1.0})
"""


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A run of the mechanism above in chunks of one auction, on a small catalog and small personas."""
    for name, records in (("ads", ADS), ("personas", PERSONAS)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{r.model_dump_json()}\n" for r in records), encoding="utf-8")
    (tmp_path / "slow.py").write_text(SLOW, encoding="utf-8")
    files = ["--catalog", str(tmp_path / "ads.jsonl"), "--personas", str(tmp_path / "personas.jsonl")]
    size = ["--n", "6", "--horizon", "3", "--chunk", "1"]
    return ["--llm", "scripted", "--mechanisms", f"{tmp_path / 'slow.py'}:Slow", *size, *files]


def start(tmp_path: Path, options: list[str], hinder: str) -> subprocess.Popen[str]:
    """Starts the run and waits until the third auction is hindered, after two finished chunks."""
    (tmp_path / "hinder").write_text(hinder, encoding="utf-8")
    command = [sys.executable, "-m", "simenv", "bench", "--out", str(tmp_path / "run"), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "hindered").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str, list[str], float]:
    """Exit code, standard output, lines of standard error without the bar, and seconds until the end."""
    started = time.monotonic()
    try:
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    lines = [line for line in err.splitlines() if line and not line.startswith("answers ")]
    return process.returncode, out, lines, time.monotonic() - started


def check_goes_on(tmp_path: Path, options: list[str]) -> None:
    """Two chunks stand, and the resumed run comes to what an undisturbed one does."""
    assert (tmp_path / "run" / "chunks.jsonl").read_bytes().count(b"\n") == 2
    (tmp_path / "hinder").unlink()
    assert bench(tmp_path / "run", "--resume") == 0
    assert bench(tmp_path / "whole", *options) == 0
    for name in ("transitions.jsonl", "chunks.jsonl", "table.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("hinder", "number", "code"),
    [
        ("wait", signal.SIGINT, 130),
        ("wait", signal.SIGTERM, 143),
        ("block", signal.SIGINT, 130),
        ("swallow", signal.SIGTERM, 143),
    ],
)
@pytest.mark.timeout(180)
@pytest.mark.weights
def test_a_signal_ends_a_run_that_can_go_on(
    tmp_path: Path, options: list[str], hinder: str, number: signal.Signals, code: int
) -> None:
    process = start(tmp_path, options, hinder)
    process.send_signal(number)
    returned, out, err, seconds = end(process)
    assert (returned, out) == (code, "")
    assert err == [f"go on with: simenv bench --resume --out {tmp_path / 'run'}"]
    assert seconds < 5, "the work takes a minute, the end of a Python process with torch a second"
    check_goes_on(tmp_path, options)


@pytest.mark.timeout(180)
@pytest.mark.weights
def test_a_second_signal_ends_it_at_once_and_without_a_traceback(tmp_path: Path, options: list[str]) -> None:
    process = start(tmp_path, options, "block")
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)  # within the half second that work has to end
    process.send_signal(signal.SIGINT)
    returned, out, err, seconds = end(process)
    assert (returned, out) == (130, "")
    assert not any("Traceback" in line for line in err), err
    assert seconds < 1
    check_goes_on(tmp_path, options)


@pytest.mark.timeout(180)
@pytest.mark.weights
def test_a_signal_that_was_ignored_stays_ignored(tmp_path: Path, options: list[str]) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does for what it starts in the background
    try:
        process = start(tmp_path, options, "wait")
    finally:
        signal.signal(signal.SIGINT, before)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGTERM)
    assert end(process)[0] == 143


@pytest.mark.timeout(180)
@pytest.mark.weights
def test_a_failed_server_ends_a_run_that_can_go_on(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hinder").write_text("fail", encoding="utf-8")
    assert bench(tmp_path / "run", *options, "--fail-on-error", "0") == 2
    err = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("answers ")]
    said = f"go on with: simenv bench --resume --out {tmp_path / 'run'}"
    assert err == ["simenv: the server is down", said]
    check_goes_on(tmp_path, options)


@pytest.mark.weights
def test_a_path_with_a_blank_is_quoted(tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "hinder").write_text("fail", encoding="utf-8")
    assert bench(tmp_path / "my run", *options, "--fail-on-error", "0") == 2
    assert f"simenv bench --resume --out '{tmp_path}{os.sep}my run'" in capsys.readouterr().err


def test_what_fails_before_the_run_begins_cannot_go_on(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(tmp_path / "run", *options, "--baseline", "nobody") == 2
    assert "go on with" not in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("resumed", [False, True], ids=["begun", "resumed"])
@pytest.mark.timeout(180)
@pytest.mark.weights
def test_a_run_that_another_process_writes_is_refused_and_left_alone(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str], resumed: bool
) -> None:
    process = start(tmp_path, options, "wait")
    try:
        if resumed:
            process.kill()
            process.communicate()
            (tmp_path / "hindered").unlink()
            process = start(tmp_path, ["--resume"], "wait")
        before = contents(tmp_path / "run")
        assert bench(tmp_path / "run", "--resume") == 2
        said = f"simenv: {tmp_path / 'run'} is being written by another process: wait until it ends, or end it\n"
        assert capsys.readouterr().err == said
        assert contents(tmp_path / "run") == before
    finally:
        process.kill()  # the lock ends with its process
        process.communicate()
    check_goes_on(tmp_path, options)
