"""VCG for positions: the ranking of GSP, and each winner pays what its place costs those below.

Source: Vickrey (1961), Clarke (1971), Groves (1973); for positions Varian (2007), "Position auctions", and Edelman,
Ostrovsky, Schwarz (2007), section III. The reserve enters as a further bidder at every place: clipping the plain VCG
price at the reserve instead would not be truthful.
"""

from __future__ import annotations

from simenv.mechanism import Claim
from simenv.records import Auction

from .ranking import Ranked, RankingAuction


class VCG(RankingAuction):
    """Rank by s_i = b_i q_i; slot j is seen with weight alpha_j = discount^(j-1), and alpha_(K+1) = 0.

    The winner of slot j pays per click

        sum_(l = j..K) (alpha_l - alpha_(l+1)) max(s_(l+1), r q_(j)) / (alpha_j q_(j))

    with r the reserve: for each place from its own down, the bid that just holds it, weighted by the attention that
    the place adds. With one slot this is the second price.

    Truthful, individually rational and monotone where clicks are alpha_j q_i, which is what the `ctr_model` predicts;
    in a world with other position effects its regret is measured, not claimed.

    Args:
        llm, ctr_model, slots: See `RankingAuction`.
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
        return max(price, reserve)  # the weights sum to 1 but for rounding

    def bid_to_beat(self, winner: Ranked, score: float) -> float:
        """The bid per click with which `winner` would have this score."""
        return score / winner.q
