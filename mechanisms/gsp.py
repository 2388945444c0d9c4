"""GSP: the generalised second-price auction over candidates, then the answer is written around the winners.

Source: Edelman, Ostrovsky, Schwarz (2007), "Internet advertising and the generalized second-price auction"; Varian
(2007), "Position auctions". Ranking by bid times predicted click probability, pay per click.
"""

from __future__ import annotations

import numpy as np

from simenv import outcome
from simenv.ctr import CosineCTR, CTRModel
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.records import Auction, Outcome

from .writer import Writer


class GSP:
    """Rank by s_i = b_i q_i; the winner of slot j pays per click max(s_(j+1) / q_(j), reserve).

    Individually rational and monotone; NOT truthful: with two slots or more an advertiser can gain by bidding less.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i, the click probability before any text is written.
        slots: Number of ads; the auction's max_ads by default.
    """

    name = "gsp"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE})

    def __init__(self, llm: LLM, ctr_model: CTRModel | None = None, slots: int | None = None) -> None:
        self.ctr_model = ctr_model or CosineCTR()
        self.slots = slots
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        prices = self.allocate(auction)
        winners = [bid.ad for ad_id in prices if (bid := auction.bid_of(ad_id))]
        response = await self._writer.with_ads(auction, winners)
        return outcome(auction, response, prices)

    def allocate(self, auction: Auction) -> dict[str, float]:
        """Winners in slot order with their price per click.

        Only positive bids at or above the reserve take part: an ad that pays nothing is not worth a slot. Ties are
        broken by the candidates' order.
        """
        q = self.ctr_model.relevance(auction)
        taking_part = [i for i, bid in enumerate(auction.bids) if bid.amount > 0 and bid.amount >= auction.reserve]
        ranked = sorted(((auction.bids[i].amount * q[i], -i) for i in taking_part), reverse=True)
        prices = {}
        slots = auction.max_ads if self.slots is None else self.slots
        for place, (_, minus_i) in enumerate(ranked[:slots]):
            bid = auction.bids[-minus_i]
            runner_up = ranked[place + 1][0] if place + 1 < len(ranked) else 0.0
            # min: dividing what was multiplied may overshoot the bid by a rounding error
            prices[bid.ad.id] = min(bid.amount, max(runner_up / q[-minus_i], auction.reserve))
        return prices
