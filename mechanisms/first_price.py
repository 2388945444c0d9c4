"""First price: the ranking of GSP, and each click costs the bid.

This is the payment rule of LLM-Auction (eq. 7) with the allocation rule of GSP, so that the effects of payment and
allocation can be separated. Truthful bids overstate its revenue, because a utility maximiser shades its bid here:
compare it at learned bids.
"""

from __future__ import annotations

from simenv.mechanism import Claim
from simenv.records import Auction, Unit

from .ranking import Ranked, RankingAuction


class FirstPrice(RankingAuction):
    """First-price auction over candidates: ranks by bid x predicted CTR, winners pay their bids per click.

    Individually rational and monotone. Not DSIC for utility maximisers: a lower bid pays less per click. A bid per view
    is ranked by the bid and pays it per view.

    Args:
        llm, ctr_model, slots, writer: See `RankingAuction`.
    """

    name = "first_price"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE})
    units: frozenset[Unit] = frozenset({"click", "view"})

    def price(self, auction: Auction, ranked: list[Ranked], place: int) -> float:
        return ranked[place].bid.amount
