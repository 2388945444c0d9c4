"""What is measured of an answer. A metric is a plug-in; those here are in every table.

Every metric is a ratio of sums over answers: a mean has the denominator 1, the click-through rate the number of ads.
Those that add up clicks also give their parts (`SumsClicks`), so that an answer counts whose clicks are partly unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from simenv import registry
from simenv.records import AdQuality, Quality, Suggestion, Transition
from simenv.registry import Kind
from simenv.runs.gem_metrics import GEM_METRICS
from simenv.runs.useless import is_empty, is_refusal
from simenv.writer.copy_check import in_own_words

Ratio = tuple[float, float]
"""Numerator and denominator of one answer."""
Floats = npt.NDArray[np.float64]
Name = TypeVar("Name")


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


def clicks_of(transition: Transition, expected: bool) -> dict[str, float] | None:
    """Ad id -> click (0 or 1), or click probability, of every shown ad; None if any of them is unknown."""
    clicks = [(c.ad_id, c.click_prob if expected else c.clicked) for c in transition.feedback.clicks]
    if any(click is None for _, click in clicks):
        return None
    return {ad_id: float(click) for ad_id, click in clicks if click is not None}


class _Required:
    optional = False


class _SumOfClicks(_Required):
    def parts(self, transition: Transition) -> ClickSum | None:
        raise NotImplementedError

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        clicks, parts = clicks_of(transition, expected), self.parts(transition)
        if clicks is None or parts is None:
            return None
        return parts.fixed + sum(parts.weights[ad_id] * click for ad_id, click in clicks.items()), parts.below


class Revenue(_SumOfClicks):
    """Payments collected: price x click, plus transfers."""

    name, unit = "revenue", "currency per answer"

    def parts(self, transition: Transition) -> ClickSum:
        return ClickSum(sum(transition.outcome.transfers.values()), _prices(transition), 1.0)

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        payments = transition.expected_payments if expected else transition.payments
        if payments is None or clicks_of(transition, expected) is None:
            return None
        return sum(payments.values()), 1.0


class BidWeightedClicks(_SumOfClicks):
    """Sum of bid x click (the paper's revenue). A bid per view counts once for each shown ad."""

    name, unit = "bid_weighted_clicks", "currency per answer"

    def parts(self, transition: Transition) -> ClickSum:
        return _worth(transition, {bid.ad.id: bid.amount for bid in transition.auction.bids})


class Reward(_SumOfClicks):
    """Bid-weighted clicks minus the penalty for extra ads and violations."""

    name, unit = "reward", "currency per answer"

    def parts(self, transition: Transition) -> ClickSum | None:
        fixed, weights, _ = BidWeightedClicks().parts(transition)
        for expected, reward in ((False, transition.reward), (True, transition.expected_reward)):
            clicks = clicks_of(transition, expected)
            if reward is not None and clicks is not None:
                gain = sum(weights[ad_id] * click for ad_id, click in clicks.items())
                return ClickSum(reward - gain, weights, 1.0)
        return None if transition.penalty is None else ClickSum(fixed - transition.penalty, weights, 1.0)

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(transition.expected_reward if expected else transition.reward)


class Welfare(_SumOfClicks):
    """Sum of private value x click. A value per view counts once for each shown ad."""

    name, unit = "welfare", "currency per answer"

    def parts(self, transition: Transition) -> ClickSum:
        return _worth(transition, transition.values)


class Surplus(_SumOfClicks):
    """What advertisers keep: private value x click, or per view, minus payments."""

    name, unit = "surplus", "currency per answer"

    def parts(self, transition: Transition) -> ClickSum:
        fixed, values, _ = _worth(transition, transition.values)
        weights = {ad_id: values[ad_id] - price for ad_id, price in _prices(transition).items()}
        return ClickSum(fixed - sum(transition.outcome.transfers.values()), weights, 1.0)


class CTR(_SumOfClicks):
    """Clicks divided by ads shown."""

    name, unit = "ctr", "clicks per shown ad"

    def parts(self, transition: Transition) -> ClickSum:
        shown = dict.fromkeys(_prices(transition), 1.0)
        return ClickSum(0.0, shown, float(len(shown)))


class Ads(_Required):
    """Number of clickable ads shown."""

    name, unit = "ads", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(len(transition.outcome.placements))


class Violations(_Required):
    """Number of violations of the insertion rules."""

    name, unit = "violations", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(len(transition.outcome.violations))


class Abstentions(_Required):
    """Number of shown ads without a verdict."""

    name, unit = "abstentions", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(transition.abstentions)


class _Share:
    """A share of answers that is in tables only where it is above 0."""

    unit, optional = "share", True


class Errors(_Share):
    """Share of answers that failed, and that no other number has."""

    name = "errors"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(transition.error is not None)


class Refusals(_Share):
    """Share of answers that are nothing but a refusal, apart from their ads."""

    name = "refusals"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(is_refusal(transition))


class EmptyAnswers(_Share):
    """Share of answers that are blank, or ads without any answer."""

    name = "empty"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(is_empty(transition))


class AskedAgain(_Share):
    """Number of times that the judge was asked once more, because its reply could not be read."""

    name, unit = "asked_again", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(transition.feedback.asked_again)


class Overcharges(_Share):
    """Number of charges that no bid covers: above the bid, or of ads that are not shown."""

    name, unit = "overcharges", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(len(transition.overcharges))


class AbstentionRate(_Share):
    """Share of shown ads without a verdict."""

    name, unit = "abstained", "share of shown ads"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return float(transition.abstentions), float(len(transition.feedback.clicks))


class Transfers(_Share):
    """Payments that depend on no click."""

    name, unit = "transfers", "currency per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(sum(transition.outcome.transfers.values()))


class Conversions(_SumOfClicks, _Share):
    """Conversions after clicks, in expectation given the click."""

    name, unit, optional = "conversions", "per answer", True

    def parts(self, transition: Transition) -> ClickSum | None:
        probs = _conversion_probs(transition)
        return None if probs is None else ClickSum(0.0, probs, 1.0)


class _OfConversions:
    """A ratio of sums that needs conversions. An answer with an unknown click is left out."""

    optional = True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        payments = transition.expected_payments if expected else transition.payments
        clicks, probs = clicks_of(transition, expected), _conversion_probs(transition)
        if payments is None or clicks is None or probs is None:
            return None
        conversions = {ad_id: click * probs[ad_id] for ad_id, click in clicks.items()}
        return self.ratio(transition, sum(payments.values()), conversions)

    def ratio(self, transition: Transition, paid: float, conversions: Mapping[str, float]) -> Ratio:
        """Numerator and denominator from the payments and the conversions by ad id."""
        raise NotImplementedError


class CPA(_OfConversions):
    """Cost per acquisition: payments divided by conversions."""

    name, unit = "cpa", "currency per conversion"

    def ratio(self, transition: Transition, paid: float, conversions: Mapping[str, float]) -> Ratio:
        return paid, sum(conversions.values())


class ROAS(_OfConversions, _Share):
    """Return on ad spend: value of conversions divided by payments."""

    name, unit = "roas", "value of conversions per payment"

    def ratio(self, transition: Transition, paid: float, conversions: Mapping[str, float]) -> Ratio:
        values = {click.ad_id: click.conversion_value or 0.0 for click in transition.feedback.clicks}
        return sum(values[ad_id] * number for ad_id, number in conversions.items()), paid


class SessionRevenue:
    """Payments collected in a session of linked turns, over the answers whose clicks are all known."""

    name, unit, optional = "session_revenue", "currency per session", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        horizon, paid = transition.auction.horizon, Revenue().measure(transition, expected)
        return None if horizon is None or paid is None else (paid[0], 1 / horizon)


class SessionAds:
    """Number of ads shown in a session of linked turns, over the sessions that began."""

    name, unit, optional = "session_ads", "per session", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        if transition.auction.horizon is None:
            return None
        return float(len(transition.outcome.placements)), float(transition.auction.turn == 0)


class StopTurn:
    """Turn of a session's first ad, counted from 0, over the sessions of linked turns that show one."""

    name, unit, optional = "stop_turn", "turn", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        if transition.auction.horizon is None:
            return None
        first = bool(transition.outcome.placements) and not transition.auction.shown
        return (float(transition.auction.turn), 1.0) if first else (0.0, 0.0)


class QuestionChosen:
    """Share of offers of follow-up questions in which the user chooses one."""

    name, unit, optional = "question_chosen", "share of offers", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        choice = transition.feedback.choice
        if choice is None or choice.abstained:
            return None
        counted = [self.counts(question) for question in transition.outcome.suggestions]
        if expected and choice.probs is not None:
            return sum(prob for prob, counts in zip(choice.probs, counted, strict=True) if counts), 1.0
        return float(choice.place is not None and counted[choice.place]), 1.0

    def counts(self, question: Suggestion) -> bool:
        """Whether choosing this question counts."""
        return True


class SponsoredChosen(QuestionChosen):
    """Share of offers of follow-up questions in which the user chooses a sponsored one."""

    name = "sponsored_chosen"

    def counts(self, question: Suggestion) -> bool:
        return question.ad_id is not None


class LLMCalls(_Required):
    """Number of completions of the mechanism."""

    name, unit = "llm_calls", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(transition.outcome.usage.calls)


class Tokens(_Required):
    """Number of prompt and completion tokens of the mechanism, over the answers whose tokens the server counted."""

    name, unit = "tokens", "per answer"

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(transition.outcome.usage.tokens)


class Satisfaction:
    """User satisfaction with the answer: whether it is on the topic, whole and unpressed, not whether it is true."""

    name, unit, optional = "satisfaction", "per answer, 0 to 1", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        return _mean(transition.feedback.satisfaction)


class _OfQuality:
    """A number that the quality measure gives of an answer."""

    name: str
    optional = True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        quality: Quality | None = transition.feedback.quality
        return _mean(None if quality is None else getattr(quality, self.name))


class QualityLoss(_OfQuality):
    """Satisfaction with the ad-free answer minus that with this one."""

    name, unit = "quality_loss", "per answer, -1 to 1"


class Kept(_OfQuality):
    """Share of the ad-free answer's content that this answer keeps."""

    name, unit = "kept", "share"


class AdTextShare(_OfQuality):
    """Share of the answer's words that are in sentences with ads."""

    name, unit = "ad_text_share", "share"


class _OfAds:
    """A number that the quality measure gives of each shown ad. An answer with an ad of unknown number is left out."""

    name: str
    optional = True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        quality = transition.feedback.quality
        ads: tuple[AdQuality | None, ...] = (None,) if quality is None else quality.ads
        numbers = [None if ad is None else getattr(ad, self.name) for ad in ads]
        known = [number for number in numbers if number is not None]
        return (sum(known), float(len(known))) if len(known) == len(numbers) else None


class Factuality(_OfAds):
    """Degree to which the ad's own copy supports the statements about it."""

    name, unit = "factuality", "per shown ad, 0 to 1"


class Surprise(_OfAds):
    """Mean -log p of the tokens of the ad's sentence."""

    name, unit = "surprise", "nats per token, per shown ad"


class Disclosure(_OfAds):
    """Degree to which the answer discloses the ad as an ad."""

    name, unit = "disclosure", "per shown ad, 0 to 1"


class OwnCopy:
    """Share of shown ads in the advertiser's own words: the writer fell back on them, or the mechanism quotes."""

    name, unit, optional = "own_copy", "per shown ad, 0 to 1", True

    def measure(self, transition: Transition, expected: bool) -> Ratio | None:
        ads = [transition.auction.bid_of(placement.ad_id).ad for placement in transition.outcome.placements]
        quoted = sum(in_own_words(transition.outcome.response, ad) for ad in ads)
        return (float(quoted), float(len(ads))) if ads else None


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
IF_ANY = frozenset(metric.name for metric in METRICS if isinstance(metric, _Share))
"""Metrics that are left out of tables where all answers have 0."""


def _mean(number: float | None) -> Ratio | None:
    return None if number is None else (float(number), 1.0)


def _conversion_probs(transition: Transition) -> dict[str, float] | None:
    """Ad id -> probability that its click converts, of every shown ad; None where the world has no conversions."""
    probs = {click.ad_id: click.conversion_prob for click in transition.feedback.clicks}
    known = {ad_id: prob for ad_id, prob in probs.items() if prob is not None}
    return known if len(known) == len(probs) else None


def _prices(transition: Transition) -> dict[str, float]:
    return {placement.ad_id: placement.price for placement in transition.outcome.placements}


def _worth(transition: Transition, amounts: Mapping[str, float]) -> ClickSum:
    """The worth of one answer's ads; amounts are per click, or per view of ads that bid per view."""
    per_view = {bid.ad.id for bid in transition.auction.bids if bid.unit == "view"}
    shown = _prices(transition)
    fixed = sum((amounts[ad_id] for ad_id in shown if ad_id in per_view), 0.0)
    return ClickSum(fixed, {ad_id: 0.0 if ad_id in per_view else amounts[ad_id] for ad_id in shown}, 1.0)
