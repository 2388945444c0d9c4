"""Reliability: repeat agreement, agreement with the click model, abstentions and cost of a judge.

Repeat agreement runs the same case with another auction id, which keys the judge's randomness. Agreement with the click
model is measured on auctions of the world: the packs in use, and one random candidate in the neutral answer. It is
agreement, not calibration, because the click model is a reference and not the truth.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simenv.background_loop import gather
from simenv.records import Record, Usage
from simenv.seeding import keyed_rng
from simenv.stats import Bin, Estimate, deciles, mean
from simenv.validity.ask import CachedJudge, Tally
from simenv.validity.cases import Case, plain_case
from simenv.validity.scenarios import Scenario, build
from simenv.world import World

SESSIONS = 20
"""Sessions of the world whose auctions are used."""


class Repeat(Record):
    """Agreement between two runs of the same cases."""

    cases: int
    """Cases that were decided both times."""
    same_verdict: Estimate
    """Share with the same verdict; t interval over scenarios. Below 1 for a judge that draws its clicks."""
    change: Estimate
    """Mean absolute change in click probability (of the verdict, where there is none); t interval over scenarios."""


class Agreement(Record):
    """Click probabilities compared with the click model's known ones."""

    judge: str
    """The click model's name."""
    auctions: int
    """Auctions on which the judge decided."""
    spearman: float | None
    """Rank correlation; null where either side is constant."""
    difference: Estimate
    """Mean absolute difference, t interval over personas."""
    curve: tuple[Bin, ...]
    """By deciles of the click model's probability (x): the judge's mean (y)."""


class Cost(Record):
    """Cost per 1,000 judgements. One judgement is one answer with all its ads."""

    judgements: int
    """Judgements of this report."""
    calls: float
    """Completions."""
    prompt_tokens: float | None
    """Null: the server does not count them."""
    completion_tokens: float | None
    """Null: the server does not count them."""
    cost_usd: float
    """By the provider's list price; 0 for local models and unknown prices."""
    seconds: float
    """Wall-clock time, with the judge's concurrency. The only number that differs between repeated runs."""

    @property
    def tokens(self) -> tuple[float | None, float | None]:
        """Of prompts and of completions."""
        return self.prompt_tokens, self.completion_tokens


class Reliability(Record):
    """Consistency, abstentions and cost of the judge."""

    repeat: Repeat
    agreement: Agreement | None
    """Null if it was not requested."""
    abstention_rate: float | None
    """Abstained verdicts / requested verdicts, without hostile ads."""
    disagreement: float | None
    """Mean absolute difference between the members of an ensemble, without hostile ads; null for other judges."""
    cost: Cost


async def measure_repeat(judge: CachedJudge, scenarios: Sequence[Scenario], seed: int = 0) -> Repeat:
    """Judges the native, the pushy and the irrelevant ad of every scenario twice."""
    wordings = ("native", "hard_sell", "other")
    cases = [build(s, [wording], seed=seed) for s in scenarios for wording in wordings]
    first = await judge.ask(cases, "reliability")
    second = await judge.ask([case.again("asked-again") for case in cases], "reliability")
    names = [s.id for s in scenarios for _ in wordings]
    same, change, clusters = [], [], []
    for name, one, two in zip(names, first, second, strict=True):
        if one.prob is not None and two.prob is not None:
            clusters.append(name)
            same.append(float(one.clicked == two.clicked))
            change.append(abs(one.prob - two.prob))
    return Repeat(
        cases=len(clusters), same_verdict=mean(same, clusters, least=0), change=mean(change, clusters, least=0)
    )


async def measure_agreement(judge: CachedJudge, world: World, sessions: int = SESSIONS, seed: int = 0) -> Agreement:
    """Measures agreement with `world.judge`, which must give click probabilities."""
    cases = await world_cases(world, sessions, seed)
    verdicts = await judge.ask(cases, "reliability")
    replies = await gather(world.judge.judge(*case[:3]) for case in cases)
    rows = [
        (case.persona.id, reply.clicks[0].click_prob, verdict.prob)
        for case, verdict, reply in zip(cases, verdicts, replies, strict=True)
        if verdict.prob is not None and reply.clicks[0].click_prob is not None
    ]
    personas, known, ours = [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    return Agreement(
        judge=world.judge.name,
        auctions=len(rows),
        spearman=_spearman(known, ours),
        difference=mean([abs(a - b) for a, b in zip(known, ours, strict=True)], personas, least=0),
        curve=deciles(known, ours),
    )


async def world_cases(world: World, sessions: int, seed: int) -> list[Case]:
    """Builds one answer per auction of the first sessions: a candidate drawn by key, with its body as its sentence."""
    cases = []
    for number in range(sessions):
        session = await world.session(seed, number)
        for turn in range(len(session.questions)):
            auction = world.auction(session, turn)
            ad = auction.bids[keyed_rng("validity-world", auction.id).integers(len(auction.bids))].ad
            sentence = f"{{link}}: {ad.body}"
            cases.append(
                plain_case(auction.id, auction.query.text, ad, sentence, persona=session.persona, auction=auction)
            )
    return cases


def cost(tallies: Sequence[Tally]) -> Cost:
    """Cost of the report's judgements."""
    judgements = sum(tally.judgements for tally in tallies)
    usage = sum((tally.usage for tally in tallies), start=Usage())
    per = 1000 / judgements
    return Cost(
        judgements=judgements,
        calls=usage.calls * per,
        prompt_tokens=None if usage.prompt_tokens is None else usage.prompt_tokens * per,
        completion_tokens=None if usage.completion_tokens is None else usage.completion_tokens * per,
        cost_usd=usage.cost_usd * per,
        seconds=sum(tally.seconds for tally in tallies) * per,
    )


def abstention_rate(tallies: Sequence[Tally]) -> float | None:
    """Share of verdicts that are abstentions; None without verdicts."""
    verdicts = sum(tally.verdicts for tally in tallies)
    return sum(tally.abstained for tally in tallies) / verdicts if verdicts else None


def disagreement(tallies: Sequence[Tally]) -> float | None:
    """Mean disagreement over the judgements that have one; None if none has."""
    known = [value for tally in tallies for value in tally.disagreements]
    return sum(known) / len(known) if known else None


def _spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    from scipy.stats import spearmanr

    if len(set(a)) < 2 or len(set(b)) < 2:
        return None
    return float(np.asarray(spearmanr(a, b).statistic))
