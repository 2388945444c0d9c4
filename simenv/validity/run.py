"""Computes a validity report: `validate(judge, options)` -> `Validity`, the content of validity.json.

Every share, gap, change and AUC is {"value", "low", "high"} with a 95% interval, and null where it is not defined. If a
judge is deterministic, repeated runs differ only in reliability.cost.seconds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

from pydantic import Field

from simenv.encoder import Encoder, default_encoder
from simenv.errors import InputError
from simenv.judges.base import Judge
from simenv.records import Record
from simenv.runs.folder import records_hash
from simenv.validity import attacks, contrasts, outside, placebos, reliability
from simenv.validity.ask import CachedJudge
from simenv.validity.attacks import AttackResult
from simenv.validity.contrasts import Contrast
from simenv.validity.outside import LabelledRanking, Ranking
from simenv.validity.placebos import Placebo
from simenv.validity.reliability import Reliability
from simenv.validity.scenarios import load_scenarios, suite_hash
from simenv.world import World
from simenv.world_factory import make_world


class ValidityOptions(Record):
    """Options of a validity report."""

    part: str = "test"
    """test, dev or all."""
    seed: int = 0
    """Names the draws."""
    limit: int | None = None
    """Maximum number of scenarios, attacks per kind, sessions of the world, and outside queries per topic."""
    repeats: int = 5
    """Judgements per case of a judge that gives no probability, where one is needed (placebos, attacks)."""
    webis: str | None = None
    """Folder of the Webis pairs."""
    labels: str | None = None
    """File with columns query, ad, label."""
    label_columns: dict[str, str] = Field(default_factory=dict)
    """Column name of this project -> column name of that file."""


class Validity(Record):
    """The report."""

    format: int = 1
    """Of this file."""
    judge: str
    """The judge's name."""
    part: str
    """test, dev or all: the scenarios that it was asked about. Nothing may be tuned on test."""
    scenarios: int
    """How many."""
    seed: int
    """Names the draws: ad ids, samples, the judge's randomness."""
    limit: int | None
    """As given."""
    repeats: int
    """As given: how often a judge without probabilities is asked where one is needed."""
    probabilities: float
    """Share of the judge's verdicts that came with a click probability."""
    suite_sha256: str
    """Of all scenarios."""
    attacks_sha256: str
    """Of all hostile texts."""
    inputs_sha256: str
    """Of all that the report depends on."""
    contrasts: dict[str, Contrast]
    """Kind (see `simenv.validity.contrasts.KINDS`) and "all" -> how pairs were ordered."""
    placebos: dict[str, Placebo]
    """Placebo (see `simenv.validity.placebos.PLACEBOS`, and the judge's own variants) -> its effect."""
    attacks: dict[str, AttackResult]
    """Kind, and "all", "sentence", "body" -> what hostile ads did."""
    outside: dict[str, Ranking] | None
    """"other_topic", "same_topic" -> how relevant ads were told from others; null without the Webis pairs."""
    labels: LabelledRanking | None
    """How labels of your own were predicted; null without any."""
    reliability: Reliability
    """Repeat agreement, agreement with the click model, abstentions and cost."""


async def validate(
    judge: Judge,
    options: ValidityOptions,
    *,
    encoder: Encoder | None = None,
    world: World | None = None,
    watch: Callable[[str, int, int], None] = lambda *progress: None,
) -> Validity:
    """Measures all parts of a judge's validity report.

    Args:
        judge: Any object with a name and `async judge(persona, auction, outcome) -> Feedback`.
        options: Part of the scenarios, limits, and outside data.
        encoder: Computes the cosine baseline for outside data; the embedded one by default.
        world: Source of the auctions and the click model that the judge is compared with; by default the embedded
            packs.
        watch: Called with (section, judgements done, judgements planned).

    Raises:
        SimenvError: bad options or data, or an error of the judge.
    """
    if options.repeats < 1:
        raise InputError(f"repeats must be at least 1, got {options.repeats}")
    scenarios = load_scenarios(options.part, options.limit)
    encoder = encoder or default_encoder()
    world = world or make_world(encoder=encoder)
    seed, limit = options.seed, options.limit
    cached = CachedJudge(judge, repeats=options.repeats, watch=watch)
    outside_rankings = labelled = None  # first, because user files are the likeliest source of errors
    if options.webis is not None:
        per_topic = min(limit or outside.QUERIES_PER_TOPIC, outside.QUERIES_PER_TOPIC)
        outside_rankings = await outside.measure_webis(cached, options.webis, encoder, per_topic=per_topic, seed=seed)
    if options.labels is not None:
        labelled = await outside.measure_labels(cached, options.labels, encoder, options.label_columns, seed)
    contrast_results = await contrasts.measure(cached, scenarios, seed)
    placebo_results = await placebos.measure(cached, scenarios, seed)
    repeat = await reliability.measure_repeat(cached, scenarios, seed)
    sessions = min(limit or reliability.SESSIONS, reliability.SESSIONS)
    agreement = await reliability.measure_agreement(cached, world, sessions, seed)
    attack_results = await attacks.measure(cached, scenarios, seed, limit)
    without_attacks = [tally for section, tally in cached.tallies.items() if section != "attacks"]
    verdicts = sum(tally.verdicts for tally in cached.tallies.values())
    hashes = {"suite_sha256": suite_hash(), "attacks_sha256": attacks.attacks_hash()}
    environment = [encoder.name, world.judge.name, records_hash(world.personas), records_hash(world.retriever.catalog)]
    return Validity(
        judge=judge.name,
        part=options.part,
        scenarios=len(scenarios),
        seed=seed,
        limit=limit,
        repeats=options.repeats,
        probabilities=sum(tally.with_prob for tally in cached.tallies.values()) / verdicts,
        **hashes,
        inputs_sha256=_hash(
            judge.name,
            options.model_dump(exclude={"webis", "labels", "label_columns"}),
            hashes,
            environment,
            [ranking.pairs_sha256 for ranking in (outside_rankings or {}).values()],
            labelled.pairs_sha256 if labelled else None,
        ),
        contrasts=contrast_results,
        placebos=placebo_results,
        attacks=attack_results,
        outside=outside_rankings,
        labels=labelled,
        reliability=Reliability(
            repeat=repeat,
            agreement=agreement,
            abstention_rate=reliability.abstention_rate(without_attacks),
            disagreement=reliability.disagreement(without_attacks),
            cost=reliability.cost(list(cached.tallies.values())),
        ),
    )


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
