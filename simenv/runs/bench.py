"""The benchmark: options in, a run's folder and a table out."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from simenv.background_loop import run_sync
from simenv.encoder import default_encoder
from simenv.errors import InputError, UnknownName
from simenv.files.packs import pack_versions
from simenv.judges.ensemble_judge import mean_disagreement
from simenv.judges.factory import JUDGES
from simenv.mechanism import Mechanism, MechanismSpec, find_mechanism
from simenv.quality.factory import QUALITIES
from simenv.records import Record, Transition
from simenv.runs.build import assemble, open_cassette, read_data
from simenv.runs.folder import RunFolder, read_manifest, read_transitions, records_hash
from simenv.runs.metrics import summarize
from simenv.runs.rollout import Sessions, rollout
from simenv.runs.tables import print_tables, write_tables
from simenv.world import Session, World


class BenchOptions(Record):
    """Everything that names a benchmark; goes into its manifest as it is. Fields: see `simenv bench --help`."""

    model_config = ConfigDict(allow_inf_nan=True)  # refused by `run_bench`, in our words

    mechanisms: tuple[str, ...]
    n: int = 64
    seed: int = 0
    llm: str = "embedded"
    api_base: str | None = None
    judge_llm: str | None = None
    judge_api_base: str | None = None
    judge: str = "auto"
    judge_ensemble: tuple[str, ...] = ()
    judge_samples: int = 1
    personas: str = "everyday"
    persona_columns: str | None = None
    queries: str | None = None
    query_columns: str | None = None
    catalog: str = "everyday"
    catalog_columns: str | None = None
    bidder: str = "truthful"
    candidates: int = 8
    max_ads: int = 2
    reserve: float = 0.0
    horizon: int = 5
    baseline: str | None = None
    settings: tuple[str, ...] = ()
    ctr_model: str = "cosine"
    budget: float | None = None
    budget_scope: str = "run"
    pacing: int | None = None
    concurrency: int = 16
    timeout: float = 120.0
    chunk: int = 16
    record: str | None = None
    replay: str | None = None
    cache: str | None = None
    quality: str = "embedded"


_MAY_CHANGE = frozenset({"concurrency", "timeout", "api_base", "judge_api_base"})
"""Options that a resumed run may have otherwise: they say how to reach a model, not what is run."""
_OLDEST = {"quality": "none", "judge_ensemble": [], "judge_samples": 1}
"""What a run did whose manifest does not have the option."""


def run_bench(options: BenchOptions, folder: Path, out: Console, err: Console, *, resume: bool = False) -> None:
    """Runs the benchmark, writes `folder` and prints the table.

    What is checked comes first and what is slow last: options, files and names before any model is loaded.

    Args:
        options: What to run.
        folder: A new folder, or with `resume` that of a run with the same options that was cut off.
        out, err: Where tables and the progress bar go.
        resume: Go on after the last finished chunk.

    Raises:
        SimenvError: bad options or data before anything runs; later, whatever a model or mechanism raised. Finished
            chunks stay in `folder`.
    """
    check_options(options)
    done: dict[tuple[int, str], Transition] = {}
    begun: dict[int, Session] = {}
    if resume:
        run, done, begun = RunFolder.reopen(folder)
        named = {name: value for name, value in options.model_dump().items() if name not in _MAY_CHANGE}
        _refuse_other("with other options", named, _OLDEST | run.manifest["options"])
    else:
        run = RunFolder(folder)
    recipes = find_mechanisms(options.mechanisms, options.settings)
    data = read_data(options)
    hashes = {"catalog": records_hash(data.catalog), "personas": records_hash(data.personas)}
    if data.queries is not None:
        hashes["queries"] = data.queries.hash
    if resume and run.manifest.get("data_sha256") != hashes:
        raise InputError(f"{folder} was run on other data: hashes {run.manifest.get('data_sha256')}, now {hashes}")
    cassette = open_cassette(options, resume)
    made = assemble(options, recipes, data, cassette)
    world, mechanisms = made.world, made.mechanisms
    if made.warning is not None:
        err.print(f"simenv: {made.warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    facts = {
        "ad_llm": made.ad_llm.name,
        "judge": world.judge.name,
        "judge_sha256": getattr(world.judge, "sha256", None),
        "self_judged": made.warning is not None,
        "quality": getattr(world.quality, "name", None),
        "quality_sha256": getattr(world.quality, "sha256", None),
        "packs": pack_versions(hashes),
        "bidder_sha256": getattr(world.bidder, "sha256", None),
        "query_source": world.queries.name,
        "encoder": default_encoder().name,
        "objective": world.objective.model_dump(),
        "ctr_models": {m: getattr(getattr(x, "ctr_model", None), "name", None) for m, x in mechanisms.items()},
    }
    if resume:
        # The same options and data may come to something else: a file of parameters edited, a model trained again.
        _refuse_other("in another world", facts, facts | run.manifest.get("world", {}))
    else:
        run.begin(options.model_dump(), facts, hashes)
    run_with_progress(world, mechanisms, options, run, err, Sessions(begun, run.save_sessions), done)
    table = summarize(read_transitions(folder), options.baseline)
    write_tables(table, folder)
    disagreement = mean_disagreement(t.feedback for t in read_transitions(folder))
    run.finish(retries={llm.address: llm.retries for llm in made.llms}, judge_disagreement=disagreement)
    print_tables(table, out)
    if disagreement is not None:
        out.print(f"The judges' click probabilities differ by {disagreement:.3f} on average.", highlight=False)


def resume_bench(options: BenchOptions, given: Collection[str], folder: Path, out: Console, err: Console) -> None:
    """Goes on with the run in `folder`, with the options of its manifest.

    Args:
        options: Options as they come from the command line.
        given: Names of those that were given there: they must be as before, but for how a model is reached.
        folder, out, err: As in `run_bench`.

    Raises:
        SimenvError: as `run_bench`, or no run in `folder`, or an option given that differs.
    """
    before = _OLDEST | read_manifest(folder)["options"]
    try:
        kept = BenchOptions.model_validate({k: v for k, v in before.items() if k in BenchOptions.model_fields})
    except ValidationError as error:
        raise InputError(f"{folder}: its manifest has no options that can be run: {error.errors()[0]['msg']}") from None
    changes = {name: getattr(options, name) for name in given if name in BenchOptions.model_fields}
    run_bench(kept.model_copy(update=changes), folder, out, err, resume=True)


def run_with_progress(
    world: World,
    mechanisms: dict[str, Mechanism],
    options: BenchOptions,
    run: RunFolder,
    err: Console,
    sessions: Sessions,
    done: dict[tuple[int, str], Transition],
) -> None:
    """Runs the rollout into `run` under a progress bar with rate and time left."""
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    with Progress(*columns, console=err, speed_estimate_period=120) as progress:
        bar = progress.add_task("answers", total=options.n * len(mechanisms))

        async def go() -> None:
            await rollout(
                world,
                mechanisms,
                n=options.n,
                seed=options.seed,
                on_chunk=run.append,
                on_answer=lambda: progress.advance(bar),
                chunk=options.chunk,
                sessions=sessions,
                done=done,
            )

        run_sync(go)


def _refuse_other(what: str, now: dict[str, Any], before: dict[str, Any]) -> None:
    now, before = json.loads(json.dumps([now, before]))  # as the manifest has them
    other = [name for name in now if now[name] != before.get(name)]
    if other:
        said = "; ".join(f"{name} was {before.get(name)!r}, now {now[name]!r}" for name in other)
        raise InputError(f"cannot resume {what}: {said}")


def find_mechanisms(names: Iterable[str], settings: Iterable[str]) -> dict[str, MechanismSpec]:
    """Finds mechanisms and holds their options to them: label -> recipe.

    The label is the name as it was given, or LABEL where LABEL=NAME was given: one mechanism may run twice.

    Raises:
        UnknownName: an unknown mechanism, or a setting for one that is not run.
        InputError: a setting that is not MECHANISM.OPTION=VALUE, or an option that the mechanism lacks.
    """
    named = _labels(names)
    chosen: dict[str, dict[str, Any]] = {label: {} for label in named}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, option = target.rpartition(".")
        if not equals or not dot:
            raise InputError(f"cannot read --set {setting!r}: expected MECHANISM.OPTION=VALUE")
        if name not in chosen:
            raise UnknownName("mechanism of --set", name, chosen)
        chosen[name][option] = _value(value)
    return {label: find_mechanism(named[label], given) for label, given in chosen.items()}


def _labels(names: Iterable[str]) -> dict[str, str]:
    """Label -> name, of "gsp" and "LABEL=gsp"."""
    pairs = [(label, name or label) for label, _, name in (given.partition("=") for given in names)]
    labels = [label for label, _ in pairs]
    if len(set(labels)) < len(labels):
        hint = "tell them apart as LABEL=NAME"
        raise InputError(f"a mechanism is named twice in {','.join(labels)}", hint=hint)
    return dict(pairs)


def _value(text: str) -> Any:
    """A JSON value if it is one (8, 0.5, true), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def check_options(options: BenchOptions) -> None:
    """Holds options to their ranges and names, before anything is read or loaded."""
    if not options.mechanisms:
        raise InputError("no mechanisms named: give --mechanisms gsp,best_of_n")
    labels = _labels(options.mechanisms)
    if options.baseline is not None and options.baseline not in labels:
        raise UnknownName("baseline", options.baseline, labels)
    if options.judge not in JUDGES:
        raise UnknownName("judge", options.judge, JUDGES)
    if options.judge in ("click", "embedded") and options.judge_llm is not None:
        raise InputError(f"--judge {options.judge} needs no --judge-llm, got {options.judge_llm!r}")
    if options.judge_ensemble and options.judge != "auto":
        raise InputError(f"give --judge or --judge-ensemble, got --judge {options.judge} too")
    if options.quality not in QUALITIES:
        raise UnknownName("quality measure", options.quality, QUALITIES)
    least_of = {"n": 1, "chunk": 1, "concurrency": 1, "horizon": 1, "judge_samples": 1}
    least_of |= {"candidates": 0, "max_ads": 0, "reserve": 0}
    for name, least in least_of.items():
        number = getattr(options, name)
        if not least <= number < math.inf:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {number}")
    if not 0 < options.timeout < math.inf:
        raise InputError(f"--timeout must be above 0, got {options.timeout}")


class _Rate(ProgressColumn):
    """Answers per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "", style="progress.data.speed")
