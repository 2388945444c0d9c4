"""Builds a world from names and defaults."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from simenv.conversions import Conversions
from simenv.encoder import Encoder, default_encoder
from simenv.judges.base import Judge
from simenv.judges.factory import make_judge, pick_user_llm
from simenv.llm import make_llm
from simenv.llm.base import LLM
from simenv.market.bidders import Bidder, make_bidder
from simenv.market.catalog import load_catalog
from simenv.market.units import CLICKS_PER_VIEW
from simenv.market.values import ValueDistribution, make_values
from simenv.mechanism import Mechanism
from simenv.objective import Objective
from simenv.quality.embedded import QualityMeasure
from simenv.quality.factory import make_quality
from simenv.records import Ad, Persona
from simenv.users.personas import load_personas
from simenv.users.queries import FileQueries, FrozenQueries, LLMQueries, QuerySource
from simenv.world import World


def make_world(
    *,
    catalog: str | Sequence[Ad] = "everyday",
    personas: str | Sequence[Persona] = "everyday",
    queries: str | QuerySource | None = None,
    judge: str | Judge = "auto",
    user_llm: str | LLM | None = None,
    encoder: Encoder | None = None,
    bidder: str | Bidder = "truthful",
    values: str | ValueDistribution = "uniform",
    objective: Objective | None = None,
    candidates: int = 8,
    max_ads: int = 2,
    reserve: float = 0.0,
    horizon: int = 5,
    quality: str | QualityMeasure | None = None,
    ad_free: Mechanism | None = None,
    answer_timeout: float | None = None,
    strict: bool = False,
    conversions: float | Conversions | None = None,
    turns: str = "auto",
    view_bids: float = 0.0,
    clicks_per_view: float = CLICKS_PER_VIEW,
) -> World:
    """Builds a world from names and defaults. Names are those of the command line.

    Args:
        catalog, personas: A pack's name, a file, or the records themselves.
        queries: A pack's name, a file, or a source. By default the User-LLM writes them; without a User-LLM, the frozen
            queries of the personas are used.
        judge: A judge or its name, see `make_judge`: "auto" is an LLM judge if there is a User-LLM, else the click
            model.
        user_llm: A language model or its name: it writes the queries, judges, and grades if `quality` is "llm".
        encoder: Text encoder; the embedded MiniLM by default.
        bidder, values: A bidder and a value distribution, or their names.
        quality: A measure, or its name, see `make_quality`; None: quality is not measured.
        objective, candidates, max_ads, reserve, horizon, ad_free, answer_timeout, strict: See `World`.
        turns, view_bids, clicks_per_view: See `World`.
        conversions: The stage after the click, or its base rate; None: there is none.

    Raises:
        InputError: see `load_catalog`, `load_personas`, `make_judge`, `make_bidder`, `make_quality` and `World`.
        MissingWeights: the default encoder is needed and not installed.
    """
    if isinstance(bidder, str):
        bidder = make_bidder(bidder)
    if isinstance(values, str):
        values = make_values(values)
    if isinstance(queries, str):
        queries = FileQueries(queries)
    if isinstance(conversions, int | float):
        conversions = Conversions(conversions)
    if isinstance(user_llm, str):
        user_llm = make_llm(user_llm)
    if isinstance(catalog, str):
        catalog = load_catalog(catalog)
    if isinstance(personas, str):
        personas = load_personas(personas)
    encoder = encoder or default_encoder()
    writer = pick_user_llm(judge, user_llm, None) if isinstance(judge, str) else user_llm
    if isinstance(judge, str):
        judge = make_judge(judge, llm=user_llm, encoder=encoder)
    if isinstance(quality, str):
        quality = make_quality(quality, encoder, llm=user_llm, user_llm=user_llm)
    return World(
        catalog=catalog,
        personas=personas,
        encoder=encoder,
        queries=queries or (LLMQueries(writer) if writer else FrozenQueries()),
        judge=judge,
        bidder=bidder,
        values=values,
        objective=objective,
        candidates=candidates,
        max_ads=max_ads,
        reserve=reserve,
        horizon=horizon,
        quality=quality,
        ad_free=ad_free,
        answer_timeout=answer_timeout,
        strict=strict,
        conversions=conversions,
        turns=turns,
        view_bids=view_bids,
        clicks_per_view=clicks_per_view,
    )


WORLD_OPTIONS = tuple(inspect.signature(make_world).parameters)
"""Names of the options of `make_world`, which the environment also accepts."""
