"""What a metric is: a number that each answer contributes to, as a ratio of sums over answers.

A mean has the denominator 1, the click-through rate the number of ads. Metrics that add up clicks also give their parts
(`SumsClicks`), so that an answer counts whose clicks are partly unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from simenv.records import Transition

Ratio = tuple[float, float]
"""Numerator and denominator of one answer."""
Floats = npt.NDArray[np.float64]


class Metric(Protocol):
    """A number that each answer contributes to. The first sentence of its docstring describes it in lists."""

    name: str
    unit: str
    optional: bool
    """Whether it is left out of tables where no answer has a value."""

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        """Numerator and denominator of one answer, or None where they are unknown.

        Args:
            transition: The answer and its clicks.
            expected: Whether clicks are expectations over the judge's click probabilities, or realised.
        """
        ...


class ClickSum(NamedTuple):
    """One answer's numerator, fixed + sum of weight x click over its ads, and its denominator."""

    fixed: float
    weights: Mapping[str, float]
    """Ad id -> weight of its click, for every shown ad."""
    below: float


@runtime_checkable
class SumsClicks(Protocol):
    """A metric that is a weighted sum of clicks. With `parts`, abstentions do not bias it."""

    def parts(self, transition: Transition) -> ClickSum | None:
        """The parts of one answer, or None where they are unknown. They depend on no click."""
        ...


@runtime_checkable
class OfAllAnswers(Protocol):
    """A metric of all answers together: `measure` returns two scores of an answer, and no ratio."""

    def values(self, ours: Floats, theirs: Floats) -> Floats:
        """One number per answer. Their mean is the metric, and their spread gives its interval.

        Args:
            ours, theirs: What `measure` returned for every answer that has scores: shape (answers,), at least one.
        """
        ...


def clicks_of(transition: Transition, expected: bool) -> dict[str, float] | None:
    """Ad id -> click (0 or 1), or click probability, of every shown ad; None if any of them is unknown."""
    clicks = [(c.ad_id, c.click_prob if expected else c.clicked) for c in transition.feedback.clicks]
    if any(click is None for _, click in clicks):
        return None
    return {ad_id: float(click) for ad_id, click in clicks if click is not None}


class Required:
    """A metric that every table has."""

    optional = False


class Share:
    """A share of answers that is in tables only where it is above 0."""

    unit, optional = "share", True


def mean(number: float | None) -> Ratio | None:
    """The ratio of a mean over answers."""
    return None if number is None else (float(number), 1.0)
