"""Auctions on which mechanisms are checked."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from simenv.records import Ad, Auction, Bid, Query
from simenv.seeding import keyed_rng

_WORDS = (
    "boots",
    "loan",
    "course",
    "coffee",
    "tent",
    "piano",
    "scooter",
    "blanket",
    "camera",
    "novel",
    "salad",
    "lamp",
)


def random_auction(seed: int, index: int) -> tuple[str, Auction]:
    """A random auction with 1 to 12 artificial ads and bids in 1..100; returns its name and the auction."""
    rng = keyed_rng("check", seed, index)
    n = int(rng.integers(1, 13))
    relevance = np.sort(rng.uniform(-0.1, 0.8, n))[::-1]
    auction = _auction(
        f"check.{seed}.{index}",
        [float(b) for b in rng.integers(1, 101, n)],
        [float(x) for x in relevance],
        max_ads=int(rng.integers(1, 4)),
        reserve=float(rng.choice([0.0, 0.0, 10.0, 40.0])),
    )
    return f"random auction {index}", auction


def degenerate_auctions() -> Iterator[tuple[str, Auction]]:
    """Named auctions at the limits of the allowed input."""
    yield "no candidates", _auction("check.none", [], [])
    yield "one bidder", _auction("check.one", [50.0], [0.5])
    yield "all bids zero", _auction("check.zero", [0.0] * 4, [0.6, 0.5, 0.4, 0.3])
    yield "equal bids and relevance", _auction("check.equal", [10.0] * 4, [0.5] * 4)
    yield "huge bids", _auction("check.huge", [1e9, 5e8, 1e-9], [0.5, 0.4, 0.3])
    yield "negative relevance", _auction("check.negative", [10.0, 20.0], [-0.9, -1.0])
    yield "no ad is free", _auction("check.noslot", [10.0, 20.0], [0.5, 0.4], max_ads=0)
    yield "nothing above the reserve", _auction("check.reserve", [10.0, 20.0], [0.5, 0.4], reserve=30.0)
    yield "bid at the reserve", _auction("check.atreserve", [30.0, 20.0], [0.5, 0.4], reserve=30.0)
    yield (
        "64 candidates",
        _auction("check.many", [float(1 + i % 7) for i in range(64)], [0.9 - i / 80 for i in range(64)]),
    )


def _auction(
    auction_id: str, bids: list[float], relevance: list[float], max_ads: int = 2, reserve: float = 0.0
) -> Auction:
    rng = keyed_rng("check-ads", auction_id)
    candidates = tuple(
        Bid(
            ad=Ad(
                id=f"c{i}",
                advertiser=f"Advertiser {i}",
                title=f"{rng.choice(_WORDS)} {rng.choice(_WORDS)} number {i}".capitalize(),
                body="A product that does what it says.",
            ),
            amount=amount,
            relevance=cosine,
        )
        for i, (amount, cosine) in enumerate(zip(bids, relevance, strict=True))
    )
    query = Query(text=f"Which {rng.choice(_WORDS)} should I choose?")
    return Auction(id=auction_id, query=query, profile="A person.", bids=candidates, max_ads=max_ads, reserve=reserve)


def with_bid(auction: Auction, ad_id: str, amount: float) -> Auction:
    """The same auction with one bid changed."""
    bids = tuple(
        bid.model_copy(update={"amount": float(amount)}) if bid.ad.id == ad_id else bid for bid in auction.bids
    )
    return auction.model_copy(update={"bids": bids})


def with_views(auction: Auction) -> Auction:
    """The same auction, in which about half of the candidates bid per view: a fifth of their bid per click."""
    rng = keyed_rng("check-units", auction.id)
    bids = tuple(
        bid.model_copy(update={"unit": "view", "amount": bid.amount / 5}) if rng.random() < 0.5 else bid
        for bid in auction.bids
    )
    return auction.model_copy(update={"id": f"{auction.id}.views", "bids": bids})
