"""Where an auction's time goes when every text is known, by stage and by kind of work.

python -m benchmarks.speed.profile_auction          # prints the tables
python -m benchmarks.speed.profile_auction --write  # and puts them into docs/speed.md

Stages are timed from outside, in seconds of processor; nothing waits when every text is known, so a stage's time is its
own. Kinds of work come from cProfile, which makes short Python functions look longer than they are.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from inspect import iscoroutinefunction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed.table import PAGE
from simenv import world
from simenv.llm.base import LLM
from simenv.runs.folder import RunFolder

_STAGES: list[tuple[str, Any, str]] = [
    ("auction: candidates, values, bids", world.World, "auction"),
    ("mechanism, without the language model", world, "run_mechanism"),
    ("language model: requests and memory", LLM, "complete"),
    ("check of the mark-up", world.World, "verify"),
    ("click model", world, "run_judge"),
    ("settlement: payments, rewards, transition", world, "settle"),
    ("log: JSON, checksums, files", RunFolder, "append"),
]
_REST = "tasks, meters and what is around"
_KINDS = [
    ("records (pydantic)", r"pydantic"),
    ("arrays and random numbers (numpy)", r"numpy|_generator|_pcg64|bit_generator|'numpy"),
    ("files", r"posix\.|'_io\."),
    ("regular expressions and text", r"re\.Pattern|re\.Match|/re/|'str' objects|unicodedata|simenv/(text|links)\.py"),
    ("event loop and context managers", r"asyncio|_asyncio|contextlib|_contextvars"),
    ("click model", r"judges/"),
    ("language model and writer", r"simenv/(llm|writer)/"),
    ("other code of simenv and the mechanism", r"simenv/|mechanisms/"),
]


@contextmanager
def _timed(seconds: Counter[str]) -> Iterator[None]:
    """Adds each stage's own seconds, without those of a stage inside it."""
    inside = [""]

    def watch(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def begin() -> float:
            inside.append(stage)
            return time.process_time()

        def end(began: float) -> None:
            took = time.process_time() - began
            inside.pop()
            seconds[stage] += took
            seconds[inside[-1]] -= took

        @wraps(function)
        def plain(*args: Any, **kwargs: Any) -> Any:
            began = begin()
            try:
                return function(*args, **kwargs)
            finally:
                end(began)

        @wraps(function)
        async def waiting(*args: Any, **kwargs: Any) -> Any:
            began = begin()
            try:
                return await function(*args, **kwargs)
            finally:
                end(began)

        return waiting if iscoroutinefunction(function) else plain

    before = [(owner, name, getattr(owner, name)) for _, owner, name in _STAGES]
    for (stage, owner, name), (_, _, function) in zip(_STAGES, before, strict=True):
        setattr(owner, name, watch(stage, function))
    try:
        yield
    finally:
        for owner, name, function in before:
            setattr(owner, name, function)


def profile(n: int) -> tuple[Counter[str], Counter[str]]:
    """Runs gsp on `n` auctions with known texts: microseconds per auction by stage, and seconds by kind of work."""
    import asyncio

    from simenv.runs.build import build, plan
    from simenv.runs.options import BenchOptions
    from simenv.runs.rollout import rollout

    parts = build(plan(BenchOptions(mechanisms=("gsp",), llm="scripted", n=n, quality="none")))
    parts.world.prepare()

    def once() -> float:
        with TemporaryDirectory() as place:
            folder = RunFolder(Path(place) / "run")
            folder.begin({"n": n}, {}, {})
            began = time.process_time()
            asyncio.run(rollout(parts.world, parts.mechanisms, n=n, seed=0, on_chunk=folder.append))
            return time.process_time() - began

    once()
    stages: Counter[str] = Counter()
    with _timed(stages):
        total = once()
    stages[_REST] = stages.pop("") + total
    profiler = cProfile.Profile(time.process_time)
    profiler.runcall(once)
    kinds: Counter[str] = Counter()
    for (file, _, name), (_, _, own, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        where = f"{file} {name}"
        kinds[next((kind for kind, pattern in _KINDS if re.search(pattern, where)), "other Python")] += own
    return Counter({stage: 1e6 * s / n for stage, s in stages.items()}), kinds


def tables(n: int) -> str:
    """Both as Markdown."""
    stages, kinds = profile(n)
    total = sum(stages.values())
    rows = ["| stage | µs | share |", "| --- | ---: | ---: |"]
    rows += [f"| {stage} | {us:.0f} | {us / total:.0%} |" for stage, us in stages.most_common()]
    rows += [f"| all | {total:.0f} | 100% |", "", "| kind of work | share |", "| --- | ---: |"]
    rows += [f"| {kind} | {s / sum(kinds.values()):.0%} |" for kind, s in kinds.most_common()]
    return "\n".join(rows)


_START, _END = "<!-- profile: written by benchmarks/speed/profile_auction.py -->", "<!-- end of profile -->"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=512)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    text = tables(asked.n)
    print(text)
    if asked.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(_START)
        after = rest.partition(_END)[2]
        PAGE.write_text(f"{before}{_START}\n\n{text}\n\n{_END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
