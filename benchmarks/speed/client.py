"""Calls a second of one client on one core, against bare aiohttp, OpenAI's client, LiteLLM and inspect_ai.

    python -m benchmarks.speed.client --inspect PYTHON

PYTHON is of an environment with inspect-ai and openai>=3.4, which LiteLLM does not allow beside it; without it this
side is left out. OpenAI's client on aiohttp needs httpx-aiohttp. Every side runs in a process of its own, makes the
same calls of the same loopback server (100 ms with jitter, in another process), and is timed after a round of calls
that opens its connections.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CALLS = {"simenv": 4000, "aiohttp": 4000, "openai_aiohttp": 3000, "litellm": 1500, "openai_httpx": 500, "inspect": 400}
"""Side -> calls that are timed: slow sides make fewer."""
PROMPT = "Which boots stay dry on long wet trails? " * 20
Call = Callable[[int], Awaitable[Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Calls a second of one client.")
    parser.add_argument("--inspect", help="python of an environment with inspect-ai and openai>=3.4")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, nargs="+", default=[64, 256])
    parser.add_argument("--side", choices=CALLS, help="only measure this side, at --url, and print calls a second")
    parser.add_argument("--url", default="")
    options = parser.parse_args()
    if options.side is not None:
        (in_flight,) = options.in_flight
        print(json.dumps(asyncio.run(measure(options.side, options.url, in_flight))))
        return
    from benchmarks.speed.loopback_server import loopback
    from benchmarks.speed.measure import Aim, compare

    for in_flight in options.in_flight:
        with loopback("--delay", "0.1", "--jitter", "0.5") as url:

            def side(name: str, in_flight: int = in_flight, url: str = url) -> Callable[[], float]:
                return lambda: of_process(name, url, in_flight, options.inspect)

            what = f"one client, {in_flight} calls in flight"
            sides = {"simenv": side("simenv"), "bare aiohttp": side("aiohttp")}
            aim = Aim({64: 0.9, 256: 0.7}.get(in_flight, 0.7))
            compare(f"{what}: against bare aiohttp", "calls/s", sides, aim=aim, rounds=options.rounds)
            others = {
                "simenv": side("simenv"),
                "LiteLLM (before)": side("litellm"),
                "openai on aiohttp": side("openai_aiohttp"),
                "openai as it comes": side("openai_httpx"),
            }
            compare(f"{what}: against other clients", "calls/s", others, rounds=options.rounds)
            if options.inspect is not None:
                sides = {"simenv": side("simenv"), "inspect_ai": side("inspect")}
                note = "inspect_ai 0.3.285 in an environment of its own makes as many calls, one a sample."
                compare(f"{what}: against inspect_ai", "calls/s", sides, aim=Aim(5), rounds=options.rounds, note=note)


def of_process(name: str, url: str, in_flight: int, inspect: str | None) -> float:
    """Calls a second of a side, in a process of its own with one thread."""
    python = inspect if name == "inspect" and inspect is not None else sys.executable
    command = [python, __file__, "--side", name, "--url", url, "--in-flight", str(in_flight)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return float(json.loads(ran.stdout.splitlines()[-1]))


async def measure(name: str, url: str, in_flight: int) -> float:
    """Calls a second of a side in this process."""
    if name == "inspect":
        return await inspect_ai_samples(url, in_flight)
    call: Call = {
        "simenv": simenv_calls,
        "aiohttp": aiohttp_calls,
        "openai_aiohttp": lambda url, n: openai_calls(url, n, aiohttp=True),
        "openai_httpx": lambda url, n: openai_calls(url, n, aiohttp=False),
        "litellm": litellm_calls,
    }[name](url, in_flight)
    slots = asyncio.Semaphore(in_flight)

    async def bounded(number: int) -> None:
        async with slots:
            await call(number)

    await asyncio.gather(*(bounded(-1 - number) for number in range(in_flight)))
    began = time.perf_counter()
    await asyncio.gather(*(bounded(number) for number in range(CALLS[name])))
    return CALLS[name] / (time.perf_counter() - began)


def simenv_calls(url: str, in_flight: int) -> Call:
    from simenv.llm import make_llm

    llm = make_llm("openai/loopback", api_base=url, concurrency=in_flight)
    return lambda number: llm.complete(PROMPT, key=("speed", number))


def aiohttp_calls(url: str, in_flight: int) -> Call:
    import aiohttp

    session: list[aiohttp.ClientSession] = []

    async def call(number: int) -> str:
        if not session:
            session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)))
        async with session[0].post(f"{url}/chat/completions", json=body(number)) as response:
            text: str = (await response.json())["choices"][0]["message"]["content"]
            return text

    return call


def openai_calls(url: str, in_flight: int, *, aiohttp: bool) -> Call:
    import httpx
    from openai import AsyncOpenAI, DefaultAioHttpClient, DefaultAsyncHttpxClient

    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    http = (DefaultAioHttpClient if aiohttp else DefaultAsyncHttpxClient)(limits=limits)
    client = AsyncOpenAI(base_url=url, api_key="none", http_client=http, max_retries=0)
    return lambda number: client.chat.completions.create(**body(number))


def litellm_calls(url: str, in_flight: int) -> Call:
    from simenv.llm.litellm_library import load_litellm

    litellm = load_litellm()

    async def call(number: int) -> Any:
        return await litellm.acompletion(
            **{**body(number), "model": "openai/loopback"}, api_base=url, api_key="none", max_retries=0
        )

    return call


async def inspect_ai_samples(url: str, in_flight: int) -> float:
    """Samples a second of a task with one call each."""
    import logging

    os.environ.update(OPENAI_API_KEY="none", INSPECT_DISPLAY="none")
    from inspect_ai import Task, eval_async
    from inspect_ai.dataset import MemoryDataset, Sample
    from inspect_ai.model import get_model
    from inspect_ai.solver import generate

    logging.disable(logging.WARNING)
    model = get_model("openai/loopback", base_url=url, api_key="none", responses_api=False)

    async def run(samples: int) -> float:
        task = Task(dataset=MemoryDataset([Sample(input=f"{PROMPT} {i}") for i in range(samples)]), solver=generate())
        began = time.perf_counter()
        (log,) = await eval_async(
            task,
            model=model,
            log_dir=folder,
            max_samples=in_flight,
            max_connections=in_flight,
            cache=False,
        )
        if log.status != "success":
            raise SystemExit(f"inspect_ai ended with {log.status}: {log.error}")
        return time.perf_counter() - began

    with tempfile.TemporaryDirectory() as folder:
        await run(in_flight)
        return CALLS["inspect"] / await run(CALLS["inspect"])


def body(number: int) -> dict[str, Any]:
    return {
        "model": "loopback",
        "messages": [{"role": "user", "content": PROMPT}],
        "temperature": 0.7,
        "top_p": 0.8,
        "max_tokens": 256,
        "seed": number % 2**31,
    }


if __name__ == "__main__":
    main()
