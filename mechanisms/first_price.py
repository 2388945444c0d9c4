"""First price: the ranking of GSP, and each click costs the bid.

The payment rule of LLM-Auction (eq. 7) on the oldest allocation rule, so that the two can be told apart. Truthful
bids flatter its revenue, because nobody who maximises utility bids truthfully here: compare it at learned bids.
"""

from __future__ import annotations

from simenv.mechanism import Claim
from simenv.records import Auction

from .ranking import Ranked, RankingAuction


class FirstPrice(RankingAuction):
    """Rank by b_i q_i, pay b_i per click.

    Individually rational and monotone; NOT truthful for utility maximisers: to bid less costs less.

    Args:
        llm, ctr_model, slots: See `RankingAuction`.
    """

    name = "first_price"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE})

    def price(self, auction: Auction, ranked: list[Ranked], place: int) -> float:
        return ranked[place].bid.amount
