"""GSP: the generalised second-price auction over candidates, then the answer is written around the winners.

Source: Edelman, Ostrovsky, Schwarz (2007), "Internet advertising and the generalized second-price auction"; Varian
(2007), "Position auctions". Ads are ranked by bid times predicted click probability and pay per click. Bids per view in
the same ranking are ours: their score is the bid, and they pay per view.
"""

from __future__ import annotations

from simenv.mechanism import Claim
from simenv.records import Auction, Unit

from .ranking import Ranked, RankingAuction


class GSP(RankingAuction):
    """Generalised second-price auction over candidates: ranks by bid x predicted CTR, pays the next score per click.

    With scores s_i = b_i q_i the winner of slot j pays max(s_(j+1) / q_(j), reserve) per click. Individually rational
    and monotone. Not DSIC: with two or more slots an advertiser can gain by bidding less than its value. A bid per view
    has the score b_i and pays max(s_(j+1), reserve x q_(j)) per view.

    Args:
        llm, ctr_model, slots, writer: See `RankingAuction`.
    """

    name = "gsp"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE})
    units: frozenset[Unit] = frozenset({"click", "view"})

    def price(self, auction: Auction, ranked: list[Ranked], place: int) -> float:
        winner = ranked[place]
        runner_up = ranked[place + 1].score if place + 1 < len(ranked) else 0.0
        return max(runner_up / (winner.weight * winner.units), self.reserve(auction, winner.bid, winner.q))
