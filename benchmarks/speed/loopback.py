"""Answers a second at a server, against bare aiohttp making as many calls with as many in flight.

    python -m benchmarks.speed.loopback
    python -m benchmarks.speed.loopback --n 2000 --rounds 3 --only 64

The server is a process of its own on this machine, which answers after 100 ms with jitter (`loopback_server`); in the
second half of the claims, 1% of calls get status 429 and 1% status 500. One side is what `simenv bench --mechanisms
organic` does: sessions, auctions, one call an answer, clicks, and the log on the disk. The other posts the same prompts
and reads the replies, and does nothing else. Both sides run in this process, in turns.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.speed.loopback_server import loopback
from benchmarks.speed.measure import Aim, compare
from simenv.background_loop import run_sync
from simenv.runs.build import build, plan
from simenv.runs.folder import RunFolder
from simenv.runs.options import BenchOptions
from simenv.runs.rollout import in_flight_of, rollout

FAULTS = ("--share-429", "0.01", "--share-500", "0.01", "--retry-after", "0.2")
WORDS = ("--words", "15")
"""A longer reply of the server repeats itself, and simenv asks for such an answer again."""
AIMS = {64: 0.9, 256: 0.7}


def stats(url: str, path: str) -> dict[str, Any]:
    """What the server has counted since it was last told to reset."""
    with urllib.request.urlopen(url.removesuffix("/v1") + path) as reply:
        counted: dict[str, Any] = json.load(reply)
        return counted


def simenv_side(url: str, n: int, concurrency: int, most: list[int]) -> Callable[[], float]:
    """Answers a second of runs of simenv; `most` gets the calls that were in flight at the server."""
    options = BenchOptions(
        mechanisms=("organic",), llm="openai/loopback", api_base=url, judge="click", quality="none", n=n,
        concurrency=concurrency,
    )  # fmt: skip
    parts = build(plan(options))
    parts.world.prepare()
    seeds = itertools.count()

    def run(n: int = n) -> float:
        seed = next(seeds)  # another run has other requests, which memory does not have
        stats(url, "/reset")
        with TemporaryDirectory() as place:
            folder = RunFolder(Path(place) / "run")
            folder.begin({"n": n}, {}, {})
            started = time.perf_counter()
            run_sync(
                lambda: rollout(
                    parts.world,
                    parts.mechanisms,
                    n=n,
                    seed=seed,
                    on_chunk=folder.append,
                    in_flight=in_flight_of(parts.llms),
                )
            )
            seconds = time.perf_counter() - started
        counted = stats(url, "/stats")
        assert counted["calls"] - counted["failed"] == n, "one call an answer"
        most.append(counted["most_in_flight"])
        return n / seconds

    run(300)  # the encoder then knows the queries
    most.clear()
    return run


def bare_side(url: str, n: int, concurrency: int) -> Callable[[], float]:
    """Answers a second of aiohttp alone."""
    import aiohttp

    calls = itertools.count()

    async def post(session: aiohttp.ClientSession, left: list[int]) -> None:
        while left:
            left.pop()
            body = {
                "model": "loopback",
                "messages": [{"role": "user", "content": f"Question {next(calls)}: {'which boots stay dry? ' * 12}"}],
                "temperature": 0.7,
                "max_tokens": 256,
            }
            while True:
                async with session.post(f"{url}/chat/completions", json=body) as reply:
                    if reply.status == 200:
                        (await reply.json())["choices"][0]["message"]["content"]
                        break
                    await reply.read()
                    wait = float(reply.headers.get("Retry-After", 0.2))
                await asyncio.sleep(wait)

    async def go() -> None:
        left = list(range(n))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency)) as session:
            await asyncio.gather(*(post(session, left) for _ in range(concurrency)))

    def run() -> float:
        started = time.perf_counter()
        asyncio.run(go())
        return n / (time.perf_counter() - started)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5000, help="answers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", type=int, choices=list(AIMS), help="only with so many calls in flight")
    asked = parser.parse_args()
    os.environ.pop("OPENAI_API_KEY", None)
    for faults, concurrency in itertools.product((False, True), AIMS):
        if asked.only in (None, concurrency):
            with loopback(*WORDS, *(FAULTS if faults else ())) as url:
                most: list[int] = []
                ours = simenv_side(url, asked.n, concurrency, most)
                result = compare(
                    f"answers at a server, {concurrency} calls in flight" + (", 2% of calls fail" if faults else ""),
                    "answers/s",
                    {"simenv": ours, "bare aiohttp": bare_side(url, asked.n, concurrency)},
                    aim=Aim(AIMS[concurrency]),
                    rounds=asked.rounds,
                    note=f"{asked.n} answers, 100 ms with jitter.",
                )
                print(f"in flight at the server: {most}; met: {result['met']}")


if __name__ == "__main__":
    main()
