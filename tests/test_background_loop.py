"""The way from synchronous code into the event loop."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import signal
import threading
import time

import pytest

from simenv.background_loop import PerLoop, gather, run_sync, stop
from simenv.llm import ScriptedLLM, metered


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


def test_results_and_errors_come_back() -> None:
    async def fails() -> None:
        raise ValueError("no")

    assert run_sync(double, 3) == 6
    assert asyncio.run(asyncio.wait_for(asyncio.to_thread(run_sync, double, 4), 10)) == 8
    with pytest.raises(ValueError, match="no"):
        run_sync(fails)


def test_what_surrounds_the_call_is_known_inside() -> None:
    with metered() as meter:
        run_sync(lambda: ScriptedLLM().complete("hi", key=("a",)))
    assert meter.usage.calls == 1


@pytest.mark.timeout(30)
def test_a_call_from_inside_is_refused_and_does_not_wait_for_itself() -> None:
    async def inside() -> int:
        return run_sync(double, 1)

    with pytest.raises(RuntimeError, match="await the function instead"):
        run_sync(inside)


@pytest.mark.timeout(30)
def test_an_interrupted_wait_ends_what_it_waited_for() -> None:
    ended = threading.Event()

    async def long() -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    with pytest.raises(KeyboardInterrupt):
        run_sync(long)
    assert ended.wait(10)


@pytest.mark.timeout(30)
def test_the_loop_is_ended_within_the_time_given_and_another_one_started_when_needed() -> None:
    begun = threading.Event()

    async def block(seconds: float) -> None:
        begun.set()
        time.sleep(seconds)

    assert run_sync(double, 1) == 2
    assert stop(10)
    assert stop(10), "nothing runs any more"
    waiting = threading.Thread(target=run_sync, args=(block, 2.0))
    waiting.start()
    assert begun.wait(10)
    assert not stop(0.1)
    assert run_sync(double, 2) == 4
    waiting.join()


@pytest.mark.timeout(30)
def test_many_threads_share_one_loop() -> None:
    async def loop() -> int:
        return id(asyncio.get_running_loop())

    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(run_sync(loop))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1


def test_each_loop_has_its_own_and_a_copy_begins_without() -> None:
    async def get(of: PerLoop[list[int]]) -> list[int]:
        return of.get()

    async def twice(of: PerLoop[list[int]]) -> bool:
        return of.get() is of.get()

    lists: PerLoop[list[int]] = PerLoop(list)
    assert asyncio.run(twice(lists))
    assert asyncio.run(get(lists)) is not asyncio.run(get(lists))
    for other in (copy.deepcopy(lists), pickle.loads(pickle.dumps(lists))):
        assert run_sync(get, other) == []


def test_an_error_leaves_no_job_running() -> None:
    ended: list[str] = []

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("first")

    async def long() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("long")

    with pytest.raises(ValueError, match="first"):
        run_sync(gather, [long(), fails(), long()])
    assert ended == ["long", "long"]
