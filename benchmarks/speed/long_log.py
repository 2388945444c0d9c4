"""Every metric of a log of 10^6 transitions, with intervals: seconds and memory.

    python -m benchmarks.speed.long_log --rows 1000000

2,000 transitions come from a real run with the scripted model. They are repeated with new indices, because the
benchmark measures the log, not the run. One process or several read the log; the table is the same to the byte.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.speed.measure import Aim, compare
from simenv import bench
from simenv.runs import tally_run
from simenv.runs.folder import RunFolder, read_transitions
from simenv.runs.metrics import METRICS
from simenv.runs.summary import table_of
from simenv.runs.tables import to_csv
from simenv.runs.window import Finished

MECHANISMS = ("gsp", "fixed_slots")
AUCTIONS = 1000
CHUNK = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the log is, or is written; a temporary folder by default")
    parser.add_argument("--processes", type=int, help="make the table with so many, and print time and memory")
    given = parser.parse_args()
    if given.processes:
        print(*table(given.folder, given.processes))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name) / "long"
        if not (folder / "transitions.jsonl").is_file():
            write(folder, given.rows, Path(name) / "real")
        size = (folder / "transitions.jsonl").stat().st_size
        alone, together = measured(folder, 1), measured(folder, tally_run.processors())
        if alone[2] != together[2]:
            raise SystemExit("the table depends on the number of processes")
        note = (
            f"The log has {size / 1e9:.1f} GB. Peak memory: {alone[1]:.0f} MB in one process, {together[1]:.0f} MB in "
            f"the largest of {tally_run.processors()}."
        )
        compare(
            f"all metrics of {given.rows:,} transitions",
            "s",
            {
                f"{tally_run.processors()} processes": lambda: measured(folder, tally_run.processors())[0],
                "one process": lambda: measured(folder, 1)[0],
            },
            aim=Aim(60.0, of="number", at="most"),
            rounds=given.rounds,
            note=note,
        )


def write(folder: Path, rows: int, real: Path) -> None:
    """Writes the folder of a run with a log of so many rows."""
    bench(MECHANISMS, out=real, n=AUCTIONS, llm="scripted", chunk=CHUNK)
    lines = [t.model_dump_json() for t in read_transitions(real)]
    run = RunFolder(folder)
    run.begin({}, {}, {})
    for start in range(0, rows // len(MECHANISMS), CHUNK):
        first = start % AUCTIONS * len(MECHANISMS)
        chunk = lines[first : first + CHUNK * len(MECHANISMS)]
        run.append(Finished([_Line(_moved(line, start - start % AUCTIONS)) for line in chunk], {}))  # type: ignore[misc]


class _Line:
    """A transition that is written as it is: to validate 10^6 of them takes longer than what is measured."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.index = int(text[len('{"index":') : text.index(",")])

    def model_dump_json(self) -> str:
        return self.text


def _moved(line: str, by: int) -> str:
    return re.sub(r'^{"index":(\d+)', lambda found: f'{{"index":{int(found[1]) + by}', line)


def measured(folder: Path, processes: int) -> tuple[float, float, str]:
    """Seconds, MB of the largest process, and the table's hash, of a process that makes the table."""
    command = [sys.executable, "-m", "benchmarks.speed.long_log", "--folder", str(folder), "--processes"]
    said = subprocess.run([*command, str(processes)], check=True, capture_output=True, text=True).stdout.split()
    return float(said[0]), float(said[1]), said[2]


def table(folder: Path, processes: int) -> tuple[float, float, str]:
    """Makes the table in this process and its children."""
    tally_run.processors = lambda: processes
    began = time.perf_counter()
    with tally_run.tally_of_run(folder, METRICS) as found:
        text = to_csv(table_of(found, METRICS))
    seconds = time.perf_counter() - began
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return seconds, peak / 1024, hashlib.sha256(text.encode()).hexdigest()


if __name__ == "__main__":
    main()
