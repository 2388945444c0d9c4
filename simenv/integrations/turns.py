"""Turns and sessions as plain numbers and JSON, for the frameworks that show or add them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pydantic import JsonValue

from simenv.records import Bid, Transition
from simenv.runs.answer_metrics import Ads, Satisfaction, Violations
from simenv.runs.click_metrics import CTR, BidWeightedClicks, Revenue, Reward, Welfare
from simenv.runs.metric_types import Metric

SUMS: dict[str, Metric] = {
    "reward": Reward(),
    "revenue": Revenue(),
    "welfare": Welfare(),
    "bid_weighted_clicks": BidWeightedClicks(),
    "clicks": CTR(),
    "ads": Ads(),
    "violations": Violations(),
}
"""What is added over the turns of a session: money in currency, the rest in counts."""


def session_sums(turns: Sequence[Transition]) -> dict[str, float]:
    """The SUMS of a session, and its mean `satisfaction`.

    Money and clicks are expectations over the judge's click probabilities where it gives them for every ad of the
    session, else what happened. NaN: unknown, because the judge abstained, or an answer failed.
    """
    clicks = [click for turn in turns for click in turn.feedback.clicks]
    expected = all(click.click_prob is not None for click in clicks)
    sums = {name: _sum(turns, metric, expected) for name, metric in SUMS.items()}
    return {**sums, "satisfaction": _sum(turns, Satisfaction(), expected) / len(turns) if turns else math.nan}


def _sum(turns: Sequence[Transition], metric: Metric, expected: bool) -> float:
    parts = [None if turn.error is not None else metric.measure(turn, expected) for turn in turns]
    return sum(math.nan if part is None else part[0] for part in parts)


def turn_facts(turn: Transition) -> dict[str, JsonValue]:
    """What a reader of a transcript wants to know of a turn: ads shown with verdicts, candidates, breaches, quality."""
    quality = turn.feedback.quality
    per_ad = {row.ad_id: row for row in quality.ads} if quality is not None else {}
    clicks = {click.ad_id: click for click in turn.feedback.clicks}
    shown: list[JsonValue] = []
    for placement in turn.outcome.placements:
        bid, click = turn.auction.bid_of(placement.ad_id), clicks[placement.ad_id]
        ad: dict[str, JsonValue] = {
            "ad": placement.ad_id,
            "advertiser": bid.ad.advertiser,
            "title": bid.ad.title,
            "bid": bid.amount,
            **_unit(bid),
            "price": placement.price,
            "clicked": click.clicked,
            "click_prob": click.click_prob,
            "reason": click.reason,
        }
        if (row := per_ad.get(placement.ad_id)) is not None:
            ad |= {"factuality": row.factuality, "disclosure": row.disclosure}
        shown.append(ad)
    facts: dict[str, JsonValue] = {
        "shown": shown,
        "candidates": [
            {"ad": bid.ad.id, "title": bid.ad.title, "bid": bid.amount, **_unit(bid), "relevance": bid.relevance}
            for bid in turn.auction.bids
        ],
        "transfers": dict(turn.outcome.transfers),
        "violations": [{"kind": it.kind, "text": it.text} for it in turn.outcome.violations],
        "overcharges": [{"kind": it.kind, "ad": it.ad_id, "excess": it.excess} for it in turn.overcharges],
        "satisfaction": turn.feedback.satisfaction,
    }
    if quality is not None:
        facts |= {"quality_loss": quality.quality_loss, "ad_free": quality.ad_free}
    if turn.error is not None:
        facts["error"] = f"{turn.error.kind}: {turn.error.text}"
    return facts


def _unit(bid: Bid) -> dict[str, JsonValue]:
    """What a bid is for, where it is not for a click."""
    return {} if bid.unit == "click" else {"unit": bid.unit}
