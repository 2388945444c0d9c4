"""What auctions that rank candidates before any text is written have in common.

Score every candidate, show the best in the order of their scores, write the answer around them. A mechanism of this
family says what each place costs, and may score otherwise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simenv import outcome
from simenv.ctr.models import CosineCTR, CTRModel
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.records import Auction, Bid, Outcome

from .writer import Writer


class Ranked(NamedTuple):
    """One bidder that takes part."""

    bid: Bid
    q: float
    """Click probability before any text is written, above 0."""
    score: float
    """What ranks it, in currency per answer."""


class RankingAuction:
    """Ranks by score, shows the best; `price` is the subclass's.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i, the click probability before any text is written.
        slots: Number of ads; the auction's max_ads by default.

    Raises:
        InputError: slots that is not a number of ads.
    """

    def __init__(self, llm: LLM, ctr_model: CTRModel | None = None, slots: int | None = None) -> None:
        if slots is not None and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 0):
            raise InputError(f"slots must be a number of ads, 0 or more, got {slots!r}")
        self.ctr_model = ctr_model or CosineCTR()
        self.slots = slots
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        prices = self.allocate(auction)
        winners = [auction.bid_of(ad_id).ad for ad_id in prices]
        response = await self._writer.with_ads(auction, winners)
        return outcome(auction, response, prices)

    def allocate(self, auction: Auction) -> dict[str, float]:
        """Winners in slot order with their price per click."""
        ranked = self.rank(auction)
        return {
            # min: dividing what was multiplied may overshoot the bid by a rounding error
            winner.bid.ad.id: min(winner.bid.amount, self.price(auction, ranked, place))
            for place, winner in enumerate(ranked[: self.places(auction)])
        }

    def rank(self, auction: Auction) -> list[Ranked]:
        """Those who take part, best first; ties are broken by the candidates' order.

        They bid something, at least their reserve, and may be clicked at all: an ad that pays nothing is not worth a
        slot.
        """
        taking_part = [
            Ranked(bid, float(q), self.score(bid, float(q)))
            for bid, q in zip(auction.bids, self.ctr_model.relevance(auction), strict=True)
            if bid.amount * q > 0 and bid.amount >= self.reserve(auction, bid, float(q))
        ]
        return sorted(taking_part, key=lambda ranked: -ranked.score)

    def places(self, auction: Auction) -> int:
        """Number of slots."""
        return auction.max_ads if self.slots is None else self.slots

    def score(self, bid: Bid, q: float) -> float:
        """b_i q_i, in currency per answer."""
        return bid.amount * q

    def reserve(self, auction: Auction, bid: Bid, q: float) -> float:
        """The least bid of this advertiser that takes part, in currency per click."""
        return auction.reserve

    def price(self, auction: Auction, ranked: list[Ranked], place: int) -> float:
        """What a click on the ad at `place` costs, in currency; at most the bid but for rounding."""
        raise NotImplementedError
