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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from simenv.errors import InputError
from simenv.records import Transition
from simenv.runs.advertisers import LOSING, UNIT
from simenv.runs.measured import Measured, Pairing
from simenv.runs.metric_types import Metric, SumsClicks
from simenv.runs.metrics import IF_ANY, METRICS
from simenv.runs.tally import Side, Tally, tally
from simenv.stats import Estimate

_KNOW_NO_CLICKS = tuple(metric for metric in METRICS if not isinstance(metric, SumsClicks))
"""Metrics that no abstention touches. Of a user's metric nothing is known."""


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
    difference_bounds: tuple[float, float] | None = None
    """Smallest and largest difference, if the judge abstained on either side and both answered the same auctions."""
    abstained: float | None = None
    """Share of the mechanism's shown ads without a verdict, where the judge abstained in the table and the metric may
    depend on clicks."""
    overlap: float | None = None
    """Share of its shown ads that are like one with a verdict (see `simenv.runs.abstention`), where `abstained` is."""
    floor: float | None = None
    """How far the difference moves when the judge judges the same answers again; see `simenv.runs.noise_floor`."""

    @property
    def tied(self) -> str | None:
        """Why the mechanism and the baseline are tied: "interval", "noise floor", or "interval and noise floor"; "" if
        they are not; None without a difference that has an interval."""
        if self.difference is None or math.isnan(self.difference.low):
            return None
        value, low, high = self.difference.numbers
        inside = {
            "interval": low <= 0 <= high,
            "noise floor": self.floor is not None and self.floor > 0 and abs(value) <= self.floor,
        }
        return " and ".join(why for why, is_inside in inside.items() if is_inside)


class Table(NamedTuple):
    """All cells of a run. `expected`: money and clicks are expectations over known click probabilities."""

    cells: list[Cell]
    baseline: str
    expected: bool
    unpaired: frozenset[str] = frozenset()
    """Mechanisms whose difference against the baseline is not paired: they met other auctions."""
    about: tuple[str, ...] = ()
    """What was run: "model scripted", "seed 0" and so on; see `simenv.runs.manifest.about`."""
    ties: str | None = None
    """What is known of the judge's noise floor, one sentence, where ties are marked; None: they are not."""

    @property
    def abstained(self) -> bool:
        """Whether the judge abstained."""
        return any(cell.abstained for cell in self.cells)

    def __str__(self) -> str:
        """One line per metric and mechanism: value and interval."""
        rows = [("metric", "mechanism", "value", "95% interval", *(["abstained"] if self.abstained else []))]
        for cell in self.cells:
            value, low, high = ("-" if math.isnan(number) else f"{number:.4g}" for number in cell.estimate.numbers)
            abstained = [] if not self.abstained else ["" if cell.abstained is None else f"{cell.abstained:.1%}"]
            rows.append((cell.metric, cell.mechanism, value, "-" if low == "-" else f"{low} to {high}", *abstained))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
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
    with tally(lambda: (t for rows in by_mechanism.values() for t in rows.values()), metrics) as found:
        return table_of(found, metrics, baseline, unpaired, about)


def table_of(
    found: Tally,
    metrics: Sequence[Metric],
    baseline: str | None = None,
    unpaired: Collection[str] = (),
    about: Sequence[str] = (),
) -> Table:
    """The table of answers that were measured; for the other arguments and errors see `summarize`."""
    sides = found.sides
    if not sides:
        raise InputError("no transitions to summarize")
    baseline = baseline or next(iter(sides))
    if baseline not in sides:
        raise InputError(f"unknown baseline {baseline!r}: the run has {', '.join(sides)}")
    cells: list[Cell] = []
    for k, metric in enumerate(metrics):
        numbers = {name: Measured(side, k) for name, side in sides.items()}
        any_number = [of.any_above if metric.name in IF_ANY else of.any_below for of in numbers.values()]
        if metric.optional and not any(any_number):
            continue
        for name, ours in numbers.items():
            difference = bounds = None
            if name in unpaired:
                difference = _unpaired_difference(ours, numbers[baseline])
            elif name != baseline:
                difference, bounds = _difference(ours, numbers[baseline])
            estimate = ours.ratio().interval(ours.least_variance())
            personas = len(ours.personas)
            cell = Cell(name, metric.name, metric.unit, estimate, difference, ours.n, personas, ours.bounds, bounds)
            cells.append(cell if found.complete or metric in _KNOW_NO_CLICKS else _with_rate(cell, sides[name]))
        if metric.name == "surplus":
            losing = _losing(sides, baseline)
            cells += losing if found.complete else (_with_rate(cell, sides[cell.mechanism]) for cell in losing)
    return Table(cells, baseline, found.expected, frozenset(unpaired), tuple(about))


def _with_rate(cell: Cell, side: Side) -> Cell:
    overlap = 1.0 if side.weighting is None else side.weighting.overlap
    return cell._replace(abstained=side.verdicts.abstained, overlap=overlap)


def _losing(sides: Mapping[str, Side], baseline: str) -> Iterator[Cell]:
    for expected, metric in LOSING.items():
        shares = {name: side.surpluses[expected].losing() for name, side in sides.items()}
        if all(share is None for share in shares.values()):
            continue
        values = {name: math.nan if share is None else share for name, share in shares.items()}
        for name, side in sides.items():
            difference = Estimate(value=values[name] - values[baseline]) if name != baseline else None
            personas = len(side.answering)
            yield Cell(name, metric, UNIT, Estimate(value=values[name]), difference, side.answers, personas)


def _refuse_two_auctions(one: Transition, other: Transition) -> None:
    auctions = [(t.auction.id, t.auction.query.text) for t in (one, other)]
    if auctions[0] != auctions[1]:
        raise InputError(
            f"{one.mechanism} answers two auctions at index {one.index}: {one.auction.id} and {other.auction.id}",
            hint="summarize one run at a time, or give the transitions of several runs indices of their own",
        )


def _difference(ours: Measured, theirs: Measured) -> tuple[Estimate, tuple[float, float] | None]:
    """The paired difference; its bounds where the judge abstained, and both have the same auctions."""
    pairing = Pairing(ours, theirs)
    one, other = pairing.ratios()
    bounds = None
    if pairing.of_all and (ours.bounds or theirs.bounds):
        (least, most), (least_of_theirs, most_of_theirs) = (
            numbers.bounds or (ratio.value, ratio.value) for numbers, ratio in ((ours, one), (theirs, other))
        )
        bounds = least - most_of_theirs, most - least_of_theirs
        bounds = None if math.isnan(bounds[0]) else bounds
    return one.minus(other).interval(pairing.least_variance()), bounds


def _unpaired_difference(ours: Measured, theirs: Measured) -> Estimate:
    one, other = (numbers.ratio() for numbers in (ours, theirs))
    return one.minus(other).interval(sum(numbers.least_variance() for numbers in (ours, theirs)))
