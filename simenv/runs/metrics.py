"""The metrics by name. A metric is a plug-in; those in `METRICS` are in every table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from simenv import registry
from simenv.registry import Kind
from simenv.runs.answer_metrics import (
    AbstentionRate,
    Abstentions,
    Ads,
    AdTextShare,
    AskedAgain,
    Disclosure,
    EmptyAnswers,
    Errors,
    Factuality,
    Kept,
    LLMCalls,
    Overcharges,
    OwnCopy,
    QualityLoss,
    QuestionChosen,
    Refusals,
    Satisfaction,
    SessionAds,
    SponsoredChosen,
    StopTurn,
    Surprise,
    Tokens,
    Transfers,
    Violations,
)
from simenv.runs.click_metrics import (
    CPA,
    CTR,
    ROAS,
    BidWeightedClicks,
    Conversions,
    Revenue,
    Reward,
    SessionRevenue,
    Surplus,
    Welfare,
)
from simenv.runs.gem_metrics import GEM_METRICS
from simenv.runs.metric_types import Metric, Share

Name = TypeVar("Name")


METRIC_SETS: Mapping[str, tuple[str, ...]] = {
    "detection": (
        "detectability",
        "detected",
        "span_precision",
        "span_recall",
        "span_granularity",
        "span_f1",
        "span_iou",
    ),
}
"""Metrics on request that one name asks for."""
METRIC: Kind[Metric] = Kind("metric", "simenv.metrics", ("measure", "unit", "optional"), "measures answers for tables")


def make_metric(name: str, **options: Any) -> Metric:
    """Builds a metric by name: a built-in one such as "revenue", package.module:Class or file.py:Class.

    Raises:
        UnknownName: no such metric.
        InputError: it cannot be loaded, or an option is wrong.
    """
    return registry.make(METRIC, name, **options)


def metrics_named(
    names: Iterable[str | Metric], options: Callable[[str], Mapping[str, Any]] = lambda name: {}
) -> tuple[Metric, ...]:
    """The metrics that names ask for: a name of `METRIC_SETS` asks for several.

    Args:
        names: As for `make_metric`; metrics are returned as they are.
        options: The options of the metric of a name.

    Raises:
        UnknownName, InputError: as `make_metric`.
    """
    return tuple(make_metric(it, **options(it)) if isinstance(it, str) else it for it in names_in_sets(names))


def names_in_sets(names: Iterable[Name]) -> list[Name | str]:
    """The names, with those of its metrics in place of that of a set."""
    return [one for it in names for one in (METRIC_SETS.get(it, (it,)) if isinstance(it, str) else (it,))]


METRICS: tuple[Metric, ...] = (
    Revenue(),
    BidWeightedClicks(),
    Reward(),
    Welfare(),
    Surplus(),
    Transfers(),
    Conversions(),
    CPA(),
    ROAS(),
    SessionRevenue(),
    SessionAds(),
    StopTurn(),
    CTR(),
    Ads(),
    Violations(),
    Abstentions(),
    AbstentionRate(),
    Errors(),
    Refusals(),
    EmptyAnswers(),
    AskedAgain(),
    Overcharges(),
    QuestionChosen(),
    SponsoredChosen(),
    LLMCalls(),
    Tokens(),
    Satisfaction(),
    QualityLoss(),
    Kept(),
    AdTextShare(),
    Factuality(),
    Surprise(),
    Disclosure(),
    OwnCopy(),
    *GEM_METRICS,
)
"""The built-in metrics, in the order of tables."""
IF_ANY = frozenset(metric.name for metric in METRICS if isinstance(metric, Share))
"""Metrics that are left out of tables where all answers have 0."""
