"""The terms of an advertiser's report: each a ratio of sums over auctions, or a total over the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

FIXED = (
    "auctions",
    "impressions",
    "abstained",
    "transfers",
    "places",
    "clicks_realised",
    "conversions_realised",
    "satisfaction",
    "with_satisfaction",
    "quality_loss",
    "with_quality_loss",
    "factuality",
    "with_factuality",
    "disclosure",
    "with_disclosure",
    "value_of_views",
    "bids_of_views",
)
"""Sums that depend on no click. `places` adds up positions, 1 for the first ad; `with_X` counts where X is known. The
last two are of shown ads that bid per view: private values and bids."""
CLICKED = ("clicks", "paid", "offered", "value", "kept", "conversions", "conversion_value")
"""Sums of weight x click: of 1, price, bid, private value, value - price, probability of a conversion, and its product
with the value of one. Bid and private value are 0 here for an ad that bids per view."""
SHOWN = "shown"
"""All ads that the mechanism showed, of whatever advertiser."""


class Term(NamedTuple):
    """One number of the report: sum of `above` / sum of `below`, or without `below` the sum of `above` over the run."""

    name: str
    title: str
    unit: str
    above: Mapping[str, float]
    below: Mapping[str, float] | None
    meaning: str
    digits: int = 2

    @property
    def of_conversions(self) -> bool:
        """Whether it means nothing in a run without conversions."""
        return any("conversion" in column for column in (*self.above, *(self.below or ())))


_SPEND = {"paid": 1.0, "transfers": 1.0}
_VALUE = {"value": 1.0, "value_of_views": 1.0}
_CLICKS = {"clicks": 1.0}
_SHOWN_ADS = {"impressions": 1.0}


def _total(name: str, title: str, unit: str, above: str, meaning: str, digits: int = 2) -> Term:
    return Term(name, title, unit, {above: 1.0}, None, meaning, digits)


def _mean(name: str, unit: str, meaning: str) -> Term:
    return Term(name, name.replace("_", " "), unit, {name: 1.0}, {f"with_{name}": 1.0}, meaning, 3)


TERMS: tuple[Term, ...] = (
    _total("auctions", "auctions", "auctions", "auctions", "auctions in which the ad was a candidate", 0),
    _total("impressions", "impressions", "ads", "impressions", "answers that showed the ad", 0),
    Term(
        "impression_share",
        "impression share",
        "share",
        _SHOWN_ADS,
        {"auctions": 1.0},
        "impressions / auctions: how often a candidate was shown",
        3,
    ),
    Term(
        "share_of_voice",
        "share of voice",
        "share",
        _SHOWN_ADS,
        {SHOWN: 1.0},
        "impressions / all ads that the mechanism showed in the run, of whatever advertiser",
        3,
    ),
    Term("position", "mean position", "place", {"places": 1.0}, _SHOWN_ADS, "1 = the first ad of the answer"),
    _total("abstained", "abstained", "ads", "abstained", "impressions on which the judge gave no verdict", 0),
    _total(
        "clicks", "clicks", "clicks", "clicks", "clicks, in expectation over the judge's click probabilities if known"
    ),
    _total("clicks_realised", "clicks, realised", "clicks", "clicks_realised", "clicks that were drawn or judged", 0),
    Term("ctr", "CTR", "clicks per impression", _CLICKS, _SHOWN_ADS, "click-through rate: clicks / impressions", 3),
    Term(
        "spend",
        "spend",
        "currency",
        _SPEND,
        None,
        "what the advertiser pays: price per click x clicks, plus transfers, such as prices per view",
    ),
    Term("cpc", "CPC", "currency per click", _SPEND, _CLICKS, "cost per click: spend / clicks"),
    Term(
        "cpm",
        "CPM",
        "currency per 1000 impressions",
        dict.fromkeys(_SPEND, 1000.0),
        _SHOWN_ADS,
        "cost per mille: 1000 x spend / impressions, what was paid",
        0,
    ),
    Term(
        "ecpm",
        "eCPM",
        "currency per 1000 impressions",
        {"offered": 1000.0, "bids_of_views": 1000.0},
        _SHOWN_ADS,
        "effective cost per mille: 1000 x (bid x clicks, or bids per view) / impressions, what was bid; platforms rank "
        "ads by it",
        0,
    ),
    Term("value", "value", "currency", _VALUE, None, "private value per click x clicks, or per view x impressions"),
    Term(
        "surplus",
        "surplus",
        "currency",
        {"kept": 1.0, "value_of_views": 1.0, "transfers": -1.0},
        None,
        "value - spend: below 0 the advertiser loses",
    ),
    Term(
        "roi",
        "ROI",
        "value per currency",
        _VALUE,
        _SPEND,
        "return on investment: value / spend, as in the bidder `roi:TARGET`; 1 = break-even (others subtract 1)",
    ),
    _total("conversions", "conversions", "conversions", "conversions", "conversions, in expectation given the clicks"),
    _total(
        "conversions_realised", "conversions, realised", "conversions", "conversions_realised", "conversions drawn", 0
    ),
    Term(
        "cvr", "CVR", "conversions per click", {"conversions": 1.0}, _CLICKS, "conversion rate: conversions / clicks", 4
    ),
    Term(
        "cpa",
        "CPA",
        "currency per conversion",
        _SPEND,
        {"conversions": 1.0},
        "cost per acquisition: spend / conversions",
    ),
    Term(
        "roas",
        "ROAS",
        "value per currency",
        {"conversion_value": 1.0},
        _SPEND,
        "return on ad spend: value of the conversions / spend",
    ),
    _mean("satisfaction", "0 to 1", "mean satisfaction of users with the answers that showed the ad"),
    _mean(
        "quality_loss",
        "-1 to 1",
        "mean satisfaction with the same answer without any ads, minus that with the answer that showed the ad",
    ),
    _mean("factuality", "0 to 1", "share of the answers' statements about the ad that its copy supports"),
    _mean("disclosure", "0 to 1", "how clearly the answers mark the ad as an ad"),
)
"""In the order of the report."""
BY_NAME: Mapping[str, Term] = {term.name: term for term in TERMS}
