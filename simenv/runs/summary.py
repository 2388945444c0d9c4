"""From transitions to a table: every metric of every mechanism with its interval.

Every metric is a ratio of sums over auctions (a mean has 1 below), so one formula serves all: that of `simenv.stats`.
The 95% intervals are clustered by persona: turns of one persona are not independent. A paired difference against a
baseline uses the difference of the influence values on the auctions that both have a value for. An unpaired difference,
between mechanisms that answered other auctions, uses the influence values of both, clustered together: a persona that
both met is one cluster, and the degrees of freedom are those of the side that has fewer.

Realised clicks are draws: where they are few, they may be alike by chance. So the variance is at least that of
independent draws. In a paired difference an ad that both show is one draw with the difference of its weights, and a
second one, for clicks that differ, if the answers differ.

Where the judge abstained, `simenv.runs.abstention` completes the metrics that sum clicks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from simenv import stats
from simenv.errors import InputError, SimenvError
from simenv.importing import reason
from simenv.records import Transition
from simenv.runs.abstention import Verdicts
from simenv.runs.advertisers import LOSING, UNIT, losing_share
from simenv.runs.metrics import IF_ANY, METRICS, Errors, Metric, Ratio, SumsClicks
from simenv.stats import Estimate, draw_variance

T = TypeVar("T")


class Cell(NamedTuple):
    """One metric of one mechanism, alone and against the baseline."""

    mechanism: str
    metric: str
    unit: str
    estimate: Estimate
    difference: Estimate | None
    auctions: int
    personas: int
    bounds: tuple[float, float] | None = None
    """Smallest and largest value, if the judge abstained: abstained ads are never clicked, or always."""


class Table(NamedTuple):
    """All cells of a run. `expected`: money and clicks are expectations over known click probabilities."""

    cells: list[Cell]
    baseline: str
    expected: bool
    unpaired: frozenset[str] = frozenset()
    """Mechanisms whose difference against the baseline is not paired: they met other auctions."""
    about: tuple[str, ...] = ()
    """What was run: "model scripted", "seed 0" and so on; see `simenv.runs.manifest.about`."""

    def __str__(self) -> str:
        """One line per metric and mechanism: value and interval."""
        rows = [("metric", "mechanism", "value", "95% interval")]
        for cell in self.cells:
            value, low, high = ("-" if math.isnan(number) else f"{number:.4g}" for number in cell.estimate.numbers)
            rows.append((cell.metric, cell.mechanism, value, "-" if low == "-" else f"{low} to {high}"))
        widths = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows)

    def __repr__(self) -> str:
        mechanisms = list(dict.fromkeys(cell.mechanism for cell in self.cells))
        return f"<Table of {len(self.cells)} cells, mechanisms {mechanisms}, baseline {self.baseline!r}>"


def summarize(
    transitions: Iterable[Transition],
    baseline: str | None = None,
    unpaired: Collection[str] = (),
    metrics: Sequence[Metric] = METRICS,
    about: Sequence[str] = (),
) -> Table:
    """Every metric of every mechanism, with intervals, alone and paired against `baseline` (the first by default).

    The answers of one `index` are answers to one auction. Mechanisms named in `unpaired` did not meet the baseline's
    auctions: their difference is one of two independent samples of auctions.

    Where every verdict of the judge has a click probability, money and clicks are expectations over them (less noise,
    same mean); otherwise they are what happened. Other metrics that need clicks have the answers without abstentions.

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
    verdicts = [
        click
        for t in answers
        for click in t.feedback.clicks
        if click.clicked is not None or click.click_prob is not None
    ]
    expected = all(click.click_prob is not None for click in verdicts)
    sides = {name: _Side(rows, expected) for name, rows in by_mechanism.items()}
    cells: list[Cell] = []
    for metric in metrics:
        numbers = {name: side.measure(metric) for name, side in sides.items()}
        known = [pair for of in numbers.values() for pair in of.pairs.values()]
        if metric.optional and not any(above if metric.name in IF_ANY else below for above, below in known):
            continue
        for name, ours in numbers.items():
            difference = None
            if name in unpaired:
                difference = _unpaired_difference(ours, numbers[baseline])
            elif name != baseline:
                difference = _difference(ours, numbers[baseline])
            seen = {ours.side.rows[i].persona_id for i in ours.pairs}
            estimate = _estimate(ours)
            cells.append(
                Cell(name, metric.name, metric.unit, estimate, difference, len(ours.pairs), len(seen), ours.bounds)
            )
        if metric.name == "surplus":
            cells += _losing(sides, baseline)
    return Table(cells, baseline, expected, frozenset(unpaired), tuple(about))


class _Numbers(NamedTuple):
    """One metric of one mechanism."""

    side: _Side
    pairs: dict[int, Ratio]
    """Index of the auction -> numerator and denominator."""
    draws: dict[int, dict[str, float]]
    """Index -> ad id -> weight of its realised click in the numerator; empty unless the metric sums realised clicks."""
    bounds: tuple[float, float] | None


class _Side:
    """The answers of one mechanism.

    Args:
        rows: Index of the auction -> transition.
        expected: Whether clicks are click probabilities, or realised.
    """

    def __init__(self, rows: Mapping[int, Transition], expected: bool) -> None:
        self.rows = rows
        self._expected = expected
        self._verdicts = Verdicts((t for t in rows.values() if t.error is None), expected)
        self.variance = draw_variance(self._verdicts.clicks, int(self._verdicts.known))
        """Of one realised click."""

    def measure(self, metric: Metric) -> _Numbers:
        """A metric of every answer that has a value."""
        pairs: dict[int, Ratio] = {}
        draws: dict[int, dict[str, float]] = {}
        least = most = below = 0.0
        for index, transition in self.rows.items():
            parts = None
            if isinstance(metric, SumsClicks) and transition.error is None:
                parts = _called(metric, metric.parts, transition)
            if parts is None or self._verdicts.complete:
                pair = _measured(metric, transition, self._expected)
            if parts is not None:
                completed = self._verdicts.complete_answer(transition, parts)
                if completed is None:
                    continue
                least, most, below = least + completed.least, most + completed.most, below + parts.below
                if not self._verdicts.complete:
                    pair = completed.pair
                if not self._expected:
                    draws[index] = completed.draws
            if pair is not None:
                pairs[index] = pair
        bounded = isinstance(metric, SumsClicks) and not self._verdicts.complete and below
        return _Numbers(self, pairs, draws, (least / below, most / below) if bounded else None)

    def text(self, index: int) -> str:
        """The answer to one auction."""
        return self.rows[index].outcome.response

    def click(self, index: int, ad_id: str) -> bool | None:
        """The realised click on one ad."""
        return next(c.clicked for c in self.rows[index].feedback.clicks if c.ad_id == ad_id)

    def losing(self, expected: bool) -> float | None:
        """The share of advertisers that lose."""
        return losing_share((t for t in self.rows.values() if t.error is None), expected)


def _losing(sides: Mapping[str, _Side], baseline: str) -> list[Cell]:
    cells = []
    for expected, metric in LOSING.items():
        shares = {name: side.losing(expected) for name, side in sides.items()}
        if all(share is None for share in shares.values()):
            continue
        values = {name: math.nan if share is None else share for name, share in shares.items()}
        for name, side in sides.items():
            difference = Estimate(value=values[name] - values[baseline]) if name != baseline else None
            answers = [t for t in side.rows.values() if t.error is None]
            personas = len({t.persona_id for t in answers})
            cells.append(Cell(name, metric, UNIT, Estimate(value=values[name]), difference, len(answers), personas))
    return cells


def _refuse_two_auctions(one: Transition, other: Transition) -> None:
    auctions = [(t.auction.id, t.auction.query.text) for t in (one, other)]
    if auctions[0] != auctions[1]:
        raise InputError(
            f"{one.mechanism} answers two auctions at index {one.index}: {one.auction.id} and {other.auction.id}",
            hint="summarize one run at a time, or give the transitions of several runs indices of their own",
        )


def _measured(metric: Metric, transition: Transition, expected: bool) -> Ratio | None:
    if transition.error is not None and not isinstance(metric, Errors):
        return None
    pair: object = _called(metric, metric.measure, transition, expected)
    if pair is None:
        return None
    numbers = tuple(pair) if isinstance(pair, tuple | list) else ()
    if len(numbers) != 2 or not all(isinstance(number, int | float | np.number) for number in numbers):
        raise InputError(
            f"metric {metric.name!r} returned {pair!r} on auction {transition.auction.id}, expected a numerator and a "
            "denominator, or None",
            hint="the mean of a number per answer has the denominator 1: return (number, 1.0)",
        )
    return float(numbers[0]), float(numbers[1])


def _called(metric: Metric, method: Callable[..., T], transition: Transition, *arguments: Any) -> T:
    """Calls a metric's own code, which may raise anything."""
    try:
        return method(transition, *arguments)
    except SimenvError:
        raise
    except Exception as error:
        raise InputError(f"metric {metric.name!r} raised {reason(error)} on auction {transition.auction.id}") from error


def _ratio(numbers: _Numbers, indices: Sequence[int]) -> stats.Ratio:
    rows = numbers.side.rows
    return stats.ratio([numbers.pairs[i] for i in indices], [rows[i].persona_id for i in indices])


def _weights(numbers: _Numbers, indices: Sequence[int]) -> dict[tuple[int, str], float]:
    """(index, ad id) -> weight of the ad's realised click in the ratio."""
    total = sum(numbers.pairs[i][1] for i in indices)
    draws = numbers.draws
    return {(i, ad_id): w / total for i in indices if total for ad_id, w in draws.get(i, {}).items()}


def _least_variance(numbers: _Numbers, indices: Sequence[int]) -> float:
    return numbers.side.variance * sum(weight**2 for weight in _weights(numbers, indices).values())


def _estimate(numbers: _Numbers) -> Estimate:
    indices = sorted(numbers.pairs)
    return _ratio(numbers, indices).interval(_least_variance(numbers, indices))


def _difference(ours: _Numbers, theirs: _Numbers) -> Estimate:
    indices = sorted(set(ours.pairs) & set(theirs.pairs))
    difference = _ratio(ours, indices).minus(_ratio(theirs, indices))
    return difference.interval(_least_paired_variance(ours, theirs, indices))


def _least_paired_variance(ours: _Numbers, theirs: _Numbers, indices: Sequence[int]) -> float:
    of_ours, of_theirs = _weights(ours, indices), _weights(theirs, indices)
    both = of_ours.keys() & of_theirs.keys()
    apart = [key for key in both if ours.side.text(key[0]) != theirs.side.text(key[0])]
    differ = sum(ours.side.click(*key) != theirs.side.click(*key) for key in apart)
    variance = ours.side.variance * sum(w**2 for key, w in of_ours.items() if key not in both)
    variance += theirs.side.variance * sum(w**2 for key, w in of_theirs.items() if key not in both)
    variance += ours.side.variance * sum((of_ours[key] - of_theirs[key]) ** 2 for key in both)
    return variance + draw_variance(differ, len(apart)) * sum(of_ours[key] * of_theirs[key] for key in apart)


def _unpaired_difference(ours: _Numbers, theirs: _Numbers) -> Estimate:
    sides = [(numbers, list(numbers.pairs)) for numbers in (ours, theirs)]
    one, other = (_ratio(numbers, indices) for numbers, indices in sides)
    return one.minus(other).interval(sum(_least_variance(numbers, indices) for numbers, indices in sides))
