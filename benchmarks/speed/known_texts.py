"""Auctions a second on one core when every text is known: what simenv itself costs, without encoder and language model.

python -m benchmarks.speed.known_texts              # this code
python -m benchmarks.speed.known_texts --before DIR # and that of another checkout, in turns

Each side runs in a process of its own: it runs gsp on the scripted model twice, on the same auctions, and times the
second time, in which the encoder and the model answer from memory. It does what `simenv bench` does for each auction:
session, retrieval, bids, mechanism, click model, settlement, and the log on the disk.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]


def auctions_per_second(n: int, quality: str) -> float:
    """The rate of the second of two runs of `n` auctions."""
    from simenv.background_loop import run_sync
    from simenv.runs.build import build, plan
    from simenv.runs.folder import RunFolder
    from simenv.runs.options import BenchOptions
    from simenv.runs.rollout import rollout

    parts = build(plan(BenchOptions(mechanisms=("gsp",), llm="scripted", n=n, quality=quality)))
    parts.world.prepare()
    rates = []
    for _ in range(2):
        with TemporaryDirectory() as place:
            folder = RunFolder(Path(place) / "run")
            folder.begin({"n": n}, {}, {})
            started = time.perf_counter()
            run_sync(lambda: rollout(parts.world, parts.mechanisms, n=n, seed=0, on_chunk=folder.append))  # noqa: B023
            rates.append(n / (time.perf_counter() - started))
    return rates[-1]


def side(code: Path, n: int, quality: str) -> Callable[[], float]:
    """Measures the code of a checkout in a process of its own, on one thread."""

    def run() -> float:
        command = [sys.executable, str(Path(__file__)), "--one", str(n), "--quality", quality]
        environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, cwd=code, capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--quality", default="none", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one is not None:
        print(auctions_per_second(asked.one, asked.quality))
        return

    from benchmarks.speed.measure import Aim, compare

    for quality, words in (("none", "clicks"), ("embedded", "clicks and quality")):
        sides = {"this code": side(ROOT, asked.n, quality)}
        if asked.before is not None:
            sides["before"] = side(asked.before.resolve(), asked.n, quality)
        compare(
            f"auctions on one core, every text known ({words})",
            "auctions/s",
            sides,
            aim=Aim(1500, of="number") if quality == "none" else None,
            rounds=asked.rounds,
            note="gsp on the scripted model, with the log written to disk.",
        )


if __name__ == "__main__":
    main()
