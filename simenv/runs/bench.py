"""The benchmark: options in, a run's folder and a table out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from simenv.abilities import hash_of
from simenv.background_loop import run_sync
from simenv.ctr.models import own_ctr_model
from simenv.encoder import default_encoder
from simenv.errors import InputError, UnknownName
from simenv.files.packs import pack_versions
from simenv.judges.ensemble_judge import mean_disagreement
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.runs.build import Parts, Plan, build, plan
from simenv.runs.failures import Failures
from simenv.runs.folder import RunFolder, manifest_to_resume, read_manifest, read_transitions, records_hash
from simenv.runs.lock import locked
from simenv.runs.metrics import METRICS
from simenv.runs.models import open_cassette
from simenv.runs.options import OLDEST, BenchOptions, options_of_manifest, read_options
from simenv.runs.rollout import Finished, Sessions, observers, rollout
from simenv.runs.summary import Table, summarize
from simenv.runs.tables import to_frame, write_tables
from simenv.runs.useless import problems
from simenv.secrets import is_masked, masked_fields
from simenv.world import Session

if TYPE_CHECKING:
    import pandas

_MAY_CHANGE = frozenset(
    {
        *("concurrency", "timeout", "answer_timeout", "api_base", "judge_api_base"),
        *("fail_on_error", "fail_on_bug", "fail_on_useless"),
    }
)
"""Options that a resumed run may have otherwise: they say how to reach a model and when to stop, not what is run."""


@dataclass(frozen=True)
class BenchResult:
    """A finished benchmark."""

    folder: Path
    """The run's folder."""
    summary: Table
    """Every metric of every mechanism with its interval."""
    warning: str | None = None
    """If the model that writes also judges."""
    disagreement: float | None = None
    """Mean difference between the click probabilities of an ensemble's judges."""
    problems: tuple[str, ...] = ()
    """What makes the table worthless: too many failed, empty or refused answers, or a judge that cannot be read."""

    @cached_property
    def records(self) -> list[Transition]:
        """All transitions, by auction, then by mechanism."""
        return list(read_transitions(self.folder))

    @property
    def table(self) -> pandas.DataFrame:
        """One row per mechanism and metric, as in table.csv."""
        return to_frame(self.summary)


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
    """Called with a warning before anything runs."""


def bench(
    mechanisms: str | Sequence[str] | Mapping[str, str | Mechanism],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> BenchResult:
    """Runs mechanisms on the same auctions.

    Args:
        mechanisms: Names ("gsp", package.module:Class, file.py:Class), or label -> name or mechanism.
        out: A new folder for the run; a temporary one by default. With `resume`, the folder of the run that was cut
            off; the options must be those that it had.
        resume: Go on after the last finished chunk. Answers that failed are asked for again, except where mechanisms or
            bidders learn: later answers depend on what these saw.
        progress: Callbacks.
        options: Fields of `simenv.runs.options.BenchOptions`: those of `simenv bench`, with underscores.

    Raises:
        SimenvError: wrong options or data before anything runs; later, whatever a model or mechanism raised. Finished
            chunks stay in the folder.
    """
    names, objects = named_and_given(mechanisms)
    asked = read_options(BenchOptions, {"mechanisms": names, **options})
    folder = Path(out) if out is not None else Path(mkdtemp(prefix="simenv-")) / "run"
    return run_bench(asked, folder, resume=resume, objects=objects, progress=progress)


def named_and_given(
    mechanisms: str | Sequence[str] | Mapping[str, str | Mechanism],
) -> tuple[tuple[str, ...], dict[str, Mechanism]]:
    """Mechanisms as a caller may give them, apart: names as options have them, and objects by label."""
    if isinstance(mechanisms, str):
        return (mechanisms,), {}
    if not isinstance(mechanisms, Mapping):
        return tuple(mechanisms), {}
    names = tuple(f"{label}={it}" for label, it in mechanisms.items() if isinstance(it, str))
    return names, {label: it for label, it in mechanisms.items() if not isinstance(it, str)}


def run_bench(
    options: BenchOptions,
    folder: Path,
    *,
    resume: bool = False,
    objects: Mapping[str, Mechanism] | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Runs the benchmark and writes `folder`.

    Everything that can be wrong is checked before anything slow: options, files and names before a model is loaded.

    Args:
        options: What to run.
        folder: A new folder, or with `resume` that of a run with the same options that was cut off.
        resume: Go on after the last finished chunk.
        objects: Mechanisms as objects, by label, beside those that the options name.
        progress: Callbacks.

    Raises:
        InputError: another process writes the run.
        SimenvError: as `bench`.
    """
    progress = progress or Progress()
    with ExitStack() as held:
        return _run(options, folder, resume, objects, progress, held)


def _run(
    options: BenchOptions,
    folder: Path,
    resume: bool,
    objects: Mapping[str, Mechanism] | None,
    progress: Progress,
    held: ExitStack,
) -> BenchResult:
    before = None
    if resume:
        _resumable(options, folder)  # what cannot go on is not even locked
        held.enter_context(locked(folder))
        before = _resumable(options, folder)
    else:
        run = RunFolder(folder)
    progress.stage("loading")
    checked = plan(options, objects)
    if options.baseline is not None and options.baseline not in checked.mechanisms:
        raise UnknownName("baseline", options.baseline, checked.mechanisms)
    hashes = {"catalog": records_hash(checked.catalog), "personas": records_hash(checked.personas)}
    if checked.queries is not None:
        hashes["queries"] = checked.queries.hash
    if before is not None and before.get("data_sha256") != hashes:
        raise InputError(f"{folder} was run on other data: hashes {before.get('data_sha256')}, now {hashes}")
    parts = build(checked, open_cassette(options, resume))
    if parts.warning is not None:
        progress.warned(parts.warning)
    facts = _facts(checked, parts, hashes)
    progress.stage("encoding")
    parts.world.prepare(progress.encoded)
    done: dict[tuple[int, str], Transition] = {}
    begun: dict[int, Session] = {}
    if before is None:
        run.make()
        held.enter_context(locked(folder))
        run.begin(options.model_dump(), facts, hashes)
    else:
        # The same options and data may come to something else: a file of parameters edited, a model trained again.
        _refuse_other("in another world", facts, facts | before.get("world", {}))
        run, done, begun = RunFolder.reopen(folder)  # only now is anything touched
        if run.repaired is not None:
            progress.warned(run.repaired)
    progress.started(options.n * len(parts.mechanisms))
    log = _Log(run, done, again=not observers(parts.world, parts.mechanisms))
    try:
        run_sync(
            lambda: rollout(
                parts.world,
                parts.mechanisms,
                n=options.n,
                seed=options.seed,
                on_chunk=log.write,
                on_answer=lambda fresh: progress.answered() if fresh else progress.skipped(),
                chunk=options.chunk,
                sessions=Sessions(begun, run.save_sessions),
                done=log.done,
                failures=Failures(options.fail_on_error, bugs_end=options.fail_on_bug, warned=progress.warned),
            )
        )
    finally:
        log.close()
    summary = summarize(read_transitions(folder), options.baseline, metrics=[*METRICS, *checked.metrics])
    write_tables(summary, folder)
    disagreement = mean_disagreement(t.feedback for t in read_transitions(folder))
    retries: Counter[str] = Counter()
    for llm in parts.llms:  # one model may have other options in each role
        retries[llm.address] += llm.retries
    run.finish(retries=dict(retries), judge_disagreement=disagreement)
    found = problems(read_transitions(folder), options.fail_on_useless, options.fail_on_error)
    return BenchResult(folder, summary, parts.warning, disagreement, tuple(found))


class _Log:
    """The log of a run: new chunks go to its end, and failed answers that were asked for again into their place.

    Args:
        run: The run's folder.
        done: Its transitions by (index, mechanism).
        again: Whether failed answers are asked for again.
    """

    def __init__(self, run: RunFolder, done: Mapping[tuple[int, str], Transition], again: bool) -> None:
        self._run = run
        self._failed = {key for key, t in done.items() if again and t.error is not None}
        self._last = max((index for index, _ in done), default=-1)
        self._fresh: dict[tuple[int, str], Transition] = {}
        self.done = {key: t for key, t in done.items() if key not in self._failed}
        """What is not asked for again."""

    def write(self, finished: Finished) -> None:
        """Writes a finished chunk, or remembers its new answers if the log has the chunk."""
        if finished.transitions[0].index > self._last:
            self._run.append(finished)
            return
        rows = {(t.index, t.mechanism): t for t in finished.transitions}
        self._fresh |= {key: t for key, t in rows.items() if key in self._failed}

    def close(self) -> None:
        """Writes the answers that were remembered."""
        if self._fresh:
            self._run.replace(self._fresh)


def resumed_options(options: BenchOptions, given: Collection[str], folder: Path) -> BenchOptions:
    """The options of the run in `folder`, with those of `options` that were given now.

    Args:
        options: Options as the caller gave them.
        given: Names of those that were given.
        folder: The run that was cut off.

    Raises:
        SimenvError: no run in `folder`, or its manifest holds no options that can be run.
    """
    before = read_manifest(folder)["options"]
    if "mechanisms" not in before:
        raise InputError(f"{folder}: its manifest has no options that can be run: it names no mechanisms")
    kept = options_of_manifest(before, str(folder))
    return kept.model_copy(update={name: getattr(options, name) for name in given})


def _resumable(options: BenchOptions, folder: Path) -> dict[str, Any]:
    """The manifest of a run that can go on with these options."""
    before = manifest_to_resume(folder)
    asked = options.model_dump()
    missing = [name for name, value in asked.items() if is_masked(name, value)]
    if missing:
        raise InputError(f"{folder}: its manifest does not hold the secret in {', '.join(missing)}: give it again")
    named = {name: value for name, value in masked_fields(asked).items() if name not in _MAY_CHANGE}
    _refuse_other("with other options", named, {**OLDEST, **before["options"]})
    return before


def _facts(checked: Plan, parts: Parts, hashes: Mapping[str, str]) -> dict[str, Any]:
    """What the options came to, for the manifest."""
    world = parts.world
    objects = {label: it for label, it in checked.mechanisms.items() if isinstance(it, Mechanism)}
    return {
        "ad_llm": parts.ad_llm.name,
        "judge": world.judge.name,
        "judge_sha256": hash_of(world.judge),
        "self_judged": parts.warning is not None,
        "quality": world.quality.name if world.quality is not None else None,
        "quality_sha256": hash_of(world.quality),
        "packs": pack_versions(hashes),
        "observers": observers(world, parts.mechanisms),
        "bidder_sha256": hash_of(world.bidder),
        "query_source": world.queries.name,
        "encoder": default_encoder().name,
        "objective": world.objective.facts(),
        "ctr_models": {
            label: model.name if (model := own_ctr_model(mechanism)) is not None else None
            for label, mechanism in parts.mechanisms.items()
        },
        "objects": {label: f"{type(it).__module__}:{type(it).__qualname__}" for label, it in objects.items()},
    }


def _refuse_other(what: str, now: dict[str, Any], before: dict[str, Any]) -> None:
    now, before = json.loads(json.dumps([now, before]))  # as the manifest has them
    other = [name for name in now if now[name] != before.get(name)]
    if other:
        differing = "; ".join(f"{name} was {before.get(name)!r}, now {now[name]!r}" for name in other)
        raise InputError(f"cannot resume {what}: {differing}")
