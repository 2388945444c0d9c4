"""`simenv.score`: answers in, a run's folder and a table out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from simenv.files.folders import try_folder
from simenv.records import Transition
from simenv.runs.answering import Progress
from simenv.runs.bench import BenchResult, result_of
from simenv.runs.build import Parts, build
from simenv.runs.ceilings import Spending, refuse_empty
from simenv.runs.code import code_of
from simenv.runs.facts import data_hashes
from simenv.runs.failures import Failures
from simenv.runs.folder import RunFolder
from simenv.runs.lock import locked
from simenv.runs.machine import machine_of
from simenv.runs.manifest import manifest_to_resume
from simenv.runs.models import open_cassette
from simenv.runs.named_files import file_hashes
from simenv.runs.options import ScoreOptions, read_options
from simenv.runs.resume import MAY_CHANGE, check_code, check_inputs, refuse_other
from simenv.runs.run_log import RunLog
from simenv.runs.window import Finished
from simenv.scoring.answers import set_relevance
from simenv.scoring.judging import AnswersWorld, judge_answers
from simenv.scoring.prepare import Task, facts_of_scoring
from simenv.secrets import masked_fields
from simenv.world import Session

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class ScoreResult(BenchResult):
    """Scored answers."""

    notes: tuple[str, ...] = ()
    """How the rows were read, and what was drawn because no column gives it."""
    bad: tuple[str, ...] = ()
    """Rows that were left out, one message each."""


def score(
    answers: str | Path | Sequence[str | Path] | Iterable[Mapping[str, Any]] | pandas.DataFrame,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    allow_changed_code: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> ScoreResult:
    """Judges and measures answers that somebody else's system wrote, as if a mechanism had written them.

    Args:
        answers: A .csv, .tsv, .jsonl, .parquet or Markdown file, several of them, records (column -> value), or a
            pandas DataFrame.
        out: A new folder for the run; a temporary one by default. With `resume`, the folder of the run that was cut
            off, with the same answers and options.
        resume: Go on after the last finished chunk.
        allow_changed_code: With `resume`, go on if the code of simenv or of a plug-in was changed since.
        progress: Callbacks.
        options: Fields of `simenv.runs.options.ScoreOptions`: those of `simenv score`, with underscores.

    Raises:
        DataFileError: a file or a row cannot be read; nothing is written then.
        SimenvError: wrong options before anything runs; later, whatever a model or judge raised. Finished chunks stay
            in the folder.
    """
    asked = read_options(ScoreOptions, options)
    folder = Path(out) if out is not None else Path(mkdtemp(prefix="simenv-")) / "run"
    return run_score(answers, asked, folder, resume=resume, allow_changed_code=allow_changed_code, progress=progress)


def run_score(
    answers: Any,
    options: ScoreOptions,
    folder: Path,
    *,
    resume: bool = False,
    allow_changed_code: bool = False,
    progress: Progress | None = None,
) -> ScoreResult:
    """Scores answers and writes `folder`; arguments and errors as for `score`."""
    progress = progress or Progress()
    with ExitStack() as held:
        if resume:
            manifest_to_resume(folder)  # what cannot go on is not even locked
            held.enter_context(locked(folder))
            before = manifest_to_resume(folder)
            try_folder(folder)
        else:
            before, run = None, RunFolder(folder)
        progress.stage("loading")
        task = Task(answers, options)
        for note in task.notes:
            progress.noted(note)
        if task.warning is not None:
            progress.warned(task.warning)
        if task.bad:
            progress.warned(f"{len(task.bad)} of {task.rows} rows are left out; the first: {task.bad[0]}")
        changed_code: list[str] = []
        hashes, code = data_hashes(task.plan), code_of(task.bench, task.systems)
        files = {**file_hashes(task.bench), **{source.name: source.sha256 for source in task.sources}}
        named = {**options.model_dump(), "n": len(task.asked), "horizon": 1}
        if before is not None:
            kept = {name: value for name, value in masked_fields(named).items() if name not in MAY_CHANGE}
            refuse_other("with other options", kept, before["options"])
            check_inputs(folder, before, hashes, files)
            changed_code = check_code(before, code, allowed=allow_changed_code)
        cassette = open_cassette(task.bench, resume)
        parts = build(task.plan, cassette)
        progress.stage("encoding")
        set_relevance(task.systems.values(), parts.world.retriever.encoder)
        facts, machine = facts_of_scoring(task, parts, hashes, options), machine_of(parts.llms)
        done: dict[tuple[int, str], Transition] = {}
        begun: dict[int, Session] = {}
        if before is None:
            run.make()
            held.enter_context(locked(folder))
            run.begin(named, facts, hashes, code=code, files=files, machine=machine)
        else:
            refuse_other("in another world", facts, facts | before.get("world", {}))
            run, done, begun = RunFolder.reopen(
                folder,
                {"code": code} if changed_code else None,
                {"machine": machine, **({"changed_code": changed_code} if changed_code else {})},
            )
            if run.repaired is not None:
                progress.warned(run.repaired)
        result = _judge(task, options, parts, run, done, begun, progress)
        retries: Counter[str] = Counter()
        for llm in parts.llms:
            retries[llm.address] += llm.retries
        run.finish(result.stopped is None, retries=dict(retries), judge_disagreement=result.disagreement)
        return result


def _judge(
    task: Task,
    options: ScoreOptions,
    parts: Parts,
    run: RunFolder,
    done: Mapping[tuple[int, str], Transition],
    begun: Mapping[int, Session],
    progress: Progress,
) -> ScoreResult:
    spending = Spending(run.path, task.bench)
    answers = sum(len(it.answers) for it in task.asked)
    progress.started(answers)
    worlds = {
        name: AnswersWorld(parts.world, system, reference=options.reference == "model")
        for name, system in task.systems.items()
    }
    with RunLog(run, done, n=len(task.asked), again=True) as log:

        def write(finished: Finished) -> None:
            indices = dict.fromkeys(t.index for t in finished.transitions)
            run.save_sessions({i: task.asked[i].session for i in indices if i not in begun})
            log.write(finished)
            spending.save()

        try:
            judge_answers(
                task.asked,
                task.systems,
                worlds,
                parts.llms,
                chunk=options.chunk,
                failures=Failures(options.fail_on_error, warned=progress.warned),
                spending=spending,
                done=log.done,
                on_answer=lambda fresh: progress.answered() if fresh else progress.skipped(),
                on_chunk=write,
            )
        finally:
            spending.save()
    refuse_empty(spending, run.path)
    stopped = spending.kept_from_end(run.path, len(task.asked))
    result = result_of(run.path, run.manifest, task.bench, task.plan.metrics, None, stopped)
    return ScoreResult(
        result.folder,
        result.summary,
        None,
        result.disagreement,
        result.problems,
        result.stopped,
        notes=task.notes,
        bad=tuple(task.bad),
    )
