"""Runs the answers of a benchmark: what it is told while they run, and how they reach its log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from simenv.background_loop import run_sync
from simenv.llm.base import metered
from simenv.runs.build import Parts
from simenv.runs.ceilings import Spending
from simenv.runs.engines import Engine
from simenv.runs.failures import Failures
from simenv.runs.options import BenchOptions
from simenv.runs.rollout import Finished, Sessions, in_flight_of
from simenv.runs.run_log import RunLog
from simenv.runs.summary import Table


@dataclass
class Progress:
    """Callbacks of a run."""

    stage: Callable[[str], None] = field(default=lambda name: None)
    """Called with what begins before the answers: "loading" (files and models), then "encoding" (the catalog)."""
    encoded: Callable[[int, int], None] = field(default=lambda done, total: None)
    """Called while a new catalog is encoded, with the number of ads that are done and of all."""
    started: Callable[[int], None] = field(default=lambda answers: None)
    """Called once everything is built, with the number of answers."""
    answered: Callable[[], None] = field(default=lambda: None)
    """Called after each answer that ran now."""
    skipped: Callable[[], None] = field(default=lambda: None)
    """Called for each answer that was there: in a resumed run's log, or with all its completions in a cassette."""
    warned: Callable[[str], None] = field(default=lambda warning: None)
    """Called with a warning."""
    noted: Callable[[str], None] = field(default=lambda note: None)
    """Called with what is good to know, before anything runs."""
    began: Callable[[Path, Mapping[str, Any]], None] = field(default=lambda folder, manifest: None)
    """Called with the run's folder and manifest, before the first answer."""
    wrote: Callable[[Finished], None] = field(default=lambda finished: None)
    """Called with each finished chunk once it is in the log; the chunks of a resumed run's log are not told again."""
    ended: Callable[[Path, Table], None] = field(default=lambda folder, table: None)
    """Called with the run's folder and table, once its files are written."""


def run_answers(
    engine: Engine,
    options: BenchOptions,
    parts: Parts,
    log: RunLog,
    progress: Progress,
    sessions: Sessions,
    chunks: Iterable[int],
    spending: Spending,
) -> None:
    """Runs every auction of these chunks that is not done, until a ceiling is reached."""

    def write(finished: Finished) -> None:
        log.write(finished)
        spending.save()
        progress.wrote(finished)

    def answered(fresh: bool) -> None:
        if fresh:
            log.answered += 1 / len(parts.mechanisms)
            progress.answered()
        else:
            progress.skipped()

    for llm in parts.llms:
        if llm.arithmetic is not None:
            progress.noted(f"{llm.name}: {llm.arithmetic}")
    if dependent := [llm.name for llm in parts.llms if llm.batch_dependent]:
        progress.noted(
            f"{', '.join(dependent)}: a text depends on what shares its batch, so a batch holds one chunk's answers "
            f"of one mechanism (chunk={options.chunk})"
        )

    async def roll() -> None:
        with metered(spending):
            await engine(
                parts.world,
                parts.mechanisms,
                n=options.n,
                seed=options.seed,
                on_chunk=write,
                on_answer=answered,
                chunk=options.chunk,
                chunks=chunks,
                in_flight=in_flight_of(parts.llms),
                may_begin=lambda: spending.stopped() is None,
                sessions=sessions,
                done=log.done,
                failures=Failures(options.fail_on_error, bugs_end=options.fail_on_bug, warned=progress.warned),
            )

    try:
        run_sync(roll)
    finally:
        spending.save()
