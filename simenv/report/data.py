"""Trade-offs and differences of a run's table, as figures show them. Nothing is computed a second time here.

`simenv.report.bids` and `simenv.report.groups` have what needs the answers themselves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from simenv.runs.summary import Table
from simenv.runs.tables import TITLES
from simenv.stats import Estimate

AXES = ("satisfaction", "quality_loss", "kept", "welfare", "surplus", "ctr", "ads", "disclosure", "factuality")
"""What revenue may be shown against."""
_LESS_IS_BETTER = frozenset({"quality_loss"})
"""Shown as 1 minus the metric."""
_COSTS = frozenset(
    [
        "losing",
        "losing_expected",
        "tokens",
        "llm_calls",
        "violations",
        "overcharges",
        "abstentions",
        "abstained",
        "asked_again",
        "ad_text_share",
        "surprise",
        "empty",
        "refusals",
        "cpa",
    ]
)
"""Metrics of which less is better, shown as they are."""
_CHOSEN_BY_MECHANISM = frozenset({"ads", "detectability", "detected", "session_ads", "stop_turn"})
"""More of it is neither better nor worse."""


class Point(NamedTuple):
    """One mechanism in a trade-off."""

    mechanism: str
    x: Estimate
    y: Estimate
    best: bool
    """No other mechanism has more of one and at least as much of the other."""


class Frontier(NamedTuple):
    """A metric of all mechanisms against another one."""

    x: str
    """Metric."""
    y: str
    x_label: str
    y_label: str
    points: Sequence[Point]


class Difference(NamedTuple):
    """A metric of one mechanism minus that of the baseline."""

    mechanism: str
    estimate: Estimate
    paired: bool
    """Whether both answered the same auctions."""
    tied: str | None = None
    """Why both are tied, see `simenv.runs.summary.Cell.tied`; "" if they are not, None if ties are not marked."""


def estimates(table: Table, metric: str) -> dict[str, Estimate]:
    """Mechanism -> its estimate of a metric; empty if the table lacks the metric."""
    return {cell.mechanism: cell.estimate for cell in table.cells if cell.metric == metric}


def frontier(table: Table, x: str, y: str = "revenue") -> Frontier | None:
    """A metric against another one; None if the table lacks one of them, or no mechanism has both.

    Args:
        table: A run's table.
        x: One of the metrics of the table. Of `quality_loss`, 1 minus the loss is shown, so that more is better. Of
            metrics such as `losing` and `tokens`, less is better.
        y: The other metric.
    """
    xs, ys = (_more_is_better(estimates(table, metric), metric) for metric in (x, y))
    known = [name for name in xs if name in ys and not math.isnan(xs[name].value + ys[name].value)]
    if not known:
        return None
    ranked = not {x, y} & _CHOSEN_BY_MECHANISM
    signs = (-1.0 if x in _COSTS else 1.0, -1.0 if y in _COSTS else 1.0)
    best = {name for name in known if ranked and not any(_better(xs, ys, other, name, signs) for other in known)}
    points = [Point(name, xs[name], ys[name], name in best) for name in known]
    return Frontier(x, y, label(table, x), label(table, y), points)


def frontiers(table: Table, y: str = "revenue") -> list[Frontier]:
    """A metric against every one of AXES that the table has."""
    every = [frontier(table, x, y) for x in AXES if x != y]
    return [it for it in every if it is not None]


def differences(table: Table, metric: str) -> list[Difference]:
    """A metric of every mechanism minus that of the baseline; empty where the table has none."""
    return [
        Difference(
            cell.mechanism,
            cell.difference,
            cell.mechanism not in table.unpaired,
            cell.tied if table.ties is not None else None,
        )
        for cell in table.cells
        if cell.metric == metric and cell.difference is not None and not math.isnan(cell.difference.value)
    ]


def label(table: Table, metric: str) -> str:
    """The axis label of a metric: its name and unit."""
    units = {cell.metric: cell.unit for cell in table.cells}
    name = TITLES.get(metric, metric.replace("_", " "))
    name = f"1 - {name}" if metric in _LESS_IS_BETTER else name
    return f"{name} ({units[metric]})" if units.get(metric) else name


def _more_is_better(of: dict[str, Estimate], metric: str) -> dict[str, Estimate]:
    if metric not in _LESS_IS_BETTER:
        return of
    return {name: Estimate(value=1 - e.value, low=1 - e.high, high=1 - e.low) for name, e in of.items()}


def _better(xs: dict[str, Estimate], ys: dict[str, Estimate], one: str, other: str, signs: tuple[float, float]) -> bool:
    pairs = [(sign * of[one].value, sign * of[other].value) for sign, of in zip(signs, (xs, ys), strict=True)]
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)
