"""Peak memory of a run of many auctions over that of a run of few: everything of a run, from sessions to the table.

    python -m benchmarks.speed.memory --few 10000 --many 50000

The world is `simenv.testing.small_world`: its FAKE encoder is fast, so that what grows with auctions shows in minutes.
All else is that of a benchmark: the rollout, the writer of the folder, and the tables from the log. Each run is a
process of its own. Memories of requests and texts are bounded; they are full after some thousand auctions.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.speed.measure import Aim, compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", type=int, help="run this many auctions and print the peak")
    given = parser.parse_args()
    if given.one:
        print(peak(given.one))
        return
    compare(
        f"peak memory of a run of {given.many:,} auctions over one of {given.few:,}",
        "MB",
        {f"{n:,} auctions": lambda n=n: alone(n) for n in (given.many, given.few)},  # type: ignore[misc]
        aim=Aim(1.1, of="ratio", at="most"),
        rounds=given.rounds,
        note="One mechanism, scripted model, a fake encoder.",
    )


def alone(n: int) -> float:
    """Peak of a process that runs n auctions, MB."""
    command = [sys.executable, "-m", "benchmarks.speed.memory", "--one", str(n)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(n: int) -> float:
    """Runs n auctions in this process, and returns its peak memory, MB."""
    from simenv import make_mechanism
    from simenv.background_loop import run_sync
    from simenv.llm import ScriptedLLM
    from simenv.runs.folder import RunFolder
    from simenv.runs.metrics import METRICS
    from simenv.runs.rollout import Sessions, rollout
    from simenv.runs.run_log import RunLog
    from simenv.runs.summary import table_of
    from simenv.runs.tables import write_tables
    from simenv.runs.tally_run import tally_of_run
    from simenv.testing import FakeEncoder, small_world

    mechanism = make_mechanism("gsp", context={"llm": ScriptedLLM(), "encoder": FakeEncoder()})
    with tempfile.TemporaryDirectory() as name:
        run = RunFolder(Path(name) / "run")
        run.begin({}, {}, {})
        sessions = Sessions(save=run.save_sessions)
        with RunLog(run, {}, n=n, again=True) as log:
            run_sync(
                lambda: rollout(small_world(), {"gsp": mechanism}, n=n, seed=0, on_chunk=log.write, sessions=sessions)
            )
        with tally_of_run(run.path, METRICS) as found:
            write_tables(table_of(found, METRICS), run.path)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
