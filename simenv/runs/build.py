"""From options to what runs: models, judge, world and mechanisms, each built once.

Benchmarks and audits share it. Everything that can be wrong is checked before anything slow is built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from simenv import registry
from simenv.abilities import AsksModels
from simenv.background_loop import run_sync
from simenv.conversions import Conversions
from simenv.ctr.models import CTR_MODEL, CTRModel
from simenv.encoder import default_encoder
from simenv.errors import InputError, UnknownName
from simenv.files.rows import parse_columns
from simenv.judges.base import JUDGE, Judge
from simenv.judges.factory import asks_user_llm, check_click_world, pick_user_llm, self_judging
from simenv.llm import LANGUAGE_MODEL, LLM, check_server_options
from simenv.llm.cassette import Cassette
from simenv.market.bidders import BIDDER, Bidder, Budgeted, make_bidder, population
from simenv.market.catalog import load_catalog
from simenv.market.values import VALUES, ValueDistribution
from simenv.mechanism import MECHANISM, Mechanism, MechanismSpec, find_mechanism, make_mechanism, units_of
from simenv.objective import PENALTY, Objective, make_penalty
from simenv.quality.factory import QUALITY, make_quality
from simenv.records import Ad, Persona
from simenv.registry import Kind, Lazy
from simenv.runs.ceilings import refuse_unpriced
from simenv.runs.metric_types import Metric
from simenv.runs.metrics import METRIC, metrics_named, names_in_sets
from simenv.runs.models import Models, judge_names
from simenv.runs.options import BenchOptions, BidderOptions, RunOptions, ScoreOptions, check_ranges
from simenv.runs.settings import Part, PartOptions
from simenv.sessions import TURNS
from simenv.users.personas import load_personas
from simenv.users.queries import FileQueries, FrozenQueries
from simenv.world import World
from simenv.world_factory import make_world

AnyMechanism = Mechanism | MechanismSpec


class Plan(NamedTuple):
    """A run that was checked: its plug-ins are found, its files are read, and nothing slow is built."""

    options: RunOptions
    mechanisms: dict[str, AnyMechanism]
    """By label: found, or given as objects."""
    part_options: PartOptions
    catalog: Sequence[Ad]
    personas: tuple[Persona, ...]
    queries: FileQueries | None
    bidder: Bidder
    values: ValueDistribution
    objective: Objective
    metrics: tuple[Metric, ...]
    """Beside the built-in ones."""
    conversions: Conversions | None


class Parts(NamedTuple):
    """Everything that runs."""

    world: World
    mechanisms: dict[str, Mechanism]
    ad_llm: LLM
    ctr_model: CTRModel
    """That of mechanisms without one of their own."""
    llms: tuple[LLM, ...]
    """Every language model once, judges' included; all have passed their preflight."""
    warning: str | None
    """If the model that writes also judges."""
    rebuild: Callable[[str, CTRModel], Mechanism]
    """The mechanism of a label with another CTR model, all else alike."""


def plan(options: RunOptions, given: Mapping[str, Mechanism] | None = None) -> Plan:
    """Checks options, finds plug-ins and reads files.

    Args:
        options: What to run.
        given: Mechanisms as objects, by label, beside those that `options.mechanisms` names.

    Raises:
        SimenvError: an option out of range, an unknown name, a file that cannot be read.
    """
    check_ranges(options)
    names = labelled(options.mechanisms)
    if twice := set(names) & set(given or {}):
        raise InputError(f"a mechanism is named twice: {', '.join(sorted(twice))}")
    if not names and not given:
        raise InputError("no mechanisms to run: name at least one, for instance gsp")
    part_options = part_options_of(options)
    found: dict[str, AnyMechanism] = {
        label: find_mechanism(name, part_options.of(MECHANISM, label)) for label, name in names.items()
    }
    _check_choices(options, part_options)
    if options.turns not in TURNS:
        raise UnknownName("way to relate turns", options.turns, TURNS)
    bidder = _bidder(options, part_options)
    for label in (*names, *(given or {})):
        check_label(label)
        population(bidder, label)  # refused now, not in the middle of the run
    return Plan(
        options=options,
        mechanisms=found | dict(given or {}),
        part_options=part_options,
        catalog=load_catalog(options.catalog, parse_columns(options.catalog_columns)),
        personas=load_personas(options.personas, parse_columns(options.persona_columns)),
        queries=FileQueries(options.queries, parse_columns(options.query_columns)) if options.queries else None,
        bidder=bidder,
        values=registry.make(VALUES, options.values, **part_options.of(VALUES, options.values)),
        objective=objective_of(options),
        metrics=metrics_of(options) if isinstance(options, BenchOptions) else (),
        conversions=_conversions(options),
    )


def build(plan: Plan, cassette: Cassette | None = None) -> Parts:
    """Builds models, mechanisms, judge and world.

    Raises:
        SimenvError: what cannot be built of these options.
    """
    options, part_options = plan.options, plan.part_options
    quality = options.quality if isinstance(options, BenchOptions) else "none"
    models = Models(options, part_options, cassette)
    ad_llm = models.ad_llm()
    named = models.named_user_llm(ad_llm)
    user_llm = pick_user_llm(options.judge, named, ad_llm)
    if user_llm is None and plan.queries is None:
        _check_frozen(plan.personas, options.horizon)

    # Mechanisms are built before judge and world, which load the encoder: an error in one shows at once.
    @cache
    def judge() -> Judge:
        return models.judge(named, ad_llm)

    @cache
    def world() -> World:
        encoder = default_encoder()
        measure_options = part_options.of(QUALITY, quality)
        return make_world(
            catalog=plan.catalog,
            personas=plan.personas,
            queries=plan.queries,
            encoder=encoder,
            user_llm=user_llm,
            judge=judge(),
            bidder=plan.bidder,
            values=plan.values,
            objective=plan.objective,
            candidates=options.candidates,
            max_ads=options.max_ads,
            reserve=options.reserve,
            horizon=options.horizon,
            answer_timeout=options.answer_timeout,
            strict=options.strict,
            conversions=plan.conversions,
            turns=_turns(options, plan.mechanisms),
            view_bids=options.view_bids,
            clicks_per_view=options.clicks_per_view,
            quality=make_quality(quality, encoder, llm=ad_llm, user_llm=user_llm, options=measure_options),
            ad_free=make_mechanism("organic", context={"llm": ad_llm}) if quality != "none" else None,
        )

    shared = {"llm": ad_llm, "encoder": Lazy(default_encoder)}
    of_the_world = {"judge": Lazy(lambda: world().judge), "personas": plan.personas}

    def ctr_model(name: str) -> CTRModel:
        return registry.make(CTR_MODEL, name, shared | of_the_world, **part_options.of(CTR_MODEL, name))

    predictions = ctr_model(options.ctr_model)
    context = {**shared, "objective": plan.objective, "ctr_model": predictions}
    mechanisms = {
        label: _with_own_ctr_model(it, ctr_model).build(context) if isinstance(it, registry.Spec) else it
        for label, it in plan.mechanisms.items()
    }
    if options.view_bids:
        _refuse_click_only(mechanisms)
    asker = judge()
    judge_llms = asker.llms if isinstance(asker, AsksModels) else ()
    llms = {id(llm): llm for llm in (ad_llm, user_llm, *judge_llms) if llm is not None}
    if isinstance(options, BenchOptions) and options.max_cost is not None:
        refuse_unpriced(llms.values())
    for llm in llms.values():
        run_sync(llm.preflight)

    def rebuild(label: str, other: CTRModel) -> Mechanism:
        spec = plan.mechanisms[label]
        if not isinstance(spec, registry.Spec):
            raise InputError(f"mechanism {label!r} was given as an object: it cannot be built with another CTR model")
        return _without_ctr_model(spec).build({**context, "ctr_model": other})

    warning = self_judging(judge(), ad_llm)
    return Parts(world(), mechanisms, ad_llm, predictions, tuple(llms.values()), warning, rebuild)


def part_options_of(options: RunOptions) -> PartOptions:
    """The options of every plug-in that `options` name.

    Raises:
        UnknownName: a setting for another plug-in.
        InputError: a setting of another form, or one that fits several plug-ins.
    """
    return PartOptions(options.settings, list(parts_of(options, labelled(options.mechanisms))))


def metrics_of(options: BenchOptions) -> tuple[Metric, ...]:
    """The metrics that the options name, beside the built-in ones.

    Raises:
        SimenvError: one cannot be found or built.
    """
    part_options = part_options_of(options)
    return metrics_named(options.metrics, lambda name: part_options.of(METRIC, name))


def objective_of(options: RunOptions) -> Objective:
    """The platform's objective.

    Raises:
        SimenvError: the penalty cannot be found or built.
    """
    return Objective(rule=make_penalty(options.penalty, **part_options_of(options).of(PENALTY, options.penalty)))


def click_world_of(options: RunOptions) -> str:
    """Name or file of the world of a run's click judge; "v1" for other judges."""
    head, _, world = options.judge.partition(":")
    if head not in ("click", "auto") or options.judge_ensemble:
        return "v1"
    settings = part_options_of(options).of(JUDGE, options.judge if head == "click" else "click")
    return str(settings.get("world") or world or "v1")


def labelled(names: Iterable[str]) -> dict[str, str]:
    """Label -> name, of "gsp" and "LABEL=gsp".

    Raises:
        InputError: a label that is there twice, is empty, or holds line breaks or other characters that do not print.
    """
    pairs = [(label, name or label) for label, _, name in (text.partition("=") for text in names)]
    labels = [label for label, _ in pairs]
    for label in labels:
        check_label(label)
    if len(set(labels)) < len(labels):
        raise InputError(f"a mechanism is named twice in {','.join(labels)}", hint="tell them apart as LABEL=NAME")
    return dict(pairs)


def check_label(label: str) -> None:
    """Refuses a label that would not stay in its line of a table or log.

    Raises:
        InputError: it is empty, or holds line breaks or other characters that do not print.
    """
    if not label.strip() or not label.isprintable():
        raise InputError(f"the label {label!r} of a mechanism must have printable characters only, and at least one")


def parts_of(options: RunOptions, mechanisms: Mapping[str, str]) -> Iterable[Part]:
    """Every plug-in that the options name. `mechanisms`: label -> name."""
    for label, name in mechanisms.items():
        yield Part(MECHANISM, label, name)
    named: list[tuple[Kind[Any], Iterable[str]]] = [
        (JUDGE, judge_names(options)),
        (LANGUAGE_MODEL, (options.llm, *([options.judge_llm] if options.judge_llm else []))),
        (CTR_MODEL, (options.ctr_model,)),
        (VALUES, (options.values,)),
        (PENALTY, (options.penalty,)),
        (BIDDER, (options.bidder,) if isinstance(options, BidderOptions) else ()),
        (QUALITY, (options.quality,) if isinstance(options, BenchOptions) else ()),
        (METRIC, names_in_sets(options.metrics) if isinstance(options, BenchOptions) else ()),
    ]
    for kind, names in named:
        for name in names:
            yield Part(kind, name, name)


def _check_choices(options: RunOptions, part_options: PartOptions) -> None:
    """Refuses unknown judges and quality measures, and wrong options of servers, before a model is loaded."""
    check_server_options(options.llm, options.llm_options)
    check_server_options(options.judge_llm or options.llm, options.judge_llm_options, "judge_llm_options")
    if options.judge_llm_options and not asks_user_llm(options.judge):
        raise InputError(f"the judge {options.judge} asks no User-LLM, got judge_llm_options")
    if options.judge_ensemble and options.judge != "auto":
        raise InputError(f"judge and judge_ensemble exclude each other, got judge {options.judge!r} too")
    for name in judge_names(options):
        if options.judge != "auto" or registry.is_name_of(JUDGE, name):  # else the name of a language model
            check_click_world(registry.find(JUDGE, name, part_options.of(JUDGE, name)))
    if not asks_user_llm(options.judge) and options.judge_llm is not None:
        raise InputError(f"the judge {options.judge} asks no User-LLM, got judge_llm {options.judge_llm!r}")
    if isinstance(options, BenchOptions) and options.quality != "none":
        registry.find(QUALITY, options.quality, part_options.of(QUALITY, options.quality))


def _bidder(options: RunOptions, part_options: PartOptions) -> Bidder:
    """The bidder of the options; truthful where they name none."""
    if not isinstance(options, BidderOptions):
        return make_bidder()
    bidder = make_bidder(options.bidder, **part_options.of(BIDDER, options.bidder))
    if options.budget is None:
        return bidder
    return Budgeted(bidder, options.budget, options.budget_scope, options.pacing)


def _refuse_click_only(mechanisms: Mapping[str, Mechanism]) -> None:
    """Raises InputError if a mechanism takes no bids per view: now, not at the first auction that has one."""
    refused = [label for label, mechanism in mechanisms.items() if "view" not in units_of(mechanism)]
    if refused:
        raise InputError(
            f"view_bids: {', '.join(refused)} take{'s' if len(refused) == 1 else ''} bids per click only",
            hint='a mechanism takes both if it has units = frozenset({"click", "view"})',
        )


def _conversions(options: RunOptions) -> Conversions | None:
    if not isinstance(options, BenchOptions | ScoreOptions) or options.conversions is None:
        return None
    return Conversions(options.conversions)


def _turns(options: RunOptions, mechanisms: Mapping[str, AnyMechanism]) -> str:
    """How turns relate: `auto` links them for a session mechanism; what the judge needs is the world's to say.

    Raises:
        InputError: a session mechanism where turns are apart: now, not at its first answer.
    """
    factories = {label: it.factory if isinstance(it, registry.Spec) else it for label, it in mechanisms.items()}
    commit = [label for label, it in factories.items() if hasattr(it, "begin")]
    if commit and options.turns == "apart":
        raise InputError(
            f"turns: {', '.join(commit)} commit{'s' if len(commit) == 1 else ''} to bids for a session; got apart",
            hint="auto and linked run session mechanisms",
        )
    return "linked" if commit and options.turns == "auto" else options.turns


def _check_frozen(personas: Iterable[Persona], horizon: int) -> None:
    """The same error as in the middle of the run, before it."""
    for persona in personas:
        run_sync(FrozenQueries().session, persona, horizon, 0, 0)


def _with_own_ctr_model(spec: MechanismSpec, ctr_model: Callable[[str], CTRModel]) -> MechanismSpec:
    """A mechanism's option ctr_model names another CTR model than the run's."""
    name = spec.options.get("ctr_model")
    if not isinstance(name, str):
        return spec
    return spec.with_options({**spec.options, "ctr_model": ctr_model(name)})


def _without_ctr_model(spec: MechanismSpec) -> MechanismSpec:
    return spec.with_options({name: value for name, value in spec.options.items() if name != "ctr_model"})
