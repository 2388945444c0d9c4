"""How well a frozen classifier finds the ads of answers (`simenv.quality.detector`): metrics on request.

Both answers are read without mark-up: the one with ads, and the ad-free one to the same query, which the run's quality
measure keeps. An answer without ads, or without its counterpart, has no number.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from simenv.quality.detector import SpanScores, found_spans, score_answer, span_scores, true_spans
from simenv.records import Auction, Outcome, Transition

Floats = npt.NDArray[np.float64]
FALSE_ALARMS = 0.01
"""Share of the ad-free answers that may be taken for ones with ads."""


class _OfScores:
    """A number of all answers together: `measure` gives the scores of the answer and of the ad-free one."""

    optional = True

    def measure(self, transition: Transition, expected: bool) -> tuple[float, float] | None:
        quality = transition.feedback.quality
        ad_free = None if quality is None else quality.ad_free
        if ad_free is None or not transition.outcome.placements:
            return None
        return score_answer(transition.outcome.response), score_answer(ad_free)


class Detectability(_OfScores):
    """Probability that a frozen classifier ranks an answer with ads above an ad-free one (AUC): 0.5 is chance."""

    name, unit = "detectability", "AUC"

    def values(self, ours: Floats, theirs: Floats) -> Floats:
        """One number per answer, whose mean is the AUC over all pairs, ties counting half.

        It is the share of ad-free answers below this answer, plus the share of answers with ads above this ad-free one,
        less the AUC: the sums of the components of DeLong, DeLong and Clarke-Pearson (1988), whose spread is that of
        the AUC.
        """
        of_ads, of_others = _share_below(ours, theirs), 1 - _share_below(theirs, ours)
        values: Floats = of_ads + of_others - of_ads.mean()
        return values


class Detected(_OfScores):
    """Share of answers with ads above all but 1% of the ad-free ones, for a frozen classifier."""

    name, unit = "detected", "share, at 1% false alarms"

    def values(self, ours: Floats, theirs: Floats) -> Floats:
        """1 for an answer that scores above the bound, else 0. That the bound is estimated adds no variance."""
        bound = np.sort(theirs)[math.ceil((1 - FALSE_ALARMS) * len(theirs)) - 1]
        found: Floats = (ours > bound).astype(np.float64)
        return found


class _OfSpans:
    name: str
    unit, optional = "per answer with ads, 0 to 1", True

    def measure(self, transition: Transition, expected: bool) -> tuple[float, float] | None:
        if not transition.outcome.placements:
            return None
        value = getattr(_spans(transition.auction, transition.outcome), self.name.removeprefix("span_"))
        return None if value is None else (float(value), 1.0)


class SpanPrecision(_OfSpans):
    """Share of what a frozen classifier takes for an ad that is one, span by span."""

    name = "span_precision"


class SpanRecall(_OfSpans):
    """Share of the ads that a frozen classifier finds, span by span."""

    name = "span_recall"


class SpanGranularity(_OfSpans):
    """Number of spans in which a frozen classifier finds an ad that it finds: 1 is best."""

    name, unit = "span_granularity", "spans per ad found"


class SpanF1(_OfSpans):
    """F1 of precision and recall, divided by log2(1 + granularity)."""

    name = "span_f1"


class SpanIoU(_OfSpans):
    """Characters that are an ad and taken for one, divided by those that are either."""

    name = "span_iou"


@lru_cache(maxsize=8)  # the five metrics measure one answer after the other
def _spans_of(response: str, marks: tuple[tuple[int, int], ...]) -> SpanScores:
    return span_scores(found_spans(response), marks)


def _spans(auction: Auction, outcome: Outcome) -> SpanScores:
    return _spans_of(outcome.response, tuple(true_spans(auction, outcome)))


def _share_below(scores: Floats, others: Floats) -> Floats:
    """For each score the share of the others below it; equal ones count half."""
    ordered = np.sort(others)
    places = np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")
    share: Floats = places / (2 * len(ordered))
    return share
