"""Metrics of clicks and the money that they bring."""

from __future__ import annotations

from collections.abc import Mapping

from simenv.records import Transition
from simenv.runs.metric_types import ClickSum, Ratio, Required, Share, clicks_of, mean


class _SumOfClicks(Required):
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
        return mean(transition.expected_reward if expected else transition.reward)


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


class Conversions(_SumOfClicks, Share):
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


class ROAS(_OfConversions, Share):
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
