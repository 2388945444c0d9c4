"""A validity report: `validate(judge, options)` -> `Validity`, which is validity.json.

Every share, gap, change and AUC is {"value", "low", "high"}, a 95% interval, null where it cannot be told. Only
reliability.cost.seconds differs in a repeated run of a judge that repeats itself.
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
from simenv.validity.ask import Asker
from simenv.validity.attacks import Attacked
from simenv.validity.contrasts import Contrast
from simenv.validity.outside import Labelled, Ranking
from simenv.validity.placebos import Placebo
from simenv.validity.reliability import Reliability
from simenv.validity.scenarios import load_scenarios, suite_hash
from simenv.world import World, make_world


class ValidityOptions(Record):
    """What names a report, beside its judge."""

    part: str = "test"
    """test, dev or all."""
    seed: int = 0
    """Names the draws."""
    limit: int | None = None
    """Most scenarios, attacks per kind, sessions of the world and outside queries per topic; for a quick look."""
    repeats: int = 5
    """How often a judge that gives no probability is asked where one is needed (placebos, attacks)."""
    webis: str | None = None
    """Folder of the Webis pairs."""
    labels: str | None = None
    """File with columns query, ad, label."""
    label_columns: dict[str, str] = Field(default_factory=dict)
    """Our column name -> that file's."""


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
    attacks: dict[str, Attacked]
    """Kind, and "all", "sentence", "body" -> what hostile ads did."""
    outside: dict[str, Ranking] | None
    """"other_topic", "same_topic" -> how relevant ads were told from others; null without the Webis pairs."""
    labels: Labelled | None
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
    """Asks a judge everything.

    Args:
        judge: Anything with `async judge(persona, auction, outcome) -> Feedback` and a name.
        options: Which part, how much, and the outside data.
        encoder: For the cosine that outside data is compared with; the embedded one by default.
        world: Whose auctions and click model the judge is compared with; the embedded packs by default.
        watch: Called with (section, judgements done, judgements planned).

    Raises:
        SimenvError: bad options or data; whatever the judge raised.
    """
    if options.repeats < 1:
        raise InputError(f"repeats must be at least 1, got {options.repeats}")
    scenarios = load_scenarios(options.part, options.limit)
    encoder = encoder or default_encoder()
    world = world or make_world(encoder=encoder)
    seed, limit = options.seed, options.limit
    asker = Asker(judge, repeats=options.repeats, watch=watch)
    found_outside = found_labels = None  # first, because files of the user's are likeliest to be wrong
    if options.webis is not None:
        per_topic = min(limit or outside.QUERIES_PER_TOPIC, outside.QUERIES_PER_TOPIC)
        found_outside = await outside.measure_webis(asker, options.webis, encoder, per_topic=per_topic, seed=seed)
    if options.labels is not None:
        found_labels = await outside.measure_labels(asker, options.labels, encoder, options.label_columns, seed)
    found_contrasts = await contrasts.measure(asker, scenarios, seed)
    found_placebos = await placebos.measure(asker, scenarios, seed)
    repeat = await reliability.measure_repeat(asker, scenarios, seed)
    sessions = min(limit or reliability.SESSIONS, reliability.SESSIONS)
    agreement = await reliability.measure_agreement(asker, world, sessions, seed)
    found_attacks = await attacks.measure(asker, scenarios, seed, limit)
    friendly = [tally for section, tally in asker.tallies.items() if section != "attacks"]
    verdicts = sum(tally.verdicts for tally in asker.tallies.values())
    hashes = {"suite_sha256": suite_hash(), "attacks_sha256": attacks.attacks_hash()}
    around = [encoder.name, world.judge.name, records_hash(world.personas), records_hash(world.retriever.catalog)]
    return Validity(
        judge=judge.name,
        part=options.part,
        scenarios=len(scenarios),
        seed=seed,
        limit=limit,
        repeats=options.repeats,
        probabilities=sum(tally.known for tally in asker.tallies.values()) / verdicts,
        **hashes,
        inputs_sha256=_hash(
            judge.name,
            options.model_dump(exclude={"webis", "labels", "label_columns"}),
            hashes,
            around,
            [ranking.pairs_sha256 for ranking in (found_outside or {}).values()],
            found_labels.pairs_sha256 if found_labels else None,
        ),
        contrasts=found_contrasts,
        placebos=found_placebos,
        attacks=found_attacks,
        outside=found_outside,
        labels=found_labels,
        reliability=Reliability(
            repeat=repeat,
            agreement=agreement,
            abstention_rate=reliability.abstention_rate(friendly),
            disagreement=reliability.disagreement(friendly),
            cost=reliability.cost(list(asker.tallies.values())),
        ),
    )


def _hash(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
