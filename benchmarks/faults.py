"""A server fails 30% of all requests, one kind of fault per run: compares the logs and counts the retries.

    python -m benchmarks.faults --n 40

One fake server (`simenv.testing.FakeOpenAI`) writes the queries and the answers and judges them, for three
mechanisms, over real HTTP with the same client as for any server. Waits between attempts are off: only the number of
attempts is measured. Exit code 1 if a log differs from the log of the run without faults.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.judges.llm_judge import LLMJudge
from simenv.llm.hosted import HostedLLM
from simenv.runs.folder import RunFolder
from simenv.runs.rollout import Sessions, rollout
from simenv.testing import FAULTS, FakeOpenAI, FakeRoles, Fault, small_world
from simenv.users.queries import LLMQueries

NAMES = ("gsp", "best_of_n", "fixed_slots")
CHUNK = 4
SHARE = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=40, help="auctions")
    n = parser.parse_args().n
    os.environ.pop("OPENAI_API_KEY", None)
    shown = Table(title=f"{n} auctions, {', '.join(NAMES)}; {SHARE:.0%} of requests fail", box=SIMPLE_HEAD)
    for column in ("fault", "requests", "retries counted", "seconds", "transitions", "sessions"):
        shown.add_column(column, justify="left" if column == "fault" else "right")
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "none"
        equal = [trial(whole, whole, None, n, shown)]
        equal += [trial(Path(name) / fault, whole, fault, n, shown) for fault in FAULTS]
    Console().print(shown)
    sys.exit(not all(equal))


def run(path: Path, server: FakeOpenAI, n: int, timeout: float = 30.0) -> bytes:
    """Runs n auctions with one model in all roles (writes queries and answers, judges); gives the log.

    A request fails all of its 25 attempts with probability 0.3^25 = 8e-14.
    """
    llm = HostedLLM("openai/fake", api_base=server.url, timeout=timeout, attempts=25, max_wait=0)
    world = small_world(queries=LLMQueries(llm), judge=LLMJudge(llm), horizon=3)
    mechanisms = {name: make_mechanism(name, context={"llm": llm}) for name in NAMES}
    folder = RunFolder(path)
    folder.begin({}, {}, {})

    async def go() -> None:
        sessions = Sessions(save=folder.save_sessions)
        await rollout(world, mechanisms, n=n, seed=2, on_chunk=folder.append, chunk=CHUNK, sessions=sessions)

    run_sync(go)
    folder.finish(retries={llm.name: llm.retries})
    return (path / "transitions.jsonl").read_bytes()


def trial(path: Path, whole: Path, fault: Fault | None, n: int, shown: Table) -> bool:
    """One run into `path`, compared with the undisturbed one in `whole`, and its row of the table."""
    began = time.perf_counter()
    with FakeOpenAI(FakeRoles()) as server:
        if fault is not None:
            server.fail_share(SHARE, fault)
        run(path, server, n, timeout=0.5 if fault == "timeout" else 30.0)
    seconds = time.perf_counter() - began
    (retries,) = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["retries"].values()
    same = [
        (path / file).read_bytes() == (whole / file).read_bytes() for file in ("transitions.jsonl", "sessions.jsonl")
    ]
    words = ["equal" if s else "DIFFERENT" for s in same] if fault is not None else ["", ""]
    shown.add_row(fault or "none", str(server.count), str(retries), f"{seconds:.1f}", *words)
    return all(same)


if __name__ == "__main__":
    main()
