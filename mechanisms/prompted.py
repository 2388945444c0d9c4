"""Prompted: an untrained model sees all candidates with their bids and chooses the ads; first price per click.

Source: the "pre-trained LLM" row of LLM-Auction, Table 2; prompt of section 5.1, payment of eq. 7.
"""

from __future__ import annotations

import numpy as np

from simenv import Writer, outcome
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.records import Auction, Outcome


class Prompted:
    """Prompted language model: chooses the ads given all bids; they pay their bids per click.

    Individually rational. It makes no other claim: an untrained model need not be monotone in bids.

    Args:
        llm: The Ad-LLM.
    """

    name = "prompted"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL})

    def __init__(self, llm: LLM) -> None:
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        response = await self._writer.own_choice(auction, show_bids=True)
        # A text may link an ad that the prompt did not offer (its bid is below the reserve): it then pays the reserve.
        prices = {bid.ad.id: max(bid.amount, auction.reserve) for bid in auction.bids}
        return outcome(auction, response, prices)
