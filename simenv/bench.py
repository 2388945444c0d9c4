"""The benchmark: options in, a run's folder and a table out."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ConfigDict, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from simenv.ctr import CTRModel, make_ctr_model
from simenv.encoder import default_encoder
from simenv.errors import InputError, UnknownName
from simenv.llm import LLM, make_llm
from simenv.llm.base import display_name
from simenv.llm.cassette import Cassette, CassetteLLM, Mode
from simenv.market.bidders import Bidder, Budgeted, make_bidder
from simenv.market.catalog import load_catalog
from simenv.market.packs import pack_versions
from simenv.mechanism import Mechanism, Recipe, find_mechanism, make_mechanism
from simenv.metrics import summarize
from simenv.objective import Objective
from simenv.portal import run_sync
from simenv.records import Ad, Persona, Record, Transition
from simenv.report import print_tables, write_tables
from simenv.rollout import Sessions, rollout
from simenv.store import RunFolder, read_manifest, read_transitions, records_hash
from simenv.tables import parse_columns
from simenv.users.ensemble_judge import mean_disagreement
from simenv.users.judge import Judge
from simenv.users.judge_factory import JUDGES, make_judge, self_judging
from simenv.users.personas import load_personas
from simenv.users.quality_factory import QUALITIES, make_quality
from simenv.users.queries import FileQueries, FrozenQueries
from simenv.world import Session, World, make_world


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
    _check(options)
    done: dict[tuple[int, str], Transition] = {}
    begun: dict[int, Session] = {}
    if resume:
        run, done, begun = RunFolder.reopen(folder)
        named = {name: value for name, value in options.model_dump().items() if name not in _MAY_CHANGE}
        _refuse_other("with other options", named, _OLDEST | run.manifest["options"])
    else:
        run = RunFolder(folder)
    recipes = find_mechanisms(options.mechanisms, options.settings)
    data = _read(options)
    hashes = {"catalog": records_hash(data.catalog), "personas": records_hash(data.personas)}
    if data.queries is not None:
        hashes["queries"] = data.queries.hash
    if resume and run.manifest.get("data_sha256") != hashes:
        raise InputError(f"{folder} was run on other data: hashes {run.manifest.get('data_sha256')}, now {hashes}")
    cassette = _cassette(options, resume)
    ad_llm = _llm(options, cassette, options.llm, options.api_base)
    user_llm = _user_llm(options, cassette, ad_llm)
    if user_llm is None and data.queries is None:
        _check_frozen(data.personas, options.horizon)
    objective = Objective()

    # Mechanisms are built before judge and world, which load the encoder: what is wrong with one shows at once.
    @cache
    def judge() -> Judge:
        return _judge(options, cassette, ad_llm, user_llm)

    @cache
    def world() -> World:
        encoder = default_encoder()
        return make_world(
            **data._asdict(),
            encoder=encoder,
            user_llm=user_llm,
            judge=judge(),
            objective=objective,
            candidates=options.candidates,
            max_ads=options.max_ads,
            reserve=options.reserve,
            horizon=options.horizon,
            quality=make_quality(options.quality, encoder, user_llm if options.quality == "llm" else ad_llm),
            ad_free=make_mechanism("organic", context={"llm": ad_llm}) if options.quality != "none" else None,
        )

    def ctr_model(name: str) -> CTRModel:
        return make_ctr_model(name, world() if name == "oracle" else None)

    shared = {"llm": ad_llm, "objective": objective, "ctr_model": ctr_model(options.ctr_model)}
    mechanisms = {label: _with_own_ctr_model(recipe, ctr_model).build(shared) for label, recipe in recipes.items()}
    llms = {llm.address: llm for llm in (ad_llm, user_llm, *getattr(judge(), "llms", ())) if llm is not None}
    for llm in llms.values():
        run_sync(llm.preflight)
    warning = self_judging(judge(), ad_llm)
    if warning is not None:
        err.print(f"simenv: {warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    facts = {
        "ad_llm": ad_llm.name,
        "judge": world().judge.name,
        "judge_sha256": getattr(world().judge, "sha256", None),
        "self_judged": warning is not None,
        "quality": getattr(world().quality, "name", None),
        "quality_sha256": getattr(world().quality, "sha256", None),
        "packs": pack_versions(hashes),
        "query_source": world().queries.name,
        "encoder": default_encoder().name,
        "objective": world().objective.model_dump(),
        "ctr_models": {m: getattr(getattr(x, "ctr_model", None), "name", None) for m, x in mechanisms.items()},
    }
    if resume:
        # The same options and data may come to something else: a file of parameters edited, a model trained again.
        _refuse_other("in another world", facts, facts | run.manifest.get("world", {}))
    else:
        run.begin(options.model_dump(), facts, hashes)
    run_with_progress(world(), mechanisms, options, run, err, Sessions(begun, run.save_sessions), done)
    table = summarize(read_transitions(folder), options.baseline)
    write_tables(table, folder)
    disagreement = mean_disagreement(t.feedback for t in read_transitions(folder))
    run.finish(retries={llm.address: llm.retries for llm in llms.values()}, judge_disagreement=disagreement)
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


def _with_own_ctr_model(recipe: Recipe, ctr_model: Callable[[str], CTRModel]) -> Recipe:
    """`--set MECHANISM.ctr_model=oracle` gives one mechanism another CTR model than the run's."""
    name = recipe.options.get("ctr_model")
    if not isinstance(name, str):
        return recipe
    return recipe._replace(options={**recipe.options, "ctr_model": ctr_model(name)})


def _refuse_other(what: str, now: dict[str, Any], before: dict[str, Any]) -> None:
    now, before = json.loads(json.dumps([now, before]))  # as the manifest has them
    other = [name for name in now if now[name] != before.get(name)]
    if other:
        said = "; ".join(f"{name} was {before.get(name)!r}, now {now[name]!r}" for name in other)
        raise InputError(f"cannot resume {what}: {said}")


def _cassette(options: BenchOptions, resume: bool) -> Cassette | None:
    modes: tuple[Mode, ...] = ("record", "replay", "cache")
    given = [(mode, path) for mode in modes if (path := getattr(options, mode)) is not None]
    if len(given) > 1:
        raise InputError(f"give one of --record, --replay and --cache, got {' and '.join(f'--{m}' for m, _ in given)}")
    if not given:
        return None
    mode, path = given[0]
    # A resumed recording goes on where it was: what is in the file is not asked for again.
    return Cassette(path, "cache" if mode == "record" and resume else mode)


def _llm(options: BenchOptions, cassette: Cassette | None, name: str, api_base: str | None) -> LLM:
    if cassette is not None and cassette.mode == "replay":
        return CassetteLLM(cassette, name=display_name(name))
    llm = make_llm(name, api_base=api_base, concurrency=options.concurrency, timeout=options.timeout)
    return CassetteLLM(cassette, llm) if cassette is not None else llm


def find_mechanisms(names: Iterable[str], settings: Iterable[str]) -> dict[str, Recipe]:
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


def _check(options: BenchOptions) -> None:
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
        bidder=_bidder(options),
    )


def _bidder(options: BenchOptions) -> Bidder:
    bidder = make_bidder(options.bidder)
    if options.budget is None:
        return bidder
    return Budgeted(bidder, options.budget, options.budget_scope, options.pacing)


def _check_frozen(personas: Iterable[Persona], horizon: int) -> None:
    """The same error as in the middle of the run, before it."""
    for persona in personas:
        run_sync(FrozenQueries().session, persona, horizon, 0, 0)


def _user_llm(options: BenchOptions, cassette: Cassette | None, ad_llm: LLM) -> LLM | None:
    """The model that plays the users, if one does."""
    if options.judge in ("click", "embedded"):
        return None
    if options.judge_llm is not None:
        if options.judge_llm == options.llm and options.judge_api_base in (None, options.api_base):
            return ad_llm
        return _llm(options, cassette, options.judge_llm, options.judge_api_base or options.api_base)
    return ad_llm if ad_llm.capable or options.judge == "llm" else None


def _judge(options: BenchOptions, cassette: Cassette | None, ad_llm: LLM, user_llm: LLM | None) -> Judge:
    """Who clicks. Models that are there already are asked, not loaded twice."""
    known = {options.llm: ad_llm}
    if user_llm is not None:
        known[options.judge_llm or options.llm] = user_llm

    def find(name: str) -> LLM:
        api_base = options.judge_api_base or options.api_base
        return known[name] if name in known else _llm(options, cassette, name, api_base)

    ensemble, name = options.judge_ensemble, options.judge
    if name == "auto" and not ensemble:
        name = "click" if user_llm is None else "llm"
    llm = user_llm if name == "llm" else None
    return make_judge(name, llm=llm or "embedded", ensemble=ensemble, samples=options.judge_samples, find_llm=find)


class _Rate(ProgressColumn):
    """Answers per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f}/s" if task.speed else "", style="progress.data.speed")
