"""Advertisers' private values. Every draw is keyed by auction and ad, so all mechanisms meet the same ones."""

from __future__ import annotations

from simenv.records import Ad
from simenv.seeding import keyed_rng

HIGHEST = 100
"""Bids and values are integers in 1..100, currency per click (LLM-Auction, section 5.1)."""


def private_value(auction_id: str, ad: Ad) -> float:
    """The advertiser's value of a click in this auction: uniform integer in 1..100, currency per click."""
    return float(keyed_rng("value", auction_id, ad.id).integers(1, HIGHEST + 1))
