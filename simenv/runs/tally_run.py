"""Measures the log of a run; a long log in several processes, each of which reads some of its chunks."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np

from simenv.runs.log import chunk_ends, read_chunks, read_transitions
from simenv.runs.metric_types import Metric
from simenv.runs.metrics import METRICS
from simenv.runs.tally import Tally, tally

LONG = 64_000_000
"""Bytes of a log for each process: to start one takes about as long as to read a tenth of it."""
_MOST = 8
_WORK = "from simenv.runs.tally_run import work; work()"
_RESULT = "tally.pickle"


@contextmanager
def tally_of_run(folder: Path, metrics: Sequence[Metric]) -> Iterator[Tally]:
    """Measures the answers of a run's folder, each chunk against its checksum.

    Metrics of a user's own are called in this process alone.

    Raises:
        DataFileError: as `read_transitions`.
        InputError: as `tally`.
    """

    def in_parts(numbers: Path, expected: bool) -> Tally | None:
        return _in_parts(folder, numbers, expected) if tuple(metrics) == METRICS else None

    with tally(lambda: read_transitions(folder), metrics, in_parts) as found:
        yield found


def _in_parts(folder: Path, numbers: Path, expected: bool) -> Tally | None:
    """The tally of a long log; None if it is not long, is damaged, or a process fails: one process tells why."""
    ends = chunk_ends(folder)
    processes = min(processors(), _MOST, ends[-1] // LONG if ends else 0)
    if processes < 2:
        return None
    cuts = [0, *(int(np.searchsorted(ends, ends[-1] * i // processes)) for i in range(1, processes)), len(ends)]
    workers = []
    try:
        for number, (start, stop) in enumerate(pairwise(cuts)):
            own = numbers / f"{expected}-{number}"
            own.mkdir()
            task = json.dumps([str(folder.resolve()), start, stop, str(own), expected])
            # A process of its own, not multiprocessing: that would import a user's script again. -P: nor a file of the
            # user's working folder.
            command = [sys.executable, "-P", "-c", _WORK, task]
            workers.append((own, subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)))
        codes = [process.wait() for _, process in workers]
    finally:
        for _, process in workers:
            process.kill()
            process.wait()
    if any(codes):
        return None
    first, *later = (pickle.loads((own / _RESULT).read_bytes()) for own, _ in workers)  # written by us, just now
    found: Tally = first
    for part in later:
        found.add_all(part)
    return found


def processors() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work() -> None:
    """Measures some chunks, in a process that `tally_of_run` has started."""
    folder, start, stop, numbers, expected = json.loads(sys.argv[1])
    found = Tally(Path(numbers), METRICS, expected)
    for transition in read_chunks(Path(folder), start, stop):
        found.add(transition)
        if found.contradicted:
            break
    found.flush()
    (Path(numbers) / _RESULT).write_bytes(pickle.dumps(found))
