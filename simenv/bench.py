"""The benchmark: options in, a run's folder and a table out."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from simenv.encoder import default_encoder
from simenv.errors import InputError, UnknownName
from simenv.llm import LLM, make_llm
from simenv.market.advertisers import Bidder, make_bidder
from simenv.market.catalog import load_catalog
from simenv.mechanism import Mechanism, Recipe, find_mechanism
from simenv.metrics import summarize
from simenv.objective import Objective
from simenv.portal import run_sync
from simenv.records import Ad, Persona, Record
from simenv.report import print_tables, write_tables
from simenv.rollout import rollout
from simenv.store import RunFolder, read_transitions, records_hash
from simenv.tables import parse_columns
from simenv.users.personas import load_personas
from simenv.users.queries import FileQueries, FrozenQueries
from simenv.world import World, make_world


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
    concurrency: int = 16
    timeout: float = 120.0
    chunk: int = 16


def run_bench(options: BenchOptions, folder: Path, out: Console, err: Console) -> None:
    """Runs the benchmark, writes `folder` and prints the table.

    What is checked comes first and what is slow last: options, files and names before any model is loaded.

    Raises:
        SimenvError: bad options or data before anything runs; later, whatever a model or mechanism raised. Finished
            chunks stay in `folder`.
    """
    _check(options)
    run = RunFolder(folder)
    recipes = find_mechanisms(options.mechanisms, options.settings)
    data = _read(options)
    ad_llm = make_llm(options.llm, api_base=options.api_base, concurrency=options.concurrency, timeout=options.timeout)
    user_llm = _user_llm(options, ad_llm)
    if user_llm is None and data.queries is None:
        _check_frozen(data.personas, options.horizon)
    for llm in {id(llm): llm for llm in (ad_llm, user_llm) if llm is not None}.values():
        run_sync(llm.preflight)
    objective = Objective()
    mechanisms = {m: recipe.build({"llm": ad_llm, "objective": objective}) for m, recipe in recipes.items()}
    world = make_world(
        **data._asdict(),
        user_llm=user_llm,
        objective=objective,
        candidates=options.candidates,
        max_ads=options.max_ads,
        reserve=options.reserve,
        horizon=options.horizon,
    )
    facts = {
        "ad_llm": ad_llm.name,
        "judge": world.judge.name,
        "query_source": world.queries.name,
        "encoder": default_encoder().name,
        "objective": world.objective.model_dump(),
        "ctr_models": {m: getattr(getattr(x, "ctr_model", None), "name", None) for m, x in mechanisms.items()},
    }
    hashes = {
        "catalog": records_hash(world.retriever.catalog),
        "personas": records_hash(world.personas),
    }
    run.begin(options.model_dump() | facts, hashes)
    run_with_progress(world, mechanisms, options, run, err)
    table = summarize(read_transitions(folder), options.baseline)
    write_tables(table, folder)
    run.finish(retries={llm.name: llm.retries for llm in (ad_llm, user_llm) if llm is not None})
    print_tables(table, out)


def run_with_progress(
    world: World, mechanisms: dict[str, Mechanism], options: BenchOptions, run: RunFolder, err: Console
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
            )

        run_sync(go)


def find_mechanisms(names: Iterable[str], settings: Iterable[str]) -> dict[str, Recipe]:
    """Finds mechanisms and holds their options to them: label -> recipe. The label is the name as it was given.

    Raises:
        UnknownName: an unknown mechanism, or a setting for one that is not run.
        InputError: a setting that is not MECHANISM.OPTION=VALUE, or an option that the mechanism lacks.
    """
    names = list(names)
    chosen: dict[str, dict[str, Any]] = {name: {} for name in names}
    for setting in settings:
        target, equals, value = setting.partition("=")
        name, dot, option = target.rpartition(".")
        if not equals or not dot:
            raise InputError(f"cannot read --set {setting!r}: expected MECHANISM.OPTION=VALUE")
        if name not in chosen:
            raise UnknownName(f"mechanism in --set {setting!r}", name, names)
        chosen[name][option] = _value(value)
    return {name: find_mechanism(name, given) for name, given in chosen.items()}


def _value(text: str) -> Any:
    """A JSON value if it is one (8, 0.5, true), else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check(options: BenchOptions) -> None:
    if not options.mechanisms:
        raise InputError("no mechanisms named: give --mechanisms gsp,best_of_n")
    if len(set(options.mechanisms)) < len(options.mechanisms):
        raise InputError(f"a mechanism is named twice in {','.join(options.mechanisms)}")
    if options.baseline is not None and options.baseline not in options.mechanisms:
        raise UnknownName("baseline", options.baseline, options.mechanisms)
    if options.judge not in ("auto", "click", "llm"):
        raise UnknownName("judge", options.judge, ["auto", "click", "llm"])
    least_of = {"n": 1, "chunk": 1, "concurrency": 1, "horizon": 1, "candidates": 0, "max_ads": 0, "reserve": 0}
    for name, least in least_of.items():
        number = getattr(options, name)
        if not least <= number < math.inf:
            raise InputError(f"--{name.replace('_', '-')} must be at least {least}, got {number}")
    if not 0 < options.timeout < math.inf:
        raise InputError(f"--timeout must be above 0, got {options.timeout}")


class _Data(NamedTuple):
    """What is read from files, by the name under which `make_world` takes it."""

    catalog: tuple[Ad, ...]
    personas: tuple[Persona, ...]
    queries: FileQueries | None
    bidder: Bidder


def _read(options: BenchOptions) -> _Data:
    return _Data(
        catalog=load_catalog(options.catalog, parse_columns(options.catalog_columns)),
        personas=load_personas(options.personas, parse_columns(options.persona_columns)),
        queries=FileQueries(options.queries, parse_columns(options.query_columns)) if options.queries else None,
        bidder=make_bidder(options.bidder),
    )


def _check_frozen(personas: Iterable[Persona], horizon: int) -> None:
    """The same error as in the middle of the run, before it."""
    for persona in personas:
        run_sync(FrozenQueries().session, persona, horizon, 0, 0)


def _user_llm(options: BenchOptions, ad_llm: LLM) -> LLM | None:
    """The model that plays the users, if one does."""
    if options.judge == "click":
        return None
    if options.judge_llm is not None:
        if options.judge_llm == options.llm and options.judge_api_base in (None, options.api_base):
            return ad_llm
        return make_llm(
            options.judge_llm,
            api_base=options.judge_api_base or options.api_base,
            concurrency=options.concurrency,
            timeout=options.timeout,
        )
    return ad_llm if ad_llm.capable or options.judge == "llm" else None


class _Rate(ProgressColumn):
    """Answers per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "", style="progress.data.speed")
