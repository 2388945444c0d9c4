"""Base class of auctions that rank candidates before any text is written.

They score every candidate, show the best ones in the order of their scores, and write the answer with them. A subclass
defines the price of each place, and may define another score.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simenv import make_writer, outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.records import Auction, Bid, Outcome
from simenv.writer.told import told_with_ads


class Ranked(NamedTuple):
    """One eligible bid."""

    bid: Bid
    q: float
    """Click probability before any text is written, above 0."""
    score: float
    """The score that it is ranked by, in currency per answer."""
    weight: float = 1.0
    """Factor in the score beside bid and units."""

    @property
    def units(self) -> float:
        """Units of the bid that showing the ad brings: q, or 1 for a bid per view."""
        return self.bid.units(self.q)


class RankingAuction:
    """Base of ranking auctions: ranks by score and shows the best ads. A subclass implements `price`.

    With u_i = q_i for a bid per click and u_i = 1 for a bid per view, the score is b_i u_i. A subclass whose prices are
    right for both has both in `units`.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i, the click probability before any text is written.
        slots: Number of ads; the auction's max_ads by default.
        writer: Who writes the answer around the winners: "plain", or another writer (`simenv.make_writer`).

    Raises:
        InputError: `slots` is not an integer of 0 or more, or the writer does not fit the model.
        UnknownName: unknown writer.
    """

    def __init__(
        self, llm: LLM, ctr_model: CTRModel | None = None, slots: int | None = None, writer: str = "plain"
    ) -> None:
        if slots is not None and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 0):
            raise InputError(f"slots must be a number of ads, 0 or more, got {slots!r}")
        self.ctr_model = ctr_model or CosineCTR()
        self.slots = slots
        self._writer = make_writer(writer, llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        prices = self.allocate(auction)
        winners = [auction.bid_of(ad_id).ad for ad_id in prices]
        told = await told_with_ads(self._writer, auction, winners)
        return outcome(auction, told.text, prices, details=dict(told.details))

    def allocate(self, auction: Auction, weights: Floats | None = None) -> dict[str, float]:
        """Winners in slot order with their price per click, or per view; `weights` as for `rank`."""
        ranked = self.rank(auction, weights)
        return {
            # min: multiplying and dividing by q may exceed the bid by a rounding error
            winner.bid.ad.id: min(winner.bid.amount, self.price(auction, ranked, place))
            for place, winner in enumerate(ranked[: self.places(auction)])
        }

    def rank(self, auction: Auction, weights: Floats | None = None) -> list[Ranked]:
        """The eligible bids, best first; ties are broken by the candidates' order.

        A bid is eligible if it is positive, at least its reserve, and has a positive click probability: an ad with an
        expected payment of 0 gets no slot.

        Args:
            auction: The auction.
            weights: Factors of the scores, above 0: shape (n,); all 1 by default.
        """
        factors = np.ones(len(auction.bids)) if weights is None else weights
        eligible = [
            Ranked(bid, float(q), float(weight) * self.score(bid, float(q)), float(weight))
            for bid, q, weight in zip(auction.bids, self.ctr_model.relevance(auction), factors, strict=True)
            if bid.amount * q > 0 and bid.amount >= self.reserve(auction, bid, float(q))
        ]
        return sorted(eligible, key=lambda ranked: -ranked.score)

    def places(self, auction: Auction) -> int:
        """Number of slots."""
        return auction.max_ads if self.slots is None else self.slots

    def score(self, bid: Bid, q: float) -> float:
        """b_i u_i, in currency per answer."""
        return bid.amount * bid.units(q)

    def reserve(self, auction: Auction, bid: Bid, q: float) -> float:
        """The lowest eligible bid of this advertiser, in currency per click; per view it is the reserve times q."""
        return auction.reserve if bid.unit == "click" else auction.reserve * q

    def price(self, auction: Auction, ranked: list[Ranked], place: int) -> float:
        """Price of a click on the ad at `place`, or of a view, in currency; at most the bid up to rounding."""
        raise NotImplementedError
