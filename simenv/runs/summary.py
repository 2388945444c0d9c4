"""From transitions to a table: every metric of every mechanism with its interval.

Every metric is a ratio of sums over auctions (a mean has 1 below), so one formula serves all: that of `simenv.stats`.
The 95% intervals are clustered by persona: turns of one persona are not independent. A paired difference against a
baseline uses the difference of the influence values on the auctions that both have a value for. An unpaired difference,
between mechanisms that answered other auctions, uses the influence values of both, clustered together: a persona that
both met is one cluster, and the number of clusters is that of the side that has fewer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from simenv.errors import InputError, SimenvError
from simenv.importing import reason
from simenv.records import Transition
from simenv.runs.metrics import IF_ANY, METRICS, Errors, Metric
from simenv.stats import Estimate, clustered_interval, clustered_ratio, ratio_and_influence


class Cell(NamedTuple):
    """One metric of one mechanism, alone and against the baseline."""

    mechanism: str
    metric: str
    unit: str
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


def summarize(
    transitions: Iterable[Transition],
    baseline: str | None = None,
    unpaired: Collection[str] = (),
    metrics: Sequence[Metric] = METRICS,
) -> Table:
    """Every metric of every mechanism, with intervals, alone and paired against `baseline` (the first by default).

    The answers of one `index` are answers to one auction. Mechanisms named in `unpaired` did not meet the baseline's
    auctions: their difference is one of two independent samples of auctions.

    Where the judge gave every click probability, money and clicks are expectations over them (less noise, same
    mean); otherwise they are what happened, over the auctions in which it did not abstain.

    An answer that failed counts in the metric `errors` alone.

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
    answers = [t for rows in by_mechanism.values() for t in rows.values() if t.error is None]
    expected = all(t.expected_payments is not None for t in answers)
    cells = []
    for metric in metrics:
        values = {
            name: {i: pair for i, t in rows.items() if (pair := _measured(metric, t, expected)) is not None}
            for name, rows in by_mechanism.items()
        }
        known = [pair for pairs in values.values() for pair in pairs.values()]
        if metric.optional and not any(above if metric.name in IF_ANY else below for above, below in known):
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
            cells.append(Cell(name, metric.name, metric.unit, estimate, difference, len(values[name]), len(seen)))
    return Table(cells, baseline, expected, frozenset(unpaired))


def _refuse_two_auctions(one: Transition, other: Transition) -> None:
    auctions = [(t.auction.id, t.auction.query.text) for t in (one, other)]
    if auctions[0] != auctions[1]:
        raise InputError(
            f"{one.mechanism} answers two auctions at index {one.index}: {one.auction.id} and {other.auction.id}",
            hint="summarize one run at a time, or give the transitions of several runs indices of their own",
        )


def _measured(metric: Metric, transition: Transition, expected: bool) -> tuple[float, float] | None:
    """A metric's own code may raise anything."""
    if transition.error is not None and not isinstance(metric, Errors):
        return None
    try:
        pair = metric.measure(transition, expected)
        return None if pair is None else (float(pair[0]), float(pair[1]))
    except SimenvError:
        raise
    except Exception as error:
        raise InputError(f"metric {metric.name!r} raised {reason(error)} on auction {transition.auction.id}") from error


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
