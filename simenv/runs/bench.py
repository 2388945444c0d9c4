"""The benchmark: options in, a run's folder and a table out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from simenv.errors import UnknownName
from simenv.files.folders import try_folder
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.runs.answering import Progress, run_answers
from simenv.runs.build import build, plan
from simenv.runs.ceilings import Spending, Stopped, refuse_empty
from simenv.runs.chunk_worker import Setup
from simenv.runs.code import code_of
from simenv.runs.engines import check_engine, open_engine
from simenv.runs.facts import data_hashes, facts_of
from simenv.runs.folder import RunFolder, read_transitions
from simenv.runs.lock import locked
from simenv.runs.machine import machine_of, other_machine
from simenv.runs.manifest import about, package_versions
from simenv.runs.metric_types import Metric
from simenv.runs.metrics import METRICS
from simenv.runs.models import open_cassette
from simenv.runs.named_files import file_hashes
from simenv.runs.options import BenchOptions, read_options
from simenv.runs.resume import check_code, check_inputs, check_options, refuse_other
from simenv.runs.rollout import Sessions, observers
from simenv.runs.run_log import RunLog
from simenv.runs.shards import Blocks, read_shard, refuse_learners
from simenv.runs.summary import Table, table_of
from simenv.runs.tables import to_frame, write_tables
from simenv.runs.tally_run import tally_of_run
from simenv.world import Session

if TYPE_CHECKING:
    import pandas


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
    stopped: Stopped | None = None
    """The ceiling at which the run stopped, if it did. The table is then of the chunks that were finished."""

    @cached_property
    def records(self) -> list[Transition]:
        """All transitions, by auction, then by mechanism."""
        return list(read_transitions(self.folder))

    @property
    def table(self) -> pandas.DataFrame:
        """One row per mechanism and metric, as in table.csv."""
        return to_frame(self.summary)


def bench(
    mechanisms: str | Sequence[str] | Mapping[str, str | Mechanism],
    *,
    out: str | Path | None = None,
    resume: bool = False,
    allow_changed_code: bool = False,
    ignore_disk_space: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> BenchResult:
    """Runs mechanisms on the same auctions.

    Args:
        mechanisms: Names ("gsp", package.module:Class, file.py:Class), or label -> name or mechanism.
        out: A new folder for the run; a temporary one by default. With `resume`, the folder of the run that was cut
            off; the options must be those that it had, but `n` may be larger.
        resume: Go on after the last finished chunk. Answers that failed are asked for again, except where mechanisms or
            bidders learn: later answers depend on what these saw.
        allow_changed_code: With `resume`, go on if the code of simenv or of a plug-in was changed since.
        ignore_disk_space: Go on if the disk seems too small for the run.
        progress: Callbacks.
        options: Fields of `simenv.runs.options.BenchOptions`: those of `simenv bench`, with underscores.

    Raises:
        CeilingReached: max_cost, max_calls or max_hours was reached before the first chunk was finished.
        SimenvError: wrong options or data before anything runs; later, whatever a model or mechanism raised. Finished
            chunks stay in the folder.
        CannotWrite: the disk is full or too small, or the folder cannot be written. Finished chunks stay.
    """
    names, objects = named_and_given(mechanisms)
    asked = read_options(BenchOptions, {"mechanisms": names, **options})
    folder = Path(out) if out is not None else Path(mkdtemp(prefix="simenv-")) / "run"
    return run_bench(
        asked,
        folder,
        resume=resume,
        allow_changed_code=allow_changed_code,
        ignore_disk_space=ignore_disk_space,
        objects=objects,
        progress=progress,
    )


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
    allow_changed_code: bool = False,
    ignore_disk_space: bool = False,
    objects: Mapping[str, Mechanism] | None = None,
    progress: Progress | None = None,
) -> BenchResult:
    """Runs the benchmark and writes `folder`.

    Everything that can be wrong is checked before anything slow: options, files and names before a model is loaded.

    Args:
        options: What to run.
        folder: A new folder, or with `resume` that of a run with the same options, or a smaller `n`.
        resume: Go on after the last finished chunk.
        allow_changed_code: As in `bench`.
        ignore_disk_space: As in `bench`.
        objects: Mechanisms as objects, by label, beside those that the options name.
        progress: Callbacks.

    Raises:
        InputError: another process writes the run.
        SimenvError: as `bench`.
    """
    progress, objects = progress or Progress(), objects or {}
    with ExitStack() as held:
        before = None
        if resume:
            check_options(options, folder)  # what cannot go on is not even locked
            held.enter_context(locked(folder))
            before = check_options(options, folder)
            try_folder(folder)
        else:
            run = RunFolder(folder)
        progress.stage("loading")
        check_engine(options.engine, ray_address=options.ray_address, workers=options.workers)
        checked = plan(options, objects)
        if options.baseline is not None and options.baseline not in checked.mechanisms:
            raise UnknownName("baseline", options.baseline, checked.mechanisms)
        shard = None if options.shard is None else read_shard(options.shard)
        blocks = Blocks(options.n, options.chunk, options.horizon)
        if shard is not None:
            blocks.check(shard)
        hashes, files, code = data_hashes(checked), file_hashes(options), code_of(options, objects)
        changed_code: list[str] = []
        if before is not None:
            check_inputs(folder, before, hashes, files)
            changed_code = check_code(before, code, allowed=allow_changed_code)
        cassette = open_cassette(options, resume)
        parts = build(checked, cassette)
        learners = observers(parts.world, parts.mechanisms)
        if shard is not None:
            refuse_learners(learners)
        if parts.warning is not None:
            progress.warned(parts.warning)
        facts, machine = facts_of(checked, parts, hashes), machine_of(parts.llms)
        progress.stage("encoding")
        parts.world.prepare(progress.encoded)
        setup = Setup(options, objects, facts, hashes, files, code, package_versions(), machine)
        engine = held.enter_context(open_engine(options, setup, parts.llms, cassette, progress.warned))
        done: dict[tuple[int, str], Transition] = {}
        begun: dict[int, Session] = {}
        if before is None:
            run.make()
            held.enter_context(locked(folder))
            run.begin(options.model_dump(), facts, hashes, code=code, files=files, machine=machine)
        else:
            # The same options and data may come to something else, such as a model that was trained again.
            refuse_other("in another world", facts, facts | before.get("world", {}))
            if (other := other_machine(machine, before.get("machine"))) is not None:
                progress.warned(other)
            changes, resumed = _changes(options, before, code, changed_code)
            run, done, begun = RunFolder.reopen(folder, changes, {**resumed, "machine": machine})  # touches it
            if run.repaired is not None:
                progress.warned(run.repaired)
        auctions = blocks.span(shard).auctions
        progress.began(folder, run.manifest)
        progress.started(auctions * len(parts.mechanisms))
        cassettes = [Path(path) for path in (options.record, options.cache) if path is not None]
        places = None if ignore_disk_space else [folder, *cassettes]
        spending = Spending(folder, options)
        # What learned from a failed answer, or came after it in a session of linked turns, depends on it.
        again = not learners and not parts.world.linked
        with RunLog(run, done, n=auctions, again=again, places=places) as log:
            sessions = Sessions(begun, run.save_sessions)
            run_answers(engine, options, parts, log, progress, sessions, blocks.chunks(shard), spending)
        refuse_empty(spending, folder)
        stopped = spending.kept_from_end(folder, auctions)
        result = result_of(folder, run.manifest, options, checked.metrics, parts.warning, stopped)
        retries: Counter[str] = Counter()
        for llm in parts.llms:  # one model may have other options in each role
            retries[llm.address] += llm.retries
        run.finish(stopped is None, retries=dict(retries), judge_disagreement=result.disagreement)
        progress.ended(folder, result.summary)
        return result


def result_of(
    folder: Path,
    manifest: Mapping[str, Any],
    options: BenchOptions,
    metrics: Sequence[Metric] = (),
    warning: str | None = None,
    stopped: Stopped | None = None,
) -> BenchResult:
    """Reads the log of a run that has ended, and writes its tables.

    Args:
        folder: The run's folder.
        manifest: Its manifest.
        options: Its options.
        metrics: Metrics beside the built-in ones.
        warning: If the model that writes also judges.
        stopped: The ceiling that kept the run from its end, if one did.
    """
    measures = [*METRICS, *metrics]
    said = about(manifest) if stopped is None else (*about(manifest), f"stopped: {stopped.text}")
    with tally_of_run(folder, measures) as measured:
        summary = table_of(measured, measures, options.baseline, about=said)
        found = measured.findings.problems(options.fail_on_useless, options.fail_on_error)
        result = BenchResult(folder, summary, warning, measured.disagreement, tuple(found), stopped)
    write_tables(summary, folder)
    return result


def _changes(
    options: BenchOptions, before: Mapping[str, Any], code: Mapping[str, Any], changed_code: list[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a resume changes in the manifest, and what it says of it there."""
    changes: dict[str, Any] = {}
    resumed: dict[str, Any] = {}
    n = before["options"].get("n")
    if options.n != n:
        changes["options"] = {**before["options"], "n": options.n}
        resumed["n"] = {"before": n, "now": options.n}
    if changed_code:
        changes["code"] = code
        resumed["changed_code"] = changed_code
    return changes, resumed
