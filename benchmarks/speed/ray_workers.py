"""Two workers of `--engine ray` on this machine against one, and a run of which a worker is killed half-way.

python -m benchmarks.speed.ray_workers           # needs two processors for itself
python -m benchmarks.speed.ray_workers --n 320   # shorter

Every run has a process, a cluster and texts of its own. A rate counts from a third of the answers on, when all workers
have started. What the machine itself gives is measured beside: two runs of `--engine local` at once, and one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]
SEEDS = itertools.count(int(time.time()))
LOAD: dict[str, Any] = {"llm": "scripted", "judge": "click", "quality": "none"}


def run(out: Path, seed: int, n: int, engine: dict[str, Any], kill: bool = False) -> dict[str, float]:
    """Runs a benchmark. Returns auctions a second, and seconds before the first finished chunk."""
    import simenv
    from simenv.runs.bench import Progress

    times: list[float] = []
    begun = 0.0

    def started(_: int) -> None:
        nonlocal begun
        begun = time.perf_counter()

    def answered() -> None:
        times.append(time.perf_counter())
        if kill and len(times) == n // 2:
            os.kill(workers_of_this_process()[0], signal.SIGKILL)

    progress = Progress(started=started, answered=answered)
    simenv.bench("gsp", out=out, n=n, seed=seed, progress=progress, **LOAD, **engine)
    third = len(times) // 3
    after = sum(at > times[third] + 0.001 for at in times)  # the answers of a chunk are told at once
    return {"rate": after / (times[-1] - times[third]), "start": times[0] - begun}


def workers_of_this_process() -> list[int]:
    """Process ids of the Ray workers that descend from this process and run chunks."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                names[int(entry.name)] = (entry / "cmdline").read_bytes()
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue

    def is_ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    return sorted(pid for pid, name in names.items() if name.startswith(b"ray::_Host") and is_ours(pid))


def in_processes(runs: int, *arguments: str) -> list[dict[str, float]]:
    """What `--one` prints in processes of its own, which run at once."""
    command = [sys.executable, "-m", "benchmarks.speed.ray_workers", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SIMENV_VECTORS": "off"}
    processes = [
        subprocess.Popen(
            [*command, "--seed", str(next(SEEDS))], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(runs)
    ]
    printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("a run failed")
    return [json.loads(text.splitlines()[-1]) for text in printed]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=960)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--kill", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.kill is not None:
        print(json.dumps(run(asked.kill, asked.seed, asked.n, {"engine": "ray", "workers": 2}, kill=True)))
        return
    if asked.one is not None:
        with TemporaryDirectory() as place:
            engine = {"engine": "ray", "workers": asked.one} if asked.one else {}
            print(json.dumps(run(Path(place) / "run", asked.seed, asked.n, engine)))
        return

    from benchmarks.speed.measure import Aim, compare

    starts: list[float] = []

    def side(workers: int, runs: int = 1) -> Callable[[], float]:
        def measure() -> float:
            results = in_processes(runs, "--one", str(workers), "--n", str(asked.n))
            if workers:
                starts.append(results[0]["start"])
            return sum(result["rate"] for result in results)

        return measure

    compare(
        "`--engine ray` on this machine: 2 workers against 1, texts new",
        "auctions/s",
        {
            "2 workers": side(2),
            "1 worker": side(1),
            "2 local runs at once": side(0, runs=2),
            "1 local run": side(0),
        },
        aim=Aim(1.7),
        rounds=asked.rounds,
        note="gsp on the scripted model, click model, after the workers' start. Two local runs at once are what the "
        "machine itself gives.",
    )
    print(f"start of the workers, to the first chunk: {min(starts):.1f} to {max(starts):.1f} s")

    def differing() -> float:
        """Rows of a run of which a worker is killed half-way that differ from those of one process."""
        with TemporaryDirectory() as place:
            in_processes(1, "--kill", str(Path(place) / "ray"), "--n", str(asked.n))
            manifest = json.loads((Path(place) / "ray" / "manifest.json").read_bytes())
            run(Path(place) / "local", manifest["options"]["seed"], asked.n, {})
            logs = [(Path(place) / name / "transitions.jsonl").read_bytes().splitlines() for name in ("ray", "local")]
            return float(sum(a != b for a, b in itertools.zip_longest(*logs)))

    compare(
        "`--engine ray`, a worker killed half-way: rows that differ from a local run",
        "rows",
        {f"of {asked.n}": differing},
        aim=Aim(0, of="number", at="most"),
        rounds=min(2, asked.rounds),
        note="Two workers; kill -9 after half of the answers.",
    )


if __name__ == "__main__":
    main()
