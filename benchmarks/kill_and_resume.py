"""Kills `simenv bench` with SIGKILL at random moments, resumes it, and compares the log with an uninterrupted run's.

    python benchmarks/kill_and_resume.py replayed         # completions come from a cassette
    python benchmarks/kill_and_resume.py recording        # a scripted model is recorded; the cassette is compared too
    python benchmarks/kill_and_resume.py embedded --n 6   # the embedded model, loaded again by every run

Half of the kills come at a moment drawn uniformly from the duration of the uninterrupted run, including start and
loading. The other half come after a randomly drawn chunk is finished, within the duration of one chunk, so they hit the
middle of the run on a busy machine too. Exit code 1 if any file differs.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from simenv.seeding import keyed_rng

SIMENV = Path(sys.executable).with_name("simenv")
SAME = ("transitions.jsonl", "chunks.jsonl", "sessions.jsonl", "table.csv")


class Moment(NamedTuple):
    """When to kill: `seconds` after `chunks` chunks are finished (None: after the start)."""

    chunks: int | None
    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s after " + ("the start" if self.chunks is None else f"chunk {self.chunks}")


class Kind(NamedTuple):
    """The command to kill: options of `simenv bench`, and whether it records a cassette."""

    options: list[str]
    records: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=("replayed", "recording", "embedded"))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--n", type=int, default=60, help="auctions")
    parser.add_argument("--mechanisms", default="gsp,best_of_n")
    parser.add_argument("--bidder", default="truthful")
    parser.add_argument("--chunk", type=int, default=2, help="auctions per chunk")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments, not of the runs")
    chosen = parser.parse_args()
    options = ["--mechanisms", chosen.mechanisms, "--n", str(chosen.n), "--chunk", str(chosen.chunk)]
    options += ["--bidder", chosen.bidder, "--llm", "embedded" if chosen.kind == "embedded" else "scripted"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if chosen.kind == "replayed":
            tape = folder / "tape.jsonl"
            bench(folder / "taped", [*options, "--record", str(tape)])
            options += ["--replay", str(tape)]
        equal = trials(folder, Kind(options, chosen.kind == "recording"), chosen.kills, chosen.seed)
    print(f"{chosen.kind}: {equal} of {chosen.kills} resumed runs are equal to the uninterrupted one, byte for byte")
    sys.exit(equal < chosen.kills)


def trials(folder: Path, kind: Kind, kills: int, seed: int) -> int:
    """Runs once without interruption, then once per kill. Returns the number of resumed runs equal to the first one."""
    whole = folder / "whole"
    started = time.perf_counter()
    bench(whole, options_of(kind, whole))
    duration = time.perf_counter() - started
    expected, chunks = outcome(whole), finished_chunks(whole)
    size = (whole / "transitions.jsonl").stat().st_size
    print(f"uninterrupted: {duration:.1f} s, {chunks} chunks, {size} bytes of transitions", flush=True)
    when: Counter[str] = Counter()
    equal = 0
    for kill, moment in enumerate(moments(kills, seed, duration, chunks), start=1):
        run = folder / f"kill-{kill}"
        killed = kill_at(run, options_of(kind, run), moment)
        left = finished_chunks(run)
        place = "before the first chunk" if not left else "midway" if left < chunks else "after the last chunk"
        when[place if killed else "not killed, it had ended"] += 1
        if (run / "manifest.json").is_file():
            bench(run, ["--resume"])
        else:  # killed before the run could be resumed
            run.with_suffix(".tape").unlink(missing_ok=True)
            bench(run, options_of(kind, run))
        same = outcome(run) == expected
        equal += same
        state = f"killed with {left} of {chunks} chunks" if killed else "had ended"
        print(f"kill {kill}, {moment}: {state}: {'equal' if same else 'DIFFERENT'}", flush=True)
    print(", ".join(f"{count} {place}" for place, count in when.items()))
    return equal


def moments(kills: int, seed: int, duration: float, chunks: int) -> list[Moment]:
    """The moments of all kills: see the module docstring."""
    rng = keyed_rng("kill and resume", seed)
    by_time = [Moment(None, float(seconds)) for seconds in rng.uniform(0, duration, kills)]
    by_chunk = [Moment(int(rng.integers(chunks)), float(rng.uniform(0, duration / chunks))) for _ in range(kills)]
    return [(by_time if i % 2 else by_chunk)[i] for i in range(kills)]


def options_of(kind: Kind, run: Path) -> list[str]:
    return [*kind.options, "--record", str(run.with_suffix(".tape"))] if kind.records else kind.options


def outcome(run: Path) -> list[list[bytes]]:
    """The bytes that must be equal. The order of a cassette's lines depends on timing, so they are sorted."""
    tape = run.with_suffix(".tape")
    rows = [sorted(tape.read_bytes().splitlines())] if tape.is_file() else []
    return [*rows, *((run / name).read_bytes().splitlines(keepends=True) for name in SAME)]


def bench(out: Path, options: list[str]) -> None:
    """Runs to the end; its output is shown only if it fails."""
    done = subprocess.run([SIMENV, "bench", "--out", out, *options], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"simenv bench ended with code {done.returncode}:\n{done.stderr}")


def kill_at(out: Path, options: list[str], moment: Moment) -> bool:
    """Starts a run and kills it at the given moment. Returns False if it had ended before."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([SIMENV, "bench", "--out", out, *options], **quiet)
    if moment.chunks is not None:
        while process.poll() is None and not (
            finished_chunks(out) >= moment.chunks and (out / "manifest.json").exists()
        ):
            time.sleep(0.002)
    try:
        process.wait(moment.seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def finished_chunks(run: Path) -> int:
    file = run / "chunks.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


if __name__ == "__main__":
    main()
