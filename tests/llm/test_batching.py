"""The batcher: what lands in which batch depends on the jobs alone, and whoever waits gets an answer or the error."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from simenv.llm.batching import Batcher


def _order(job: int) -> tuple[object, ...]:
    return (job,)


async def _submit_all(batcher: Batcher[int, str], jobs: Sequence[int], lags: random.Random) -> list[str]:
    async def one(job: int) -> str:
        for _ in range(lags.randrange(6)):  # reaches the batcher some turns of the loop later than others
            await asyncio.sleep(0)
        return await batcher.submit(job)

    return await asyncio.gather(*(one(job) for job in jobs))


def test_batches_do_not_depend_on_arrival() -> None:
    seen = set()
    for seed in range(10):
        batches: list[tuple[int, ...]] = []

        def run(jobs: Sequence[int], batches: list[tuple[int, ...]] = batches) -> list[str]:
            batches.append(tuple(jobs))
            return [f"done {job}" for job in jobs]

        lags = random.Random(seed)
        jobs = lags.sample(range(10), 10)
        results = asyncio.run(_submit_all(Batcher(run, _order, 4), jobs, lags))
        assert results == [f"done {job}" for job in jobs], "each gets its own result"
        seen.add(tuple(batches))
    assert seen == {((0, 1, 2, 3), (4, 5, 6, 7), (8, 9))}


def test_an_error_reaches_its_whole_batch_and_no_other() -> None:
    def run(jobs: Sequence[int]) -> list[str]:
        if 2 in jobs:
            raise ValueError("no twos")
        return [f"done {job}" for job in jobs]

    async def go() -> None:
        batcher = Batcher(run, _order, 3)
        async with asyncio.timeout(20):  # an error that reaches nobody would leave them waiting
            results = await asyncio.gather(*(batcher.submit(job) for job in (4, 2, 0, 3, 1)), return_exceptions=True)
        assert [str(result) for result in results] == ["done 4", "no twos", "no twos", "done 3", "no twos"]
        assert await batcher.submit(7) == "done 7", "it goes on after an error"

    asyncio.run(go())


def test_who_has_left_is_not_served() -> None:
    batches: list[list[int]] = []

    def run(jobs: Sequence[int]) -> list[str]:
        batches.append(list(jobs))
        return [f"done {job}" for job in jobs]

    async def go(*leaving: int) -> None:
        batcher = Batcher(run, _order, 2)
        tasks = {job: asyncio.ensure_future(batcher.submit(job)) for job in range(4)}
        await asyncio.sleep(0)
        for job in leaving:
            tasks[job].cancel()
        await asyncio.wait(tasks.values(), timeout=20)
        assert [task.cancelled() for task in tasks.values()] == [job in leaving for job in range(4)]

    asyncio.run(go(0, 1, 3))
    assert batches == [[2]], "no empty batch either"
