"""Runs mechanisms over many auctions, in fixed chunks, and hands each finished chunk on in index order.

The chunk is the unit of batching and of resume: its auctions run together, so that a local model's batches depend on
the chunk's contents alone. Mechanisms take turns within a chunk, so that what they share is still in the model's
memory.

Mechanisms and bidders that learn (they have `observe`) see a chunk turn by turn: all sessions' first questions, then
all second ones. Each mechanism has a population of bidders of its own, because what they learn depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from simenv.abilities import Observer
from simenv.background_loop import gather
from simenv.errors import InputError
from simenv.market.bidders import population
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.world import Session, World

CHUNK = 16
BIDDERS = "bidders"
"""How `observers` calls the bidders."""


class Finished(NamedTuple):
    """One chunk's results: rows by index, then by mechanism, and the seconds each mechanism took for the chunk."""

    transitions: list[Transition]
    seconds: dict[str, float]


class Sessions:
    """The sessions of a run, begun when they are needed.

    Args:
        known: Sessions that have begun already, by number.
        save: Called with sessions that have just begun: a run's folder keeps them, so that a User-LLM writes each
            session's queries once.
    """

    def __init__(
        self,
        known: Mapping[int, Session] | None = None,
        save: Callable[[Mapping[int, Session]], None] = lambda fresh: None,
    ) -> None:
        self.known = dict(known or {})
        self._save = save

    async def get(self, world: World, seed: int, numbers: Sequence[int]) -> dict[int, Session]:
        """The sessions of these numbers."""
        missing = [number for number in numbers if number not in self.known]
        fresh = await gather(world.session(seed, number) for number in missing)
        begun = dict(zip(missing, fresh, strict=True))
        if begun:
            self._save(begun)
        self.known |= begun
        return {number: self.known[number] for number in numbers}


async def rollout(
    world: World,
    mechanisms: Mapping[str, Mechanism],
    *,
    n: int,
    seed: int,
    on_chunk: Callable[[Finished], None],
    on_answer: Callable[[], None] = lambda: None,
    chunk: int = CHUNK,
    sessions: Sessions | None = None,
    done: Mapping[tuple[int, str], Transition] | None = None,
) -> None:
    """Runs every mechanism on auctions 0..n-1 of the run `seed`: the same queries, values and user noise for all.

    Args:
        world: Where they run.
        mechanisms: Label -> mechanism.
        n: Number of auctions; auction i is turn i % horizon of session i // horizon.
        seed: Names the run.
        on_chunk: Called with each newly finished chunk, in order.
        on_answer: Called after each answer, for a progress bar.
        chunk: Auctions per chunk.
        sessions: Sessions that have begun already.
        done: (index, label) -> transition of chunks that are finished: they are not run again, only observed.

    Raises:
        InputError: n or chunk below 1, or no mechanisms.
        SimenvError: whatever a mechanism, a model or a judge raised; chunks handed on before stand.
    """
    if n < 1 or chunk < 1:
        raise InputError(f"n and chunk must be at least 1, got n={n}, chunk={chunk}")
    if not mechanisms:
        raise InputError("no mechanisms to run")
    sessions, done = sessions or Sessions(), done or {}
    learners = {label: _Learners(label, mechanism, world) for label, mechanism in mechanisms.items()}
    for start in range(0, n, chunk):
        indices = range(start, min(start + chunk, n))
        finished = all((i, label) in done for i in indices for label in mechanisms)
        began = await sessions.get(world, seed, sorted({i // world.horizon for i in indices}))
        rows: list[Transition] = []
        seconds = {}
        for label, mechanism in mechanisms.items():
            started = time.perf_counter()

            async def answer(i: int, label: str = label, mechanism: Mechanism = mechanism) -> Transition:
                session, turn = began[i // world.horizon], i % world.horizon  # noqa: B023 (awaited before the next chunk)
                transition = done.get((i, label))
                if transition is None or learners[label].bidder_learns:  # else nobody needs a finished auction again
                    auction = world.auction(session, turn, learners[label].bidder)
                    transition = transition or await world.step(
                        session, turn, mechanism, index=i, name=label, auction=auction
                    )
                on_answer()
                return transition

            for wave in learners[label].waves(indices, world.horizon):
                answered = await gather(answer(i) for i in wave)
                learners[label].observe(answered)
                rows.extend(answered)
            seconds[label] = time.perf_counter() - started
        if not finished:
            rows.sort(key=lambda row: row.index)  # stable: mechanisms keep their order within an index
            on_chunk(Finished(rows, seconds))


def observers(world: World, mechanisms: Mapping[str, Mechanism]) -> list[str]:
    """Who is given the transitions, so that earlier clicks may change later bids or answers: bidders, labels."""
    known = [(BIDDERS, world.bidder), *mechanisms.items()]
    return [name for name, it in known if isinstance(it, Observer)]


class _Learners:
    """A mechanism and its population of bidders, and which of them learn."""

    def __init__(self, label: str, mechanism: Mechanism, world: World) -> None:
        self.bidder = population(world.bidder, label)
        self.bidder_learns = isinstance(self.bidder, Observer)
        self._observers: list[Callable[[Transition], Any]] = [
            learner.observe for learner in (self.bidder, mechanism) if isinstance(learner, Observer)
        ]

    def waves(self, indices: Sequence[int], horizon: int) -> Iterable[list[int]]:
        """The chunk at once, or turn by turn if somebody learns from it."""
        if not self._observers:
            return [list(indices)]
        by_turn = sorted(indices, key=lambda i: i % horizon)
        return [list(wave) for _, wave in groupby(by_turn, key=lambda i: i % horizon)]

    def observe(self, transitions: Iterable[Transition]) -> None:
        for transition in transitions:
            for observe in self._observers:
                observe(transition)
