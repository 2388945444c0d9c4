"""Runs mechanisms over many auctions, in chunks of fixed size, and passes on each finished chunk in index order.

The chunk is the unit of batching and of resume: its auctions run together, so that a local model's batches depend only
on the chunk's contents. Mechanisms run one after the other within a chunk, so that the model's cache still holds the
requests that they share.

If a mechanism or its bidders learn (they have `observe`), its auctions run one after another in index order: an auction
is built after all earlier ones were observed. So budgets are exact, and the transitions do not depend on the chunk. The
cost is that only the calls within one answer run together, where a run without learners has a whole chunk in flight.
Each mechanism has its own population of bidders, because they learn from its outcomes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from simenv.abilities import Observer
from simenv.background_loop import gather
from simenv.errors import InputError, SimenvError
from simenv.llm.base import metered
from simenv.market.bidders import population
from simenv.mechanism import Mechanism
from simenv.records import Auction, Transition
from simenv.runs.failures import Failures
from simenv.world import Session, World

CHUNK = 16
BIDDERS = "bidders"
"""Name of the bidders in `observers`."""


class Finished(NamedTuple):
    """Results of one chunk: transitions by index, then by mechanism, and seconds per mechanism."""

    transitions: list[Transition]
    seconds: dict[str, float]


class Sessions:
    """The sessions of a run. Each one is created when it is first needed.

    Args:
        known: Existing sessions, by number.
        save: Called with new sessions. A run's folder stores them, so that a User-LLM writes each session's queries
            once.
    """

    def __init__(
        self,
        known: Mapping[int, Session] | None = None,
        save: Callable[[Mapping[int, Session]], None] = lambda fresh: None,
    ) -> None:
        self.known = dict(known or {})
        self._save = save

    async def get(self, world: World, seed: int, numbers: Sequence[int]) -> dict[int, Session]:
        """Returns the sessions with these numbers."""
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
    on_answer: Callable[[bool], None] = lambda fresh: None,
    chunk: int = CHUNK,
    chunks: Iterable[int] | None = None,
    sessions: Sessions | None = None,
    done: Mapping[tuple[int, str], Transition] | None = None,
    failures: Failures | None = None,
) -> None:
    """Runs every mechanism on auctions 0..n-1 of the run `seed`: the same queries, values and user noise for all.

    Args:
        world: The world of the auctions.
        mechanisms: Label -> mechanism.
        n: Number of auctions; auction i is turn i % horizon of session i // horizon.
        seed: Seed of the run.
        on_chunk: Called with each newly finished chunk, in order.
        on_answer: Called after each answer, for a progress bar: with False if it is one of `done`, or if all its
            completions come from a cassette.
        chunk: Auctions per chunk.
        chunks: Numbers of the chunks to run, in ascending order; all by default. Chunk k begins at auction k * chunk.
        sessions: Existing sessions.
        done: (index, label) -> transition of finished chunks. Learners observe these; they are not run again.
        failures: Which failed answers become rows of the log. Without, the first one ends the run.

    Raises:
        InputError: n or chunk below 1, or no mechanisms.
        SimenvError: a mechanism, a model or a judge raised it. Chunks passed on before it remain valid.
    """
    if n < 1 or chunk < 1:
        raise InputError(f"n and chunk must be at least 1, got n={n}, chunk={chunk}")
    if not mechanisms:
        raise InputError("no mechanisms to run")
    sessions, done = sessions or Sessions(), done or {}
    learners = {label: _Learners(label, mechanism, world) for label, mechanism in mechanisms.items()}
    for number in range(-(-n // chunk)) if chunks is None else chunks:
        indices = range(number * chunk, min((number + 1) * chunk, n))
        finished = all((i, label) in done for i in indices for label in mechanisms)
        began = await sessions.get(world, seed, sorted({i // world.horizon for i in indices}))
        rows: list[Transition] = []
        replayed: set[int] = set()
        seconds = {}
        for label, mechanism in mechanisms.items():
            started = time.perf_counter()

            async def answer(i: int, label: str = label, mechanism: Mechanism = mechanism) -> Transition:
                session, turn = began[i // world.horizon], i % world.horizon  # noqa: B023 (awaited before the next chunk)
                transition = done.get((i, label))
                fresh = transition is None
                if transition is None or learners[label].bidder_learns:  # only learning bidders need finished auctions
                    auction = world.auction(session, turn, learners[label].bidder)
                    if transition is None:
                        with metered() as meter:
                            transition = await _step(
                                world, session, turn, mechanism, i, label, auction, failures or Failures(0)
                            )
                        if meter.admitted:
                            fresh = meter.admitted > meter.recalled
                            if not fresh:
                                replayed.add(i)  # noqa: B023
                        else:  # no model, or the completions of another mechanism's answer
                            fresh = i not in replayed  # noqa: B023
                on_answer(fresh)
                return transition

            for wave in learners[label].waves(indices):
                answered = await gather(answer(i) for i in wave)
                learners[label].observe(answered)
                rows.extend(answered)
            seconds[label] = time.perf_counter() - started
        if not finished:
            rows.sort(key=lambda row: row.index)  # stable: mechanisms keep their order within an index
            on_chunk(Finished(rows, seconds))


async def _step(
    world: World,
    session: Session,
    turn: int,
    mechanism: Mechanism,
    index: int,
    label: str,
    auction: Auction,
    failures: Failures,
) -> Transition:
    """The transition of an answer, or of its failure."""
    failures.begin()
    try:
        return await world.step(session, turn, mechanism, index=index, name=label, auction=auction)
    except SimenvError as error:
        failure = failures.row(error)
        return world.failed(session, turn, failure, index=index, name=label, auction=auction)


def observers(world: World, mechanisms: Mapping[str, Mechanism]) -> list[str]:
    """Returns the names of learners: BIDDERS and mechanism labels. Earlier clicks may change their bids or answers."""
    parts = [(BIDDERS, world.bidder), *mechanisms.items()]
    return [name for name, part in parts if isinstance(part, Observer)]


class _Learners:
    """The learners among a mechanism and its population of bidders."""

    def __init__(self, label: str, mechanism: Mechanism, world: World) -> None:
        self.bidder = population(world.bidder, label)
        self.bidder_learns = isinstance(self.bidder, Observer)
        self._observers: list[Callable[[Transition], Any]] = [
            learner.observe for learner in (self.bidder, mechanism) if isinstance(learner, Observer)
        ]

    def waves(self, indices: Sequence[int]) -> list[Sequence[int]]:
        """Returns the auctions to run together: all of them, or one at a time if there are learners."""
        return [[i] for i in indices] if self._observers else [indices]

    def observe(self, transitions: Iterable[Transition]) -> None:
        for transition in transitions:
            if transition.error is not None:
                continue  # there is nothing to learn of it
            for observe in self._observers:
                observe(transition)
