"""Runs chunks of a benchmark for another process: what a worker of an engine builds once, and what goes to and fro."""

from __future__ import annotations

import math
import socket
from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple

from simenv.background_loop import run_sync
from simenv.encoder import know
from simenv.errors import InputError
from simenv.llm.base import AnyRequest, Meter, metered
from simenv.mechanism import Mechanism
from simenv.records import Transition, Usage
from simenv.runs.build import build, plan
from simenv.runs.code import code_of, differing_code
from simenv.runs.facts import data_hashes, facts_of
from simenv.runs.failures import Failures
from simenv.runs.log import to_log_lines
from simenv.runs.machine import bits_of, machine_of
from simenv.runs.manifest import package_versions
from simenv.runs.models import open_cassette
from simenv.runs.named_files import differing_files, file_hashes
from simenv.runs.options import BenchOptions
from simenv.runs.resume import differing_values
from simenv.runs.rollout import Finished, Sessions, in_flight_of, rollout
from simenv.users.queries import Question
from simenv.world import Session


class Setup(NamedTuple):
    """What a worker is built from. It must come to the same as in the process that writes the run."""

    options: BenchOptions
    objects: Mapping[str, Mechanism]
    """Mechanisms as objects, by label."""
    facts: Mapping[str, Any]
    """As in the manifest, like what follows."""
    hashes: Mapping[str, str]
    files: Mapping[str, str]
    code: Mapping[str, Any]
    packages: Mapping[str, str | None]
    machine: Mapping[str, Any]


class Task(NamedTuple):
    """A chunk to run."""

    chunk: int
    """Its number."""
    sessions: Mapping[int, Session]
    done: bytes
    """Rows of the chunk that exist already, as lines of JSON."""

    def __str__(self) -> str:
        return f"chunk {self.chunk}"


class Rows(NamedTuple):
    """A chunk that ran."""

    lines: bytes
    """Its rows as lines of the log."""
    fresh: tuple[bool, ...]
    """For each answer what `rollout` says of it."""
    seconds: Mapping[str, float]
    retries: tuple[int, ...]
    """Retried calls of each model of the run since the worker's last chunk."""
    calls: int
    """Calls to models, without retries and without what memory or a cassette had."""
    cost_usd: float
    completions: bytes
    """Lines for the cassette of the run, if it has one."""
    warning: str | None
    """If the worker's machine may give other bytes than that of the process that writes the run."""


class ChunkWorker:
    """Runs chunks of a benchmark.

    Args:
        setup: What it is built from.
        workers: Number of workers, which share the calls to a server that may be in flight.

    Raises:
        InputError: code, packages, data or what they came to are other ones than in the process that writes the run.
        SimenvError: as `run_bench`.
    """

    def __init__(self, setup: Setup, workers: int = 1) -> None:
        share = max(1, setup.options.concurrency // workers)
        options = self._options = setup.options.model_copy(update={"concurrency": share})
        checked = plan(options, setup.objects)
        hashes = data_hashes(checked)
        _refuse(differing_values(package_versions(), setup.packages))
        # The code of an object of a script or notebook came with it; its source is not here to be hashed.
        code = {name: it for name, it in code_of(options, setup.objects).items() if it["sha256"] is not None}
        _refuse(differing_code(code, {name: setup.code.get(name) for name in code}))
        _refuse(differing_files(hashes | file_hashes(options), {**setup.hashes, **setup.files}))
        self._cassette = open_cassette(options, collect=True)
        self._parts = build(checked, self._cassette)
        _refuse(differing_values(facts_of(checked, self._parts, hashes), setup.facts))
        now, then = bits_of(machine_of(self._parts.llms)), bits_of(setup.machine)
        self._warning = _warning(differing_values(now, then))
        self._parts.world.prepare()
        self._told = [llm.retries for llm in self._parts.llms]
        self._lock = Lock()

    def run(self, task: Task) -> Rows:
        """Runs a chunk. Several threads may run chunks at once."""
        options, parts = self._options, self._parts
        finished: list[Finished] = []
        fresh: list[bool] = []
        spent = _Spent()

        async def roll() -> None:
            with metered(spent):
                await know(parts.world.retriever.encoder, [q.text for q in self._questions(task)])
                await rollout(
                    parts.world,
                    parts.mechanisms,
                    n=options.n,
                    seed=options.seed,
                    on_chunk=finished.append,
                    on_answer=fresh.append,
                    chunk=options.chunk,
                    chunks=[task.chunk],
                    in_flight=in_flight_of(parts.llms),
                    sessions=Sessions(task.sessions),
                    done={(t.index, t.mechanism): t for t in from_log_lines(task.done)},
                    # How many may fail is counted where the run is written.
                    failures=Failures(math.inf if options.fail_on_error else 0, bugs_end=options.fail_on_bug),
                )

        run_sync(roll)
        (rows,) = finished
        return Rows(
            lines=to_log_lines(rows.transitions),
            fresh=tuple(fresh),
            seconds=rows.seconds,
            retries=self._retries(),
            calls=spent.calls,
            cost_usd=spent.cost_usd,
            completions=b"" if self._cassette is None else self._cassette.take(),
            warning=self._warning,
        )

    def _questions(self, task: Task) -> list[Question]:
        """The queries of the chunk's auctions."""
        options, horizon = self._options, self._parts.world.horizon
        end = min((task.chunk + 1) * options.chunk, options.n)
        indices = range(task.chunk * options.chunk, end)
        return [task.sessions[i // horizon].questions[i % horizon] for i in indices]

    def _retries(self) -> tuple[int, ...]:
        with self._lock:
            now = [llm.retries for llm in self._parts.llms]
            news = tuple(b - a for a, b in zip(self._told, now, strict=True))
            self._told = now
            return news


class _Spent(Meter):
    """What the models were asked and cost."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.cost_usd = 0.0

    def add(self, request: AnyRequest, usage: Usage) -> None: ...

    def admit(self, request: AnyRequest) -> None:
        self.calls += 1

    def recall(self) -> None:
        self.calls -= 1

    def paid(self, usage: Usage) -> None:
        self.cost_usd += usage.cost_usd


def from_log_lines(lines: bytes) -> list[Transition]:
    """The transitions of lines of the log."""
    return [Transition.model_validate_json(line) for line in lines.splitlines()]


def _warning(differing: list[str]) -> str | None:
    if not differing:
        return None
    return (
        f"a worker on {socket.gethostname()} is another kind of machine than this one ({'; '.join(differing)}): "
        "numbers and texts may differ from those of a local run"
    )


def _refuse(differing: list[str]) -> None:
    if differing:
        raise InputError(f"it has other versions, code or data than this process: {'; '.join(differing)}")
