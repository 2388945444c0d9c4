"""Computes the figures of the report from the measurements, with intervals clustered by persona."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simenv.auditing import verdicts
from simenv.auditing.evaluate import AuditCase, AuditedMechanism, BidOutcome, Bools
from simenv.auditing.play import Colluded, Reached, totals
from simenv.auditing.records import Audited, Distorted, Reach, Verdict
from simenv.auditing.sweep import FALL_BY_NOISE, Curve, Sweep, curve_of, loses, misses_target, um_regret, vm_regret
from simenv.check.draws import LotteryTest
from simenv.ctr.models import own_ctr_model
from simenv.market.values import HIGHEST
from simenv.mechanism import Claim, Claiming, Lottery, Mechanism
from simenv.records import Auction, Outcome
from simenv.stats import Estimate, clustered_ratio


class Swept(NamedTuple):
    """Measurements of one mechanism in one auction."""

    truth: BidOutcome
    """Outcome of truthful bids."""
    sweeps: list[Sweep]


class Draws(NamedTuple):
    """Draws of a mechanism on one auction."""

    auction: Auction
    lottery: Lottery
    outcomes: list[Outcome]


class Measured(NamedTuple):
    """Measurements of one mechanism. Each list has one entry per auction that its part of the audit finished."""

    subject: AuditedMechanism
    swept: list[Swept]
    collusion: list[Colluded | None]
    wrong_ctr: list[dict[str, Swept]]
    """Kind of distortion -> measurements."""
    play: list[dict[str, list[Reached]]]
    """Kind of play -> one result per seed."""
    draws: list[Draws]
    """Draws of `run` and the lottery they belong to; empty if the mechanism has none."""
    calls: int


class _Figures:
    """Ratios of sums over auctions."""

    def __init__(self, cases: Sequence[AuditCase], best: Sequence[float]) -> None:
        self.cases = cases
        self.best = best
        self.people = [case.persona.id for case in cases]

    def ratio(self, pairs: Iterable[tuple[float, float]]) -> Estimate:
        """Returns the ratio of one pair per auction."""
        return interval(list(pairs), self.people)

    def regret(self, rows: Sequence[Swept], of: Callable[..., float], *, own: bool) -> Estimate:
        """Returns the regret of the advertisers whose bid was varied, over the value of their truthful clicks."""
        return self.ratio(_sum((of(s, own=own), s.truthful_value(own=own)) for s in row.sweeps) for row in rows)

    def money(self, rows: Sequence[Swept]) -> tuple[Estimate, Estimate, Estimate]:
        """Returns revenue, welfare and efficiency of truthful bids."""
        money = [totals(case, row.truth) for case, row in zip(self.cases, rows, strict=False)]
        return (
            self.ratio((revenue, 1.0) for revenue, _ in money),
            self.ratio((welfare, 1.0) for _, welfare in money),
            self.ratio((welfare, best) for (_, welfare), best in zip(money, self.best, strict=False)),
        )

    def losers(self, rows: Sequence[Swept], *, own: bool) -> Estimate:
        """Returns the share of participating advertisers that lose."""
        return self.ratio(_losers(case, row.truth, own) for case, row in zip(self.cases, rows, strict=False))

    def reach(self, rows: Sequence[Sequence[Reached]]) -> Reach:
        """Averages the results of play. All seeds of an auction belong to one cluster, its persona."""
        flat = [
            (reached, best, who)
            for row, best, who in zip(rows, self.best, self.people, strict=False)
            for reached in row
        ]
        people = [who for *_, who in flat]

        def mean(of: Callable[[Reached], float]) -> Estimate:
            return interval([(of(reached), 1.0) for reached, *_ in flat], people)

        return Reach(
            revenue=mean(lambda r: r.revenue),
            welfare=mean(lambda r: r.welfare),
            efficiency=interval([(r.welfare, best) for r, best, _ in flat], people),
            bid_share=mean(lambda r: r.bid_share),
            spent=mean(lambda r: r.spent),
            strategy=tuple(np.mean([reached.strategy for reached, *_ in flat], axis=0).tolist()),
        )


def audited(measured: Measured, cases: Sequence[AuditCase], best: Sequence[float]) -> Audited:
    """Computes all figures of one mechanism.

    Args:
        measured: The measurements.
        cases: The auctions, in order.
        best: The highest known welfare of each auction.
    """
    figures, rows, subject = _Figures(cases, best), measured.swept, measured.subject
    own, world = ([[curve_of(s, own=o) for s in row.sweeps] for row in rows] for o in (True, False))
    own_per_click, world_per_click = (_per_click(rows, curves) for curves in (own, world))
    flat = [s for row in rows for s in row.sweeps]
    revenue, welfare, efficiency = figures.money(rows)
    um, vm = (figures.regret(rows, of, own=True) for of in (um_regret, vm_regret))
    colluded = [c for c in measured.collusion if c is not None]
    paired = [who for who, c in zip(figures.people, measured.collusion, strict=False) if c is not None]
    return Audited(
        claims=_claims(subject.mechanism),
        verdicts=_verdicts(measured, cases, um, vm),
        measured="sampled" if subject.replicas else "exact",
        replicas=subject.replicas,
        own_ctr_model=own_ctr_model(subject.mechanism) is not None,
        sweeps=len(flat),
        regret_um_own=um,
        regret_um_world=figures.regret(rows, um_regret, own=False),
        regret_vm_own=vm,
        regret_vm_world=figures.regret(rows, vm_regret, own=False),
        largest_regret_um_own=max((um_regret(s, own=True) for s in flat), default=0.0),
        roi_violations=figures.ratio(_sum((float(misses_target(s)), 1.0) for s in row.sweeps) for row in rows),
        ir_violations=figures.losers(rows, own=True),
        ir_violations_world=figures.losers(rows, own=False),
        ir_violations_ex_post=figures.ratio(_overcharged(row.truth) for row in rows),
        monotonicity_violations=figures.ratio(map(_falls, own)),
        monotonicity_violations_world=figures.ratio(map(_falls, world)),
        largest_fall=_most(own_per_click, lambda c: c.largest_fall),
        largest_fall_world=_most(world_per_click, lambda c: c.largest_fall),
        largest_jump=_most(own_per_click, lambda c: c.largest_jump),
        largest_jump_world=_most(world_per_click, lambda c: c.largest_jump),
        slope=figures.ratio(map(_rise, own_per_click)),
        slope_world=figures.ratio(map(_rise, world_per_click)),
        curve=_mean_curve(own_per_click),
        curve_world=_mean_curve(world_per_click),
        revenue=revenue,
        welfare=welfare,
        efficiency=efficiency,
        collusion_own=interval([(c.own_gain, c.own_value) for c in colluded], paired),
        collusion_world=interval([(c.gain, c.value) for c in colluded], paired),
        play={kind: figures.reach([row[kind] for row in measured.play]) for kind in _kinds(measured.play)},
        wrong_ctr=_wrong_ctr(figures, measured.wrong_ctr),
        llm_calls=measured.calls,
    )


def _claims(mechanism: Mechanism) -> tuple[str, ...]:
    return tuple(sorted(str(claim) for claim in mechanism.claims)) if isinstance(mechanism, Claiming) else ()


def _verdicts(measured: Measured, cases: Sequence[AuditCase], um: Estimate, vm: Estimate) -> dict[str, Verdict]:
    """Verdicts on the mechanism's claims, and on its lottery."""
    subject, rows = measured.subject, measured.swept
    sweeps = [sweep for row in rows for sweep in row.sweeps]
    exact = not subject.replicas
    losing = _sum(_losers(case, row.truth, True) for case, row in zip(cases, rows, strict=False))
    charged = _sum(_overcharged(row.truth) for row in rows)
    curves = [curve_of(sweep, own=True) for sweep in sweeps]
    noise = 0.0 if exact else FALL_BY_NOISE
    found = {
        Claim.INDIVIDUALLY_RATIONAL: verdicts.share(charged, "advertisers that a draw charges beyond their value"),
        Claim.MONOTONE: verdicts.share(verdicts.falls(sweeps), "steps of the bid at which clicks fall"),
        Claim.TRUTHFUL_UM: verdicts.truthfulness(Claim.TRUTHFUL_UM, sweeps, um, exact=True),
        Claim.RATIONAL_IN_EXPECTATION: verdicts.share(losing, "advertisers that lose", noise),
        Claim.MONOTONE_IN_EXPECTATION: verdicts.share(
            verdicts.falls(sweeps) if exact else _falls(curves), "steps of the bid at which clicks fall", noise
        ),
        Claim.TRUTHFUL_UM_IN_EXPECTATION: verdicts.truthfulness(
            Claim.TRUTHFUL_UM_IN_EXPECTATION, sweeps, um, exact=exact
        ),
        Claim.TRUTHFUL_VM: verdicts.truthfulness(Claim.TRUTHFUL_VM, sweeps, vm, exact=exact),
        Claim.BID_FREE_CANDIDATES: Verdict(verdict="not measured", why="audits do not compare prompts, check does"),
    }
    chosen = {claim: found[Claim(claim)] for claim in _claims(subject.mechanism)}
    if measured.draws:
        chosen = {claim: verdicts.in_expectation(Claim(claim), verdict) for claim, verdict in chosen.items()}
        test = LotteryTest()
        for draws in measured.draws:
            test.add(*draws)
        chosen["lottery"] = verdicts.lottery(test)
    return chosen


def _kinds(rows: Sequence[Mapping[str, object]]) -> tuple[str, ...]:
    return tuple(rows[0]) if rows else ()


def _wrong_ctr(figures: _Figures, rows: Sequence[Mapping[str, Swept]]) -> dict[str, Distorted]:
    distorted = {}
    for kind in _kinds(rows):
        some = [row[kind] for row in rows]
        revenue, welfare, _ = figures.money(some)
        regret = figures.regret(some, um_regret, own=False)
        distorted[kind] = Distorted(revenue=revenue, welfare=welfare, regret_um_world=regret)
    return distorted


def interval(pairs: Sequence[tuple[float, float]], people: Sequence[str]) -> Estimate:
    """Returns sum of above / sum of below, clustered by persona. Pairs with nan are left out."""
    known = [
        (pair, person)
        for pair, person in zip(pairs, people, strict=False)
        if math.isfinite(pair[0]) and math.isfinite(pair[1])
    ]
    if not known or not sum(below for (_, below), _ in known) > 0:
        return Estimate()
    return clustered_ratio([pair for pair, _ in known], [person for _, person in known])


Curves = Sequence[Sequence[Curve]]
"""Allocation curves by auction, then by advertiser whose bid was varied."""


def _per_click(rows: Sequence[Swept], curves: Curves) -> Curves:
    """The curves of advertisers who bid per click: those per view have other units on both axes."""
    return [
        [curve for sweep, curve in zip(row.sweeps, some, strict=True) if sweep.unit == "click"]
        for row, some in zip(rows, curves, strict=True)
    ]


def _falls(curves: Sequence[Curve]) -> tuple[float, float]:
    return _sum((float(c.falls), float(len(c.clicks) - 1)) for c in curves)


def _rise(curves: Sequence[Curve]) -> tuple[float, float]:
    return _sum((float(c.clicks[-1] - c.clicks[0]) / HIGHEST, 1.0) for c in curves)


def _most(curves: Curves, of: Callable[[Curve], float]) -> float:
    return max((of(c) for some in curves for c in some), default=0.0)


def _mean_curve(curves: Curves) -> tuple[float, ...]:
    lines: list[Any] = [c.clicks for some in curves for c in some if np.isfinite(c.clicks).all()]
    return tuple(np.mean(lines, axis=0).tolist()) if lines else ()


def _sum(pairs: Iterable[tuple[float, float]]) -> tuple[float, float]:
    above, below = 0.0, 0.0
    for one, other in pairs:
        above, below = above + one, below + other
    return above, below


def _takes_part(played: BidOutcome) -> Bools:
    return np.asarray((played.own_clicks.mean(0) > 0) | (played.own_payments.mean(0) != 0))


def _overcharged(played: BidOutcome) -> tuple[float, float]:
    return float((played.overcharged.max(0) > 0).sum()), float(_takes_part(played).sum())


def _losers(case: AuditCase, played: BidOutcome, own: bool) -> tuple[float, float]:
    clicks, payments = (played.own_clicks, played.own_payments) if own else (played.clicks, played.payments)
    utilities = case.values * clicks - payments
    if not np.isfinite(utilities).all():
        return math.nan, math.nan
    taking_part = _takes_part(played)
    return float((loses(utilities, case.values) & taking_part).sum()), float(taking_part.sum())
