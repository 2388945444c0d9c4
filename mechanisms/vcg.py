"""VCG for positions: the ranking of GSP, and each winner pays the welfare loss of the ads below it.

Source: Vickrey (1961), Clarke (1971), Groves (1973); for positions Varian (2007), "Position auctions", and Edelman,
Ostrovsky, Schwarz (2007), section III. The reserve acts as one more bidder at every slot; raising the plain VCG price
to the reserve instead would not be DSIC.
"""

from __future__ import annotations

from simenv.mechanism import Claim
from simenv.records import Auction

from .ranking import Ranked, RankingAuction


class VCG(RankingAuction):
    """VCG for positions: ranks by bid x predicted CTR, pays per click the welfare loss of the other ads.

    The score is s_i = b_i q_i. Slot j is seen with weight alpha_j = discount^(j-1), and alpha_(K+1) = 0. The winner of
    slot j pays per click

        sum_(l = j..K) (alpha_l - alpha_(l+1)) max(s_(l+1), r q_(j)) / (alpha_j q_(j))

    with r the reserve: the critical bids for its own slot and each slot below, weighted by the attention that each slot
    adds. With one slot this is the second price.

    DSIC (dominant-strategy incentive compatible) for utility maximisers, individually rational and monotone if clicks
    are alpha_j q_i, as the `ctr_model` predicts. In a world with other position effects the audit measures its regret.

    Args:
        llm, ctr_model, slots, writer: See `RankingAuction`.
    """

    name = "vcg"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.TRUTHFUL_UM})

    def price(self, auction: Auction, ranked: list[Ranked], place: int) -> float:
        winner, below = ranked[place], ranked[place + 1 :]
        discount = self.ctr_model.position_discount
        reserve = self.reserve(auction, winner.bid, winner.q)
        last = self.places(auction) - 1 - place
        price = 0.0
        for step in range(last + 1):
            rival = below[step].score if step < len(below) else 0.0
            added = discount**step * (1 - discount) if step < last else discount**step
            price += added * max(self.bid_to_beat(winner, rival), reserve)
        return max(price, reserve)  # the weights sum to 1 up to rounding

    def bid_to_beat(self, winner: Ranked, score: float) -> float:
        """The bid per click at which `winner` has this score."""
        return score / winner.q
