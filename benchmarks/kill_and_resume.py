"""Kills `simenv bench` with SIGKILL at random moments, resumes it, and compares the log with an undisturbed run's.

python benchmarks/kill_and_resume.py                                    # the embedded model: every run starts it anew
simenv bench --llm scripted --record tape.jsonl --out /tmp/recorded --mechanisms gsp,best_of_n --n 120
python benchmarks/kill_and_resume.py --replay tape.jsonl --n 120        # its options must be as recorded

Exit code 1 if any log differs.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from simenv.seeding import keyed_rng

SIMENV = Path(sys.executable).with_name("simenv")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--replay", type=Path, help="a cassette; without one, the embedded model runs")
    parser.add_argument("--n", type=int, default=120, help="auctions")
    parser.add_argument("--mechanisms", default="gsp,best_of_n")
    parser.add_argument("--bidder", default="truthful")
    parser.add_argument("--chunk", type=int, default=4, help="auctions per chunk")
    parser.add_argument("--seed", type=int, default=0, help="of the moments, not of the runs")
    chosen = parser.parse_args()
    options = ["--mechanisms", chosen.mechanisms, "--n", str(chosen.n), "--chunk", str(chosen.chunk)]
    options += ["--bidder", chosen.bidder]
    if chosen.replay:
        options += ["--llm", model_of(chosen.replay), "--replay", str(chosen.replay)]
    with tempfile.TemporaryDirectory() as folder:
        equal = trials(Path(folder), options, chosen.kills, chosen.seed)
    print(f"{equal} of {chosen.kills} resumed logs are equal to the undisturbed one, byte for byte")
    sys.exit(equal < chosen.kills)


def trials(folder: Path, options: list[str], kills: int, seed: int) -> int:
    """The undisturbed run, then every kill; how many logs were equal."""
    whole = folder / "whole"
    started = time.perf_counter()
    bench(whole, options)
    duration = time.perf_counter() - started
    expected = (whole / "transitions.jsonl").read_bytes()
    chunks = finished_chunks(whole)
    print(f"undisturbed: {duration:.1f} s, {len(expected)} bytes, {chunks} chunks", flush=True)
    equal = 0
    for kill, moment in enumerate(keyed_rng("kill and resume", seed).uniform(0, duration, kills), start=1):
        run = folder / f"kill-{kill}"
        killed = kill_at(run, options, moment)
        died_with = finished_chunks(run)
        if (run / "manifest.json").is_file():
            bench(run, ["--resume"])
        else:  # killed before there was a run to resume
            shutil.rmtree(run, ignore_errors=True)
            bench(run, options)
        same = (run / "transitions.jsonl").read_bytes() == expected
        equal += same
        how, result = "killed" if killed else "had ended", "equal" if same else "DIFFERENT"
        print(f"kill {kill}: {how} at {moment:.2f} s with {died_with} chunks: {result}", flush=True)
        shutil.rmtree(run)
    return equal


def bench(out: Path, options: list[str]) -> None:
    """Runs to the end; what it says is shown only if it fails."""
    done = subprocess.run([SIMENV, "bench", "--out", out, *options], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"simenv bench ended with code {done.returncode}:\n{done.stderr}")


def kill_at(out: Path, options: list[str], moment: float) -> bool:
    """Starts a run and kills it after so many seconds; False if it had ended by itself."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([SIMENV, "bench", "--out", out, *options], **quiet)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def finished_chunks(run: Path) -> int:
    file = run / "chunks.jsonl"
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def model_of(cassette: Path) -> str:
    with cassette.open(encoding="utf-8") as lines:
        return str(json.loads(next(lines))["model"])


if __name__ == "__main__":
    main()
