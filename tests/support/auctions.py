"""Auctions with given numbers, and a CTR model with given predictions."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np

from simenv.ctr.models import Floats
from simenv.records import Ad, Auction, Bid, Query
from simenv.testing import ADS, PERSONAS


class GivenCTR:
    """CTR model with given q_i, times discount^rank.

    Args:
        q: Click probability of each candidate, in their order; one number for all candidates.
        discount: Factor per position further down.
    """

    name = "given"

    def __init__(self, q: Sequence[float] | float, discount: float = 0.8) -> None:
        self.q = q
        self.position_discount = discount

    def relevance(self, auction: Auction) -> Floats:
        return np.full(len(auction.bids), self.q) if np.isscalar(self.q) else np.array(self.q, dtype=np.float64)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        q = dict(zip([bid.ad.id for bid in auction.bids], self.relevance(auction), strict=True))
        return {ad_id: float(q[ad_id]) * self.position_discount**rank for rank, ad_id in enumerate(shown)}


def make_auction(
    amounts: Sequence[float],
    cosines: Sequence[float] | None = None,
    *,
    max_ads: int = 2,
    reserve: float = 0.0,
    name: str = "given",
    categories: Sequence[str] | None = None,
    per_view: Container[int] = (),
) -> Auction:
    """Builds an auction of candidates c0, c1, ... with these bids; cosines are 0.5 by default.

    The candidates with the numbers `per_view` bid per view.
    """
    cosines = [0.5] * len(amounts) if cosines is None else cosines
    categories = ["general"] * len(amounts) if categories is None else categories
    bids = tuple(
        Bid(
            ad=Ad(id=f"c{i}", advertiser=f"Firm {i}", title=f"Product {i}", body=f"It is good at {i}.", category=kind),
            amount=amount,
            relevance=cosine,
            unit="view" if i in per_view else "click",
        )
        for i, (amount, cosine, kind) in enumerate(zip(amounts, cosines, categories, strict=True))
    )
    query = Query(text="Which product should I choose?")
    return Auction(id=name, query=query, bids=bids, max_ads=max_ads, reserve=reserve)


def small_auction(n: int = 4, *, max_ads: int = 2, reserve: float = 0.0) -> Auction:
    """Builds an auction of up to six of the ads with fixed bids, the most relevant first."""
    amounts, cosines = (50.0, 30.0, 60.0, 20.0, 45.0, 10.0), (0.6, 0.5, 0.45, 0.3, 0.2, 0.1)
    bids = tuple(
        Bid(ad=ad, amount=amount, relevance=cosine)
        for ad, amount, cosine in zip(ADS[:n], amounts, cosines, strict=False)
    )
    query = Query(text="Which hiking boots stay dry on wet trails?")
    return Auction(
        id=f"small.{n}", query=query, profile=PERSONAS[0].profile, bids=bids, max_ads=max_ads, reserve=reserve
    )
