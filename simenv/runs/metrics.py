"""From transitions to numbers with intervals.

Every metric is a ratio of sums over auctions (a mean has 1 below), so one formula serves all: that of `simenv.stats`.
The 95% intervals are clustered by persona: turns of one persona are not independent. A paired difference against a
baseline uses the difference of the influence values on the auctions that both have a value for; an unpaired one, of
mechanisms that met other auctions, has the influence values of both, clustered together, so that a persona whom both
met is one cluster; its G is that of the side that has fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from simenv.errors import InputError
from simenv.records import AdQuality, Quality, Transition
from simenv.stats import Estimate, clustered_interval, clustered_ratio, ratio_and_influence

Measure = Callable[[Transition, bool], tuple[float, float] | None]
"""(transition, expected) -> (above, below), or None where it is unknown."""


class Metric(NamedTuple):
    """What is measured."""

    name: str
    unit: str
    describes: str
    of: Measure
    optional: bool = False
    """Left out of the table where no answer has a value."""


class Cell(NamedTuple):
    """One metric of one mechanism, alone and against the baseline."""

    mechanism: str
    metric: str
    estimate: Estimate
    difference: Estimate | None
    auctions: int
    personas: int


class Table(NamedTuple):
    """All cells of a run. `expected`: money and clicks are expectations over known click probabilities."""

    cells: list[Cell]
    baseline: str
    expected: bool
    unpaired: frozenset[str] = frozenset()
    """Mechanisms whose difference against the baseline is not paired: they met other auctions."""


def _clicks(transition: Transition, expected: bool) -> dict[str, float] | None:
    """Ad id -> click (probability) of every shown ad, or None if any is unknown."""
    chances = [(c.ad_id, c.click_prob if expected else c.clicked) for c in transition.feedback.clicks]
    if any(chance is None for _, chance in chances):
        return None
    return {ad_id: float(chance) for ad_id, chance in chances if chance is not None}


def _revenue(t: Transition, expected: bool) -> tuple[float, float] | None:
    if _clicks(t, expected) is None:
        return None
    payments = t.expected_payments if expected else t.payments
    return (sum(payments.values()), 1.0) if payments is not None else None


def _weighted(weights: Callable[[Transition], Mapping[str, float]]) -> Measure:
    def of(t: Transition, expected: bool) -> tuple[float, float] | None:
        clicks = _clicks(t, expected)
        if clicks is None:
            return None
        weight = weights(t)
        return sum(weight[ad_id] * click for ad_id, click in clicks.items()), 1.0

    return of


def _bids(t: Transition) -> dict[str, float]:
    return {bid.ad.id: bid.amount for bid in t.auction.bids}


def _reward(t: Transition, expected: bool) -> tuple[float, float] | None:
    reward = t.expected_reward if expected else t.reward
    return (reward, 1.0) if reward is not None else None


def _ctr(t: Transition, expected: bool) -> tuple[float, float] | None:
    clicks = _clicks(t, expected)
    return (sum(clicks.values()), float(len(clicks))) if clicks is not None else None


def _count(number: Callable[[Transition], float]) -> Measure:
    return lambda t, expected: (float(number(t)), 1.0)


def _of_quality(number: Callable[[Quality], float | None]) -> Measure:
    def of(t: Transition, expected: bool) -> tuple[float, float] | None:
        value = number(t.feedback.quality) if t.feedback.quality is not None else None
        return (value, 1.0) if value is not None else None

    return of


def _of_ads(number: Callable[[AdQuality], float | None]) -> Measure:
    """Per shown ad; an answer with an ad of which it is unknown is left out."""

    def of(t: Transition, expected: bool) -> tuple[float, float] | None:
        values = [number(ad) for ad in t.feedback.quality.ads] if t.feedback.quality is not None else [None]
        known = [value for value in values if value is not None]
        return (sum(known), float(len(known))) if len(known) == len(values) else None

    return of


def _satisfaction(t: Transition, expected: bool) -> tuple[float, float] | None:
    return (t.feedback.satisfaction, 1.0) if t.feedback.satisfaction is not None else None


METRICS = (
    Metric("revenue", "currency per answer", "payments collected: price x click, plus transfers", _revenue),
    Metric("bid_weighted_clicks", "currency per answer", "sum of bid x click (the paper's revenue)", _weighted(_bids)),
    Metric(
        "reward", "currency per answer", "bid-weighted clicks minus the penalty for extra ads and violations", _reward
    ),
    Metric("welfare", "currency per answer", "sum of private value x click", _weighted(lambda t: t.values)),
    Metric("ctr", "clicks per shown ad", "clicks divided by ads shown", _ctr),
    Metric("ads", "per answer", "clickable ads shown", _count(lambda t: len(t.outcome.placements))),
    Metric("violations", "per answer", "breaches of the insertion rules", _count(lambda t: len(t.outcome.violations))),
    Metric("abstentions", "per answer", "shown ads without a verdict", _count(lambda t: t.abstentions)),
    Metric("llm_calls", "per answer", "completions the mechanism needs", _count(lambda t: t.outcome.usage.calls)),
    Metric(
        "tokens",
        "per answer",
        "prompt and completion tokens the mechanism needs",
        _count(lambda t: t.outcome.usage.prompt_tokens + t.outcome.usage.completion_tokens),
    ),
    Metric("satisfaction", "per answer, 0 to 1", "how well the answer serves the user", _satisfaction, True),
    Metric(
        "quality_loss",
        "per answer, -1 to 1",
        "satisfaction with the ad-free answer minus that with this one",
        _of_quality(lambda q: q.quality_loss),
        True,
    ),
    Metric("kept", "share", "content of the ad-free answer that is still said", _of_quality(lambda q: q.kept), True),
    Metric("ad_text_share", "share", "words that advertise", _of_quality(lambda q: q.ad_text_share), True),
    Metric(
        "factuality",
        "per shown ad, 0 to 1",
        "what is said of an ad is in its copy",
        _of_ads(lambda a: a.factuality),
        True,
    ),
    Metric(
        "surprise", "nats per token, per shown ad", "-log p of the ad's sentence", _of_ads(lambda a: a.surprise), True
    ),
    Metric("disclosure", "per shown ad, 0 to 1", "the ad is said to be one", _of_ads(lambda a: a.disclosure), True),
)


def summarize(transitions: Iterable[Transition], baseline: str | None = None, unpaired: Collection[str] = ()) -> Table:
    """Every metric of every mechanism, with intervals, alone and paired against `baseline` (the first by default).

    The answers of one `index` are answers to one auction. Mechanisms named in `unpaired` did not meet the baseline's
    auctions: their difference is one of two independent samples of auctions.

    Where the judge gave every click probability, money and clicks are expectations over them (less noise, same
    mean); otherwise they are what happened, over the auctions in which it did not abstain.

    Raises:
        InputError: no transitions, an unknown baseline, or two auctions under one index of a mechanism.
    """
    by_mechanism: dict[str, dict[int, Transition]] = {}
    for transition in transitions:
        rows = by_mechanism.setdefault(transition.mechanism, {})
        _refuse_two_auctions(rows.get(transition.index, transition), transition)
        rows[transition.index] = transition
    if not by_mechanism:
        raise InputError("no transitions to summarize")
    baseline = baseline or next(iter(by_mechanism))
    if baseline not in by_mechanism:
        raise InputError(f"unknown baseline {baseline!r}: the run has {', '.join(by_mechanism)}")
    expected = all(t.expected_payments is not None for rows in by_mechanism.values() for t in rows.values())
    cells = []
    for metric in METRICS:
        values = {
            name: {i: pair for i, t in rows.items() if (pair := metric.of(t, expected)) is not None}
            for name, rows in by_mechanism.items()
        }
        if metric.optional and not any(below for pairs in values.values() for _, below in pairs.values()):
            continue
        for name, rows in by_mechanism.items():
            personas = {i: t.persona_id for i, t in rows.items()}
            estimate = _estimate(values[name], personas)
            difference = None
            if name in unpaired:
                theirs = {i: t.persona_id for i, t in by_mechanism[baseline].items()}
                difference = _unpaired_difference((values[name], personas), (values[baseline], theirs))
            elif name != baseline:
                difference = _difference(values[name], values[baseline], personas)
            seen = {personas[i] for i in values[name]}
            cells.append(Cell(name, metric.name, estimate, difference, len(values[name]), len(seen)))
    return Table(cells, baseline, expected, frozenset(unpaired))


def _refuse_two_auctions(one: Transition, other: Transition) -> None:
    auctions = [(t.auction.id, t.auction.query.text) for t in (one, other)]
    if auctions[0] != auctions[1]:
        raise InputError(
            f"{one.mechanism} answers two auctions at index {one.index}: {one.auction.id} and {other.auction.id}",
            hint="summarize one run at a time, or give the transitions of several runs indices of their own",
        )


def _estimate(pairs: Mapping[int, tuple[float, float]], clusters: Mapping[int, str]) -> Estimate:
    indices = sorted(pairs)
    return clustered_ratio([pairs[i] for i in indices], [clusters[i] for i in indices])


def _difference(
    ours: Mapping[int, tuple[float, float]], theirs: Mapping[int, tuple[float, float]], clusters: Mapping[int, str]
) -> Estimate:
    indices = sorted(set(ours) & set(theirs))
    our_ratio, our_influence = ratio_and_influence([ours[i] for i in indices])
    their_ratio, their_influence = ratio_and_influence([theirs[i] for i in indices])
    return clustered_interval(our_ratio - their_ratio, our_influence - their_influence, [clusters[i] for i in indices])


def _unpaired_difference(*sides: tuple[Mapping[int, tuple[float, float]], Mapping[int, str]]) -> Estimate:
    """Ours minus theirs; each side is its pairs and their clusters."""
    (ours, our_influence), (theirs, their_influence) = (ratio_and_influence(list(pairs.values())) for pairs, _ in sides)
    of_side = [[clusters[i] for i in pairs] for pairs, clusters in sides]
    # One side may have all the variance, so that no more than its own clusters tell of it: the smaller number is safe.
    groups = min(len(set(clusters)) for clusters in of_side)
    influence = np.concatenate([our_influence, -their_influence])
    return clustered_interval(ours - theirs, influence, [*of_side[0], *of_side[1]], groups)
