"""From what was measured of one mechanism to its figures, with intervals clustered by persona."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simenv.auditing.evaluate import AuditCase, AuditedMechanism, BidOutcome, Bools
from simenv.auditing.play import Colluded, Reached, totals
from simenv.auditing.records import Audited, Distorted, Reach
from simenv.auditing.sweep import Curve, Sweep, curve_of, loses, misses_target, um_regret, vm_regret
from simenv.market.values import HIGHEST
from simenv.stats import Estimate, clustered_ratio


class Swept(NamedTuple):
    """One mechanism in one auction."""

    truth: BidOutcome
    """At truthful bids."""
    sweeps: list[Sweep]


class Measured(NamedTuple):
    """One mechanism in all auctions; the lists are as long as their part of the audit came."""

    subject: AuditedMechanism
    swept: list[Swept]
    collusion: list[Colluded | None]
    wrong_ctr: list[dict[str, Swept]]
    """Kind of distortion -> what came of it."""
    play: list[dict[str, list[Reached]]]
    """Kind of play -> one for each seed."""
    calls: int


class _Figures:
    """Ratios of sums over auctions."""

    def __init__(self, cases: Sequence[AuditCase], best: Sequence[float]) -> None:
        self.cases = cases
        self.best = best
        self.people = [case.persona.id for case in cases]

    def ratio(self, pairs: Iterable[tuple[float, float]]) -> Estimate:
        """One pair an auction."""
        return interval(list(pairs), self.people)

    def regret(self, rows: Sequence[Swept], of: Callable[..., float], *, own: bool) -> Estimate:
        """Regret of those whose bids were swept, over the value of their truthful clicks."""
        return self.ratio(_sum((of(s, own=own), s.truthful_value(own=own)) for s in row.sweeps) for row in rows)

    def money(self, rows: Sequence[Swept]) -> tuple[Estimate, Estimate, Estimate]:
        """Revenue, welfare and efficiency of truthful bids."""
        made = [totals(case, row.truth) for case, row in zip(self.cases, rows, strict=False)]
        return (
            self.ratio((revenue, 1.0) for revenue, _ in made),
            self.ratio((welfare, 1.0) for _, welfare in made),
            self.ratio((welfare, best) for (_, welfare), best in zip(made, self.best, strict=False)),
        )

    def losers(self, rows: Sequence[Swept], *, own: bool) -> Estimate:
        """Share of those who take part that lose by it."""
        return self.ratio(_losers(case, row.truth, own) for case, row in zip(self.cases, rows, strict=False))

    def reach(self, rows: Sequence[Sequence[Reached]]) -> Reach:
        """Seeds of one auction are of one persona, so they are one cluster."""
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


def audited(made: Measured, cases: Sequence[AuditCase], best: Sequence[float]) -> Audited:
    """All figures of one mechanism.

    Args:
        made: What was measured.
        cases: The auctions, in order.
        best: The most welfare that is known of each.
    """
    figures, rows, mechanism = _Figures(cases, best), made.swept, made.subject.mechanism
    own, world = ([[curve_of(s, own=o) for s in row.sweeps] for row in rows] for o in (True, False))
    flat = [s for row in rows for s in row.sweeps]
    revenue, welfare, efficiency = figures.money(rows)
    colluded = [c for c in made.collusion if c is not None]
    paired = [who for who, c in zip(figures.people, made.collusion, strict=False) if c is not None]
    return Audited(
        claims=tuple(sorted(str(claim) for claim in getattr(mechanism, "claims", ()))),
        measured="sampled" if made.subject.replicas else "exact",
        replicas=made.subject.replicas,
        own_ctr_model=getattr(mechanism, "ctr_model", None) is not None,
        sweeps=len(flat),
        regret_um_own=figures.regret(rows, um_regret, own=True),
        regret_um_world=figures.regret(rows, um_regret, own=False),
        regret_vm_own=figures.regret(rows, vm_regret, own=True),
        regret_vm_world=figures.regret(rows, vm_regret, own=False),
        largest_regret_um_own=max((um_regret(s, own=True) for s in flat), default=0.0),
        roi_violations=figures.ratio(_sum((float(misses_target(s)), 1.0) for s in row.sweeps) for row in rows),
        ir_violations=figures.losers(rows, own=True),
        ir_violations_world=figures.losers(rows, own=False),
        ir_violations_ex_post=figures.ratio(_overcharged(row.truth) for row in rows),
        monotonicity_violations=figures.ratio(map(_falls, own)),
        monotonicity_violations_world=figures.ratio(map(_falls, world)),
        largest_fall=_most(own, lambda c: c.largest_fall),
        largest_fall_world=_most(world, lambda c: c.largest_fall),
        largest_jump=_most(own, lambda c: c.largest_jump),
        largest_jump_world=_most(world, lambda c: c.largest_jump),
        slope=figures.ratio(map(_rise, own)),
        slope_world=figures.ratio(map(_rise, world)),
        curve=_mean_curve(own),
        curve_world=_mean_curve(world),
        revenue=revenue,
        welfare=welfare,
        efficiency=efficiency,
        collusion_own=interval([(c.own_gain, c.own_value) for c in colluded], paired),
        collusion_world=interval([(c.gain, c.value) for c in colluded], paired),
        play={kind: figures.reach([row[kind] for row in made.play]) for kind in (made.play[0] if made.play else ())},
        wrong_ctr=_wrong_ctr(figures, made.wrong_ctr),
        llm_calls=made.calls,
    )


def _wrong_ctr(figures: _Figures, rows: Sequence[Mapping[str, Swept]]) -> dict[str, Distorted]:
    found = {}
    for kind in rows[0] if rows else ():
        some = [row[kind] for row in rows]
        revenue, welfare, _ = figures.money(some)
        regret = figures.regret(some, um_regret, own=False)
        found[kind] = Distorted(revenue=revenue, welfare=welfare, regret_um_world=regret)
    return found


def interval(pairs: Sequence[tuple[float, float]], people: Sequence[str]) -> Estimate:
    """sum of above / sum of below, clustered by persona; pairs that are not known (nan) are left out."""
    known = [
        (pair, person)
        for pair, person in zip(pairs, people, strict=False)
        if math.isfinite(pair[0]) and math.isfinite(pair[1])
    ]
    if not known or not sum(below for (_, below), _ in known) > 0:
        return Estimate()
    return clustered_ratio([pair for pair, _ in known], [person for _, person in known])


Curves = Sequence[Sequence[Curve]]
"""By auction, then by swept advertiser."""


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
