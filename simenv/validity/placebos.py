"""Placebos: changes that must not matter, measured as mean absolute change in click probability.

A judge that gives no probabilities is run several times with different auction ids, and the share of clicks is used as
the probability. That share is noisy, so its mean absolute change is above 0 even if nothing matters. The placebo
"asked_again" measures this noise: it repeats the same case with another auction id. Compare such a judge's other
placebos with it. A judge whose randomness is keyed by the auction id (the click model, local models) has the same noise
on both sides of every other placebo.

A judge gets the ads in the order of `outcome.placements`. The placebo "order_asked" reverses this order and keeps the
text and all spans: the position of an ad in the text is information, its position in the list of placements is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from simenv.judges.base import HasVariants, Judge
from simenv.records import Record
from simenv.stats import Estimate, mean
from simenv.validity.ask import CachedJudge, Verdict
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
"""Placebo -> what is changed. A judge's `variants` are further placebos."""


class Placebo(Record):
    """Effect of one change that must not matter."""

    scenarios: int
    """Scenarios with at least one pair that was decided on both sides."""
    abstained: int
    """Pairs with an abstention; excluded."""
    change: Estimate
    """Mean absolute change in click probability, t interval over scenarios."""
    largest: float | None
    """Largest change of any scenario."""


class PlaceboPair(NamedTuple):
    """Two cases that must get the same click probability."""

    placebo: str
    scenario: str
    before: Case
    after: Case


def pairs(scenario: Scenario, seed: int = 0) -> list[PlaceboPair]:
    """Returns all placebo pairs of one scenario. If a placebo has several pairs, its effect is their mean."""
    s = scenario
    native = build(s, seed=seed)
    several = build(s, ["native", "second", "extra-0"], seed=seed)
    reversed_order = several._replace(
        outcome=several.outcome.model_copy(update={"placements": several.outcome.placements[::-1]})
    )
    two = ["native", "second"]
    rows: list[tuple[str, Case, Case]] = [
        ("asked_again", native, native.again("asked-again")),
        *(
            ("order_asked", several.about(placement.ad_id), reversed_order.about(placement.ad_id))
            for placement in several.outcome.placements
        ),
        ("text_after", native, build(s, tail=s.after, seed=seed)),
        ("brand", native, build(s.brand_swapped(), seed=seed)),
        *(("ad_id", native, build(s, ids=ids, seed=seed)) for ids in (1, 2)),
        ("bids", build(s, two, bid=1, seed=seed), build(s, two, bid=99, seed=seed)),
        ("bids", build(s, two, bid=1, other_bids=99, seed=seed), build(s, two, bid=99, other_bids=1, seed=seed)),
        ("paraphrase", native, build(s, ["paraphrase"], seed=seed)),
    ]
    return [PlaceboPair(placebo, s.id, before, after) for placebo, before, after in rows]


async def measure(judge: CachedJudge, scenarios: Sequence[Scenario], seed: int = 0) -> dict[str, Placebo]:
    """Returns placebo -> effect. The judge's variants are compared on the native and the irrelevant ad."""
    every = [pair for scenario in scenarios for pair in pairs(scenario, seed)]
    verdicts = await judge.ask([case for pair in every for case in (pair.before, pair.after)], "placebos", repeat=True)
    placebos, of_scenario = [pair.placebo for pair in every], [pair.scenario for pair in every]
    rows = list(zip(placebos, of_scenario, verdicts[::2], verdicts[1::2], strict=True))
    variants: Mapping[str, Judge] = judge.judge.variants if isinstance(judge.judge, HasVariants) else {}
    for name, variant in variants.items():
        cases = [build(s, [wording], seed=seed) for s in scenarios for wording in ("native", "other")]
        names = [s.id for s in scenarios for _ in range(2)]
        before = await judge.ask(cases, "placebos", repeat=True)
        after = await judge.of(variant).ask(cases, "placebos", repeat=True)
        rows += [(name, *row) for row in zip(names, before, after, strict=True)]
    return {placebo: summarize([row[1:] for row in rows if row[0] == placebo]) for placebo in [*PLACEBOS, *variants]}


def summarize(rows: Sequence[tuple[str, Verdict, Verdict]]) -> Placebo:
    """Averages the effect per scenario, then over scenarios."""
    changes: dict[str, list[float]] = {}
    for scenario, before, after in rows:
        if before.prob is not None and after.prob is not None:
            changes.setdefault(scenario, []).append(abs(after.prob - before.prob))
    effects = {scenario: sum(values) / len(values) for scenario, values in changes.items()}
    return Placebo(
        scenarios=len(effects),
        abstained=len(rows) - sum(map(len, changes.values())),
        change=mean(list(effects.values()), list(effects), least=0),
        largest=max(effects.values(), default=None),
    )
