"""Advertisers: private values per click, and how they turn into bids.

Every draw is keyed by auction and ad, so all mechanisms meet the same values and bids.
"""

from __future__ import annotations

from typing import Protocol

from simenv.errors import UnknownName
from simenv.records import Ad
from simenv.seeding import keyed_rng

HIGHEST = 100
"""Bids and values are integers in 1..100, currency per click (LLM-Auction, section 5.1)."""


def private_value(auction_id: str, ad: Ad) -> float:
    """The advertiser's value of a click in this auction: uniform integer in 1..100, currency per click."""
    return float(keyed_rng("value", auction_id, ad.id).integers(1, HIGHEST + 1))


class Bidder(Protocol):
    """Turns a private value into a bid."""

    name: str

    def bid(self, auction_id: str, ad: Ad, value: float) -> float:
        """Currency per click, at least 0."""
        ...


class TruthfulBidder:
    """Bids the value."""

    name = "truthful"

    def bid(self, auction_id: str, ad: Ad, value: float) -> float:
        return value


class UniformBidder:
    """Bids a uniform integer in 1..100 whatever the value, as in the paper's experiments (section 5.1)."""

    name = "uniform"

    def bid(self, auction_id: str, ad: Ad, value: float) -> float:
        return float(keyed_rng("bid", auction_id, ad.id).integers(1, HIGHEST + 1))


_BIDDERS: dict[str, type[Bidder]] = {"truthful": TruthfulBidder, "uniform": UniformBidder}


def make_bidder(name: str) -> Bidder:
    """Builds a bidder by name: "truthful" or "uniform".

    Raises:
        UnknownName: another name.
    """
    if name not in _BIDDERS:
        raise UnknownName("bidder", name, _BIDDERS)
    return _BIDDERS[name]()
