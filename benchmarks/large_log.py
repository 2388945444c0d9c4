"""A log of 10^5 transitions: size on disk, time to compute metrics, and one DuckDB query.

    python benchmarks/large_log.py --rows 100000

2,000 transitions come from a real run with the scripted model. They are repeated with new indices, because the
benchmark measures the log, not the run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import duckdb
from rich.console import Console

from simenv.runs.bench import BenchOptions, run_bench
from simenv.runs.folder import RunFolder, read_transitions
from simenv.runs.rollout import Finished
from simenv.runs.summary import summarize

MECHANISMS = ("gsp", "fixed_slots")
QUESTION = """
select mechanism, count(*) as answers, avg(reward) as reward, avg(len(outcome.placements)) as ads
from read_json('{file}', format = 'newline_delimited')
group by mechanism order by mechanism
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small", Path(folder) / "large"
        options = BenchOptions(mechanisms=MECHANISMS, n=1000, llm="scripted", chunk=100)
        run_bench(options, small, Console(quiet=True), Console(stderr=True))
        real = list(read_transitions(small))
        run = RunFolder(large)
        run.begin({}, {}, {})
        for start in range(0, rows, len(real)):
            shifted = [t.model_copy(update={"index": t.index + start // len(MECHANISMS)}) for t in real]
            run.append(Finished(shifted[: rows - start], {}))
        file = large / "transitions.jsonl"
        print(f"{rows} transitions: {file.stat().st_size / 1e6:.0f} MB, {file.stat().st_size / rows:.0f} bytes each")
        began = time.perf_counter()
        summarize(read_transitions(large))
        print(f"read, checked and summarized with intervals in {time.perf_counter() - began:.1f} s")
        began = time.perf_counter()
        answer = duckdb.sql(QUESTION.format(file=file))
        print(answer)
        print(f"DuckDB: {time.perf_counter() - began:.1f} s for{QUESTION.format(file='transitions.jsonl')}")


if __name__ == "__main__":
    main()
