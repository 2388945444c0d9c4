"""Engines: where the chunks of a run are computed. Each is called as `rollout` is, and gives the same rows.

local   this process: `rollout` itself
ray     worker processes on a Ray cluster, which run chunks by their numbers (`simenv.runs.chunk_worker`); this process
        makes the sessions, counts failures and writes the log
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol

from simenv.errors import InputError, UnknownName
from simenv.llm import LLM
from simenv.llm.cassette import Cassette
from simenv.llm.meter import active_meter
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.runs.chunk_worker import ChunkWorker, Rows, Setup, Task
from simenv.runs.dispatch import Pool, dispatch
from simenv.runs.failures import Failures
from simenv.runs.log import from_log_lines, to_log_lines
from simenv.runs.options import BenchOptions
from simenv.runs.ray_cluster import require_ray
from simenv.runs.ray_pool import RayPool
from simenv.runs.rollout import CHUNK, Finished, Sessions, in_flight_of, rollout
from simenv.runs.shards import auctions_of
from simenv.world import World

ENGINES = ("local", "ray")


class Engine(Protocol):
    """Runs the chunks of a run: `rollout` says what the arguments are. Workers know how much they have in flight."""

    async def __call__(
        self,
        world: World,
        mechanisms: Mapping[str, Mechanism],
        *,
        n: int,
        seed: int,
        on_chunk: Callable[[Finished], None],
        on_answer: Callable[[bool], None] = ...,
        chunk: int = ...,
        chunks: Iterable[int] | None = ...,
        in_flight: int | None = ...,
        may_begin: Callable[[], bool] = ...,
        sessions: Sessions | None = ...,
        done: Mapping[tuple[int, str], Transition] | None = ...,
        failures: Failures | None = ...,
    ) -> None: ...


def check_engine(engine: str, **of_ray: Any) -> None:
    """Refuses options of one engine with the other, before anything is loaded.

    Args:
        engine: The engine's name.
        of_ray: Options of the engine ray, by name; None: not given.

    Raises:
        UnknownName: no engine has this name.
        InputError: options of the engine ray with another one, or Ray is not installed.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    if engine == "ray":
        require_ray()
        return
    for name, value in of_ray.items():
        if value is not None:
            raise InputError(f"the engine {engine} has no {name}, got {value!r}", hint="it is an option of engine ray")


@contextmanager
def open_engine(
    options: BenchOptions,
    setup: Setup,
    llms: Sequence[LLM],
    cassette: Cassette | None,
    warned: Callable[[str], None] = lambda text: None,
) -> Iterator[Engine]:
    """The engine that the options name, for a `with` block. At its end the worker processes are gone.

    Args:
        options: Options of the run.
        setup: What workers are built from.
        llms: The models of this process; calls that workers retry are counted on them.
        cassette: The cassette of this process; completions of workers are added to it.
        warned: Called with warnings.

    Raises:
        InputError: a mechanism or the bidders learn, a mechanism cannot be pickled, or the cluster cannot be reached.
    """
    if options.engine == "local":
        yield rollout
        return
    if learners := setup.facts["observers"]:
        raise InputError(
            f"{', '.join(learners)}: learning from earlier auctions needs them in order, which the engine ray does not "
            "keep",
            hint="use engine local",
        )
    if "turns" in setup.facts and options.chunk % options.horizon:
        raise InputError(
            "the engine ray runs chunks apart, so one must hold whole sessions where turns are linked: chunk must be a "
            f"multiple of horizon {options.horizon}, got {options.chunk}"
        )
    machine, answers = setup.machine, options.chunk * len(setup.facts["ctr_models"])
    in_flight = in_flight_of(llms)  # None: a batch is one chunk's
    pool: RayPool[Task, Rows] = RayPool(
        partial(ChunkWorker, setup),
        workers=options.workers,
        address=options.ray_address,
        at_once=1 if in_flight is None else -(-in_flight // answers),
        cpus=machine["threads"] or 1,
        gpus=int(machine["device"] not in (None, "cpu")),
        warned=warned,
    )
    with pool:
        yield Remote(pool, list(llms), cassette, warned)


class Remote:
    """An engine whose chunks run on the workers of a pool.

    Args:
        pool: The workers.
        llms: The models of this process, as `Rows.retries` has them.
        cassette: Where completions of workers go.
        warned: Called with warnings.
    """

    def __init__(
        self, pool: Pool[Task, Rows], llms: list[LLM], cassette: Cassette | None, warned: Callable[[str], None]
    ) -> None:
        self._pool = pool
        self._cassette = cassette
        self._llms = llms
        self._warned = warned

    async def __call__(
        self,
        world: World,
        mechanisms: Mapping[str, Mechanism],
        *,
        n: int,
        seed: int,
        on_chunk: Callable[[Finished], None],
        on_answer: Callable[[bool], None] = lambda fresh: None,
        chunk: int = CHUNK,
        chunks: Iterable[int] | None = None,
        in_flight: int | None = None,
        may_begin: Callable[[], bool] = lambda: True,
        sessions: Sessions | None = None,
        done: Mapping[tuple[int, str], Transition] | None = None,
        failures: Failures | None = None,
    ) -> None:
        known, kept = sessions or Sessions(), done or {}
        known.encoded = False
        counted = failures or Failures(0)
        warnings: set[str] = set()
        meter = active_meter()

        async def tasks() -> AsyncIterator[Task]:
            for number in range(-(-n // chunk)) if chunks is None else chunks:
                indices = auctions_of(number, chunk, n)
                begun = await known.get_all(world, seed, sorted({i // world.horizon for i in indices}))
                rows = [kept[i, label] for i in indices for label in mechanisms if (i, label) in kept]
                if len(rows) < len(indices) * len(mechanisms):
                    if not may_begin():
                        return
                    yield Task(number, begun, to_log_lines(rows))
                else:
                    for _ in rows:
                        on_answer(False)

        def receive(rows: Rows) -> None:
            if meter is not None:
                meter.elsewhere(rows.calls, rows.cost_usd)
            if self._cassette is not None:
                self._cassette.give(rows.completions)
            transitions = from_log_lines(rows.lines)
            for llm, retries in zip(self._llms, rows.retries, strict=True):
                llm.retries += retries
            if rows.warning is not None and rows.warning not in warnings:
                warnings.add(rows.warning)
                self._warned(rows.warning)
            for fresh in rows.fresh:
                on_answer(fresh)
            news = [t for t in transitions if (t.index, t.mechanism) not in kept]
            counted.begin(len(news))
            for t in news:
                if t.error is not None:
                    counted.keep(t.error.text)
            on_chunk(Finished(transitions, dict(rows.seconds)))

        try:
            await dispatch(tasks(), self._pool, receive, name=str, warned=self._warned)
        finally:
            await known.close()
