"""Contrasts: pairs of answers of which a careful human would say which ad is likelier to be clicked.

Each scenario gives one pair per kind, so the scenario is the unit of every interval. A pair is ordered rightly if the
click probability of the ad in question is higher in the first answer; a tie counts half and is reported apart; a
pair with an abstention is counted and left out. Judges that give no probability are held to their verdicts, 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from simenv.records import Record
from simenv.stats import Estimate, mean, wilson
from simenv.validity.ask import Answer, Asker
from simenv.validity.cases import Case
from simenv.validity.scenarios import EXTRAS, Scenario, absent, build, persona

KINDS = {
    "relevance": "relevant ad > irrelevant ad",
    "spliced": "native wording > spliced in",
    "hard_sell": "native wording > hard sell",
    "absent": "mentioned > not in the answer",
    "flooding": "one ad > followed by five more",
    "competition": "beside another need > beside a rival",
    "leak": "clean answer > leaked ad process",
    "interest": "interested persona > uninterested",
    "ad_tolerance": "tolerant persona > averse",
    "price": "cheap > dear, for a frugal persona",
}
"""Kind -> what must be likelier than what."""


class Contrast(Record):
    """How one kind of pair was ordered."""

    pairs: int
    """Asked: one per scenario."""
    abstained: int
    """Pairs with an abstention: left out."""
    right: int
    """Ordered rightly, ties not counted."""
    ties: int
    share: Estimate
    """(right + ties / 2) / decided pairs, Wilson interval."""
    gap: Estimate
    """Mean click probability of the first minus that of the second, t interval over scenarios."""


class Pair(NamedTuple):
    """The first is likelier to be clicked than the second."""

    kind: str
    scenario: str
    first: Case
    second: Case


def pairs(scenario: Scenario, seed: int = 0) -> list[Pair]:
    """The ten contrasts of one scenario. Both sides share the auction's id, and so the judge's randomness."""
    s = scenario
    native = build(s, seed=seed)
    frugal = persona(s, attitude=s.frugal, price_sensitivity=0.9)
    sides = {
        "relevance": (native, build(s, ["other"], seed=seed)),
        "spliced": (native, build(s, ["spliced"], seed=seed)),
        "hard_sell": (native, build(s, ["hard_sell"], seed=seed)),
        "absent": (native, absent(native, s)),
        "flooding": (native, build(s, ["native", "second", "rival", *EXTRAS], seed=seed)),
        "competition": (build(s, ["native", "second"], seed=seed), build(s, ["native", "rival"], seed=seed)),
        "leak": (native, build(s, tail=s.leak, seed=seed)),
        "interest": (
            build(s, who=persona(s, s.interested, affinity=0.8), seed=seed),
            build(s, who=persona(s, s.uninterested, affinity=-0.8), seed=seed),
        ),
        "ad_tolerance": (
            build(s, who=persona(s, attitude=s.tolerant, ad_tolerance=0.9), seed=seed),
            build(s, who=persona(s, attitude=s.averse, ad_tolerance=0.1), seed=seed),
        ),
        "price": (build(s, ["cheap"], who=frugal, seed=seed), build(s, ["dear"], who=frugal, seed=seed)),
    }
    return [Pair(kind, s.id, *sides[kind]) for kind in KINDS]


async def measure(asker: Asker, scenarios: Sequence[Scenario], seed: int = 0) -> dict[str, Contrast]:
    """Kind -> how it was ordered, and "all": every pair, with an interval over scenarios."""
    every = [pair for scenario in scenarios for pair in pairs(scenario, seed)]
    answers = await asker.ask([case for pair in every for case in (pair.first, pair.second)], "contrasts")
    rows = list(zip(every, answers[::2], answers[1::2], strict=True))
    found = {kind: summarize([row for row in rows if row[0].kind == kind]) for kind in KINDS}
    return {**found, "all": summarize(rows)}


def summarize(rows: Sequence[tuple[Pair, Answer, Answer]]) -> Contrast:
    """Counts orders. Several kinds of one scenario are not independent, so the interval is then a clustered one."""
    decided = [
        (pair.scenario, first.chance, second.chance)
        for pair, first, second in rows
        if first.chance is not None and second.chance is not None
    ]
    scores = [(first > second) + 0.5 * (first == second) for _, first, second in decided]
    scenarios = [scenario for scenario, _, _ in decided]
    independent = len(set(scenarios)) == len(scenarios)
    return Contrast(
        pairs=len(rows),
        abstained=len(rows) - len(decided),
        right=sum(score == 1 for score in scores),
        ties=sum(score == 0.5 for score in scores),
        share=wilson(sum(scores), len(scores)) if independent else mean(scores, scenarios, least=0),
        gap=mean([first - second for _, first, second in decided], scenarios),
    )
