"""Two runs at once against one run alone, with the number of threads left to simenv: waiting threads must not spin.

python -m benchmarks.speed.side_by_side
python -m benchmarks.speed.side_by_side --llm embedded

On two free cores, two runs at once should take about as long as one. On a busy machine they take up to twice as long;
with threads that spin, it was more than ten times.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.speed.measure import Aim, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", default="scripted")
    parser.add_argument("--n", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    threads = [name for name in os.environ if name.endswith("_NUM_THREADS")]
    environment = {name: value for name, value in os.environ.items() if name not in threads} | {"SIMENV_VECTORS": "off"}

    def seconds(runs: int) -> Callable[[], float]:
        return lambda: together(runs, asked.llm, asked.n, environment)

    compare(
        f"two runs at once over one alone, {asked.llm} model, click model",
        "s",
        {"two at once": seconds(2), "one alone": seconds(1)},
        aim=Aim(1.3, at="most"),
        rounds=asked.rounds,
        note=f"{asked.n} auctions with new texts each. Other work on the cores lengthens the first side more.",
    )


def together(runs: int, llm: str, n: int, environment: Mapping[str, str]) -> float:
    """Seconds until all of these runs, begun at once, have ended."""
    with TemporaryDirectory() as place:
        options = ["--mechanisms", "gsp", "--llm", llm, "--n", str(n), "--quality", "none"]
        started = time.perf_counter()
        begun = [
            subprocess.Popen(
                [sys.executable, "-m", "simenv", "bench", *options, "--out", str(Path(place) / str(number))],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for number in range(runs)
        ]
        codes = [process.wait() for process in begun]
        if any(codes):
            raise SystemExit("a run failed")
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
