"""Placebos: changes that must not matter, as mean absolute change in click probability.

A judge that gives no probabilities is asked several times under different auction ids, and the share of clicks stands
for the probability. That share is noisy, so its mean absolute change is above 0 even where nothing matters: "asked
again" is the floor against which such a judge's other placebos are to be read. It asks exactly the same under another
auction id. A judge whose randomness is keyed by the auction id (the click model, local models) meets the same noise
on both sides of every other placebo.

The order in which a judge is asked about the ads is that of `outcome.placements`. It is turned round while the text
and every span stay as they are: where an ad stands in the text is information, where it stands in the list of
questions is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from simenv.judges.base import Judge
from simenv.records import Record
from simenv.stats import Estimate, mean
from simenv.validity.ask import Answer, Asker
from simenv.validity.cases import Case
from simenv.validity.scenarios import Scenario, build

PLACEBOS = {
    "asked_again": "nothing: another auction id",
    "order_asked": "order in which the ads are asked about",
    "text_after": "further text after the ad",
    "brand": "brand name swapped",
    "ad_id": "ad ids",
    "bids": "bids and prices: 1 against 99",
    "paraphrase": "ad sentence in other words",
}
"""Placebo -> what is changed. A judge's `variants` add theirs."""


class Placebo(Record):
    """What one change that must not matter does."""

    scenarios: int
    """With at least one pair that was decided on both sides."""
    abstained: int
    """Pairs with an abstention: left out."""
    change: Estimate
    """Mean absolute change in click probability, t interval over scenarios."""
    largest: float | None
    """Largest change of any scenario."""


class Pair(NamedTuple):
    """Two cases that must get the same click probability."""

    placebo: str
    scenario: str
    before: Case
    after: Case


def pairs(scenario: Scenario, seed: int = 0) -> list[Pair]:
    """All placebos of one scenario; where one has several pairs, its effect is their mean."""
    s = scenario
    native = build(s, seed=seed)
    several = build(s, ["native", "second", "extra-0"], seed=seed)
    turned = several._replace(
        outcome=several.outcome.model_copy(update={"placements": several.outcome.placements[::-1]})
    )
    two = ["native", "second"]
    found: list[tuple[str, Case, Case]] = [
        ("asked_again", native, native.again("asked-again")),
        *(
            ("order_asked", several.about(placement.ad_id), turned.about(placement.ad_id))
            for placement in several.outcome.placements
        ),
        ("text_after", native, build(s, tail=s.after, seed=seed)),
        ("brand", native, build(s.brand_swapped(), seed=seed)),
        *(("ad_id", native, build(s, ids=ids, seed=seed)) for ids in (1, 2)),
        ("bids", build(s, two, bid=1, seed=seed), build(s, two, bid=99, seed=seed)),
        ("bids", build(s, two, bid=1, other_bids=99, seed=seed), build(s, two, bid=99, other_bids=1, seed=seed)),
        ("paraphrase", native, build(s, ["paraphrase"], seed=seed)),
    ]
    return [Pair(placebo, s.id, before, after) for placebo, before, after in found]


async def measure(asker: Asker, scenarios: Sequence[Scenario], seed: int = 0) -> dict[str, Placebo]:
    """Placebo -> its effect; the judge's own variants are asked about the native and the irrelevant ad."""
    every = [pair for scenario in scenarios for pair in pairs(scenario, seed)]
    answers = await asker.ask([case for pair in every for case in (pair.before, pair.after)], "placebos", repeat=True)
    rows = list(zip([p.placebo for p in every], [p.scenario for p in every], answers[::2], answers[1::2], strict=True))
    variants: Mapping[str, Judge] = getattr(asker.judge, "variants", {})
    for name, variant in variants.items():
        cases = [build(s, [wording], seed=seed) for s in scenarios for wording in ("native", "other")]
        names = [s.id for s in scenarios for _ in range(2)]
        before = await asker.ask(cases, "placebos", repeat=True)
        after = await asker.of(variant).ask(cases, "placebos", repeat=True)
        rows += [(name, *row) for row in zip(names, before, after, strict=True)]
    return {placebo: summarize([row[1:] for row in rows if row[0] == placebo]) for placebo in [*PLACEBOS, *variants]}


def summarize(rows: Sequence[tuple[str, Answer, Answer]]) -> Placebo:
    """The effect per scenario, then over scenarios."""
    changes: dict[str, list[float]] = {}
    for scenario, before, after in rows:
        if before.chance is not None and after.chance is not None:
            changes.setdefault(scenario, []).append(abs(after.chance - before.chance))
    effects = {scenario: sum(values) / len(values) for scenario, values in changes.items()}
    return Placebo(
        scenarios=len(effects),
        abstained=len(rows) - sum(map(len, changes.values())),
        change=mean(list(effects.values()), list(effects), least=0),
        largest=max(effects.values(), default=None),
    )
