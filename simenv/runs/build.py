"""From options to what runs: models, judge, world and mechanisms, each built once.

`simenv bench` and `simenv audit` share it. What is checked comes first and what is slow last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from simenv.ctr.models import CTRModel, make_ctr_model
from simenv.encoder import default_encoder
from simenv.errors import InputError
from simenv.llm import LLM, make_llm
from simenv.llm.base import display_name
from simenv.llm.cassette import Cassette, CassetteLLM, Mode
from simenv.market.bidders import Bidder, Budgeted, make_bidder, population
from simenv.market.catalog import load_catalog
from simenv.mechanism import Mechanism, MechanismSpec, make_mechanism
from simenv.objective import Objective
from simenv.background_loop import run_sync
from simenv.records import Ad, Persona
from simenv.files.rows import parse_columns
from simenv.judges.base import Judge
from simenv.judges.factory import make_judge, self_judging
from simenv.users.personas import load_personas
from simenv.quality.factory import make_quality
from simenv.users.queries import FileQueries, FrozenQueries
from simenv.world import World, make_world

if TYPE_CHECKING:
    from simenv.runs.bench import BenchOptions


class Assembled(NamedTuple):
    """Everything that runs."""

    world: World
    mechanisms: dict[str, Mechanism]
    ad_llm: LLM
    llms: tuple[LLM, ...]
    """Every language model once, judges' included; all have passed their preflight."""
    warning: str | None
    """If the model that writes also judges."""
    rebuild: Callable[[str, CTRModel], Mechanism]
    """The mechanism of a label with other predictions of clicks, all else alike."""


def assemble(
    options: BenchOptions, recipes: Mapping[str, MechanismSpec], data: Data, cassette: Cassette | None = None
) -> Assembled:
    """Builds models, mechanisms, judge and world.

    Raises:
        SimenvError: what cannot be built of these options.
    """
    ad_llm = make_ad_llm(options, cassette, options.llm, options.api_base)
    user_llm = _user_llm(options, cassette, ad_llm)
    if user_llm is None and data.queries is None:
        _check_frozen(data.personas, options.horizon)
    objective = Objective()
    for label in recipes:
        population(data.bidder, label)  # refused now, not in the middle of the run

    # Mechanisms are built before judge and world, which load the encoder: what is wrong with one shows at once.
    @cache
    def judge() -> Judge:
        return _make_judge(options, cassette, ad_llm, user_llm)

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

    def rebuild(label: str, other: CTRModel) -> Mechanism:
        recipe = recipes[label]
        options = {name: value for name, value in recipe.options.items() if name != "ctr_model"}
        return recipe._replace(options=options).build({**shared, "ctr_model": other})

    warning = self_judging(judge(), ad_llm)
    return Assembled(world(), mechanisms, ad_llm, tuple(llms.values()), warning, rebuild)


class Data(NamedTuple):
    """What is read from files, by the name under which `make_world` takes it."""

    catalog: tuple[Ad, ...]
    personas: tuple[Persona, ...]
    queries: FileQueries | None
    bidder: Bidder


def read_data(options: BenchOptions) -> Data:
    """Reads the files that the options name."""
    return Data(
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
        return make_ad_llm(options, cassette, options.judge_llm, options.judge_api_base or options.api_base)
    return ad_llm if ad_llm.follows_formats or options.judge == "llm" else None


def _make_judge(options: BenchOptions, cassette: Cassette | None, ad_llm: LLM, user_llm: LLM | None) -> Judge:
    """Who clicks. Models that are there already are asked, not loaded twice."""
    known = {options.llm: ad_llm}
    if user_llm is not None:
        known[options.judge_llm or options.llm] = user_llm

    def find(name: str) -> LLM:
        api_base = options.judge_api_base or options.api_base
        return known[name] if name in known else make_ad_llm(options, cassette, name, api_base)

    ensemble, name = options.judge_ensemble, options.judge
    if name == "auto" and not ensemble:
        name = "click" if user_llm is None else "llm"
    llm = user_llm if name == "llm" else None
    return make_judge(name, llm=llm or "embedded", ensemble=ensemble, samples=options.judge_samples, find_llm=find)


def open_cassette(options: BenchOptions, resume: bool = False) -> Cassette | None:
    """The file of completions that the options name, if they name one."""
    modes: tuple[Mode, ...] = ("record", "replay", "cache")
    given = [(mode, path) for mode in modes if (path := getattr(options, mode)) is not None]
    if len(given) > 1:
        raise InputError(f"give one of --record, --replay and --cache, got {' and '.join(f'--{m}' for m, _ in given)}")
    if not given:
        return None
    mode, path = given[0]
    # A resumed recording goes on where it was: what is in the file is not asked for again.
    return Cassette(path, "cache" if mode == "record" and resume else mode)


def make_ad_llm(options: BenchOptions, cassette: Cassette | None, name: str, api_base: str | None) -> LLM:
    """A model by name, through the cassette if there is one."""
    if cassette is not None and cassette.mode == "replay":
        return CassetteLLM(cassette, name=display_name(name))
    llm = make_llm(name, api_base=api_base, concurrency=options.concurrency, timeout=options.timeout)
    return CassetteLLM(cassette, llm) if cassette is not None else llm


def _with_own_ctr_model(recipe: MechanismSpec, ctr_model: Callable[[str], CTRModel]) -> MechanismSpec:
    """`--set MECHANISM.ctr_model=oracle` gives one mechanism another CTR model than the run's."""
    name = recipe.options.get("ctr_model")
    if not isinstance(name, str):
        return recipe
    return recipe._replace(options={**recipe.options, "ctr_model": ctr_model(name)})
