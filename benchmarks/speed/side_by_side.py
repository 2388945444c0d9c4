"""Two runs at once against one run alone, with the number of threads left to simenv: waiting threads must not spin.

A thread that spins uses processor time, on a busy machine too; the time on the clock tells the rest.

python -m benchmarks.speed.side_by_side
python -m benchmarks.speed.side_by_side --llm embedded
python -m benchmarks.speed.side_by_side --before DIR   # and the runs of another checkout, in turns

On two free cores, two runs at once should take about as long as one. On cores that are busy already they take twice as
long; with threads that spin, more than that.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.speed.known_texts import ROOT
from benchmarks.speed.measure import Aim, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--llm", default="scripted")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    threads = [name for name in os.environ if name.endswith("_NUM_THREADS")]
    environment = {name: value for name, value in os.environ.items() if name not in threads} | {"SIMENV_VECTORS": "off"}

    codes = {"": ROOT} | ({", before": asked.before.resolve()} if asked.before is not None else {})

    def sides(measured: Callable[[int, Path], float]) -> dict[str, Callable[[], float]]:
        counts = {"two at once": 2, "one alone": 1}
        return {
            f"{what}{when}": partial(measured, runs, code)
            for when, code in codes.items()
            for what, runs in counts.items()
        }

    def seconds(runs: int, code: Path) -> float:
        started = time.perf_counter()
        together(runs, asked.llm, asked.n, environment, code)
        return time.perf_counter() - started

    def processor_seconds(runs: int, code: Path) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        together(runs, asked.llm, asked.n, environment, code)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / runs

    compare(
        f"processor time of a run beside another, over that of a run alone, {asked.llm} model, click model",
        "s",
        sides(processor_seconds),
        aim=Aim(1.2, at="most"),
        rounds=asked.rounds,
        note=f"{asked.n} auctions with new texts each. Threads that spin while they wait would use more.",
    )
    compare(
        f"two runs at once over one alone, {asked.llm} model, click model",
        "s",
        sides(seconds),
        aim=Aim(1.3, at="most"),
        rounds=asked.rounds,
        note=f"{asked.n} auctions with new texts each. On cores that are busy already, 2 is what can be expected.",
    )


def together(runs: int, llm: str, n: int, environment: Mapping[str, str], code: Path) -> None:
    """Begins so many runs at once and waits until all have ended."""
    with TemporaryDirectory() as place:
        options = ["--mechanisms", "gsp", "--llm", llm, "--n", str(n), "--quality", "none"]
        begun = [
            subprocess.Popen(
                [sys.executable, "-m", "simenv", "bench", *options, "--out", str(Path(place) / str(number))],
                env={**environment, "PYTHONPATH": str(code)},
                cwd=code,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(runs)
        ]
        codes = [process.wait() for process in begun]
        if any(codes):
            raise SystemExit("a run failed")


if __name__ == "__main__":
    main()
