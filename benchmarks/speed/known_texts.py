"""Auctions a second on one core, with new texts and with known ones: gsp, scripted model, click model, log on the disk.

python -m benchmarks.speed.known_texts              # this code
python -m benchmarks.speed.known_texts --before DIR # and that of another checkout, in turns

Each side runs in a process of its own, on one thread. It runs the same auctions twice. The first time, the encoder
reads most of the texts; the second time, encoder and language model answer from memory, so that only simenv itself is
measured. An auction is all that `simenv bench` does for it: session, retrieval, bids, mechanism, click model,
settlement and log.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Passes(NamedTuple):
    """Seconds per auction."""

    new: float
    """When the auctions run for the first time."""
    known: float
    """When they run again."""


def passes(n: int, quality: str = "none", keep: Path | None = None) -> Passes:
    """Times `n` auctions twice; `keep` is a new folder for the first run's log."""
    from simenv.background_loop import run_sync
    from simenv.runs.build import build, plan
    from simenv.runs.folder import RunFolder
    from simenv.runs.options import BenchOptions
    from simenv.runs.rollout import rollout

    parts = build(plan(BenchOptions(mechanisms=("gsp",), llm="scripted", n=n, quality=quality)))
    parts.world.prepare()
    seconds = []
    with TemporaryDirectory() as place:
        for path in (keep or Path(place) / "new", Path(place) / "known"):
            folder = RunFolder(path)
            folder.begin({"n": n}, {}, {})
            started = time.perf_counter()
            run_sync(lambda: rollout(parts.world, parts.mechanisms, n=n, seed=0, on_chunk=folder.append))  # noqa: B023
            seconds.append((time.perf_counter() - started) / n)
    return Passes(*seconds)


def elsewhere(script: str, arguments: Sequence[str], code: Path = ROOT) -> Passes:
    """What a script prints as JSON, run with the code of a checkout in a process of its own, on one thread."""
    environment = {**os.environ, "PYTHONPATH": str(code), "OMP_NUM_THREADS": "1", "SIMENV_VECTORS": "off"}
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, env=environment, cwd=code, capture_output=True, text=True, check=True)
    return Passes(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of another version")
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quality", default="none", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(passes(asked.n, asked.quality)))
        return

    from benchmarks.speed.measure import Aim, compare

    def rate(code: Path, quality: str, which: str) -> Callable[[], float]:
        arguments = ["--one", "--n", str(asked.n), "--quality", quality]
        return lambda: 1 / float(getattr(elsewhere(__file__, arguments, code), which))

    claims = [
        ("new", "none", "texts new", Aim(100, of="number")),
        ("known", "none", "texts known", Aim(1500, of="number")),
        ("known", "embedded", "texts known, answer quality measured too", None),
    ]
    for which, quality, words, aim in claims:
        sides = {"this code": rate(ROOT, quality, which)}
        if asked.before is not None:
            sides["before"] = rate(asked.before.resolve(), quality, which)
        compare(
            f"auctions on one core, gsp, scripted, click model: {words}",
            "auctions/s",
            sides,
            aim=aim,
            rounds=asked.rounds,
            note="The log is written to disk.",
        )


if __name__ == "__main__":
    main()
