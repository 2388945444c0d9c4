"""Runs mechanisms over many auctions, in fixed chunks, and hands each finished chunk on in index order.

The chunk is the unit of batching: its auctions run together, so that a local model's batches depend on the chunk's
contents alone. Mechanisms take turns within a chunk, so that what they share is still in the model's memory.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from simenv.errors import InputError
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.world import Session, World

CHUNK = 16


class Finished(NamedTuple):
    """One chunk's results: rows by index, then by mechanism, and the seconds each mechanism took for the chunk."""

    transitions: list[Transition]
    seconds: dict[str, float]


async def rollout(
    world: World,
    mechanisms: Mapping[str, Mechanism],
    *,
    n: int,
    seed: int,
    on_chunk: Callable[[Finished], None],
    on_answer: Callable[[], None] = lambda: None,
    chunk: int = CHUNK,
) -> None:
    """Runs every mechanism on auctions 0..n-1 of the run `seed`: the same queries, bids and user noise for all.

    Args:
        world: Where they run.
        mechanisms: Label -> mechanism.
        n: Number of auctions; auction i is turn i % horizon of session i // horizon.
        seed: Names the run.
        on_chunk: Called with each finished chunk, in order.
        on_answer: Called after each answer, for a progress bar.
        chunk: Auctions per chunk.

    Raises:
        InputError: n or chunk below 1, or no mechanisms.
        SimenvError: whatever a mechanism, a model or a judge raised; chunks handed on before stand.
    """
    if n < 1 or chunk < 1:
        raise InputError(f"n and chunk must be at least 1, got n={n}, chunk={chunk}")
    if not mechanisms:
        raise InputError("no mechanisms to run")
    sessions: dict[int, Session] = {}

    async def answer(label: str, mechanism: Mechanism, i: int) -> Transition:
        number, turn = divmod(i, world.horizon)
        transition = await world.step(sessions[number], turn, mechanism, index=i, name=label)
        on_answer()
        return transition

    for start in range(0, n, chunk):
        indices = range(start, min(start + chunk, n))
        numbers = sorted({i // world.horizon for i in indices} - set(sessions))
        fresh = await asyncio.gather(*(world.session(seed, number) for number in numbers))
        sessions.update(zip(numbers, fresh, strict=True))
        rows: list[Transition] = []
        seconds = {}
        for label, mechanism in mechanisms.items():
            began = time.perf_counter()

            rows.extend(
                await _all_or_first_error([asyncio.ensure_future(answer(label, mechanism, i)) for i in indices])
            )
            seconds[label] = time.perf_counter() - began
        rows.sort(key=lambda row: row.index)  # stable: mechanisms keep their order within an index
        on_chunk(Finished(rows, seconds))
        for number in [number for number in sessions if number < indices[-1] // world.horizon]:
            del sessions[number]  # over: no later chunk needs it


async def _all_or_first_error(tasks: list[asyncio.Task[Transition]]) -> list[Transition]:
    """Like gather, but leaves no task running behind an error."""
    try:
        return list(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
