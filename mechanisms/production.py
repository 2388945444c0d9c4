"""Production: the relevance-weighted second price by which an answer engine sells cards, per click and per view.

Source: the help pages for advertisers of ChatGPT ads, September 2026. They say: cards below the answer, set apart and
labelled; bids are a maximum per click (CPC) or per thousand views (CPM); the auction is "relevance-weighted,
second-price". That the answer is not influenced is from public notes, unchecked. Not public are how relevance weighs,
reserves and ties: the formulas here are our reading. That no bid gains with one card is derived by us and checked
numerically. A bid per view is of one view here, not of a thousand.

Score. u_i = 1 for a bid per view and q_i for a bid per click; w_i in (0, 1] is the relevance in context;

    s_i = w_i b_i u_i,    w_i = ((1 + cosine_i) / 2)^power, at least 0.001

Allocation. The highest score wins the card. It is shown if b_i u_i >= r, that is s_i >= w_i r, with r the reserve per
view. The auction's reserve per click binds too: b_i >= reserve per click, and b_i >= reserve x q_i per view.

Payment. The winner pays the smallest bid that keeps the card, max(s_(2), w_1 r) / (w_1 u_1), per view or per click as
it bids.

The weights depend on no bid, so with one card the rule is a second price with weights, and truth is a dominant strategy
for utility maximisers of both kinds: a threshold does not depend on the own bid. It is not for value maximisers whose
target is over many auctions: what one leaves below its target pays for another. With more cards it is GSP, which is not
truthful. With w = 1, bids per click alone and no reserve per view it is `fixed_slots` with one slot.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from simenv.ctr.models import CTRModel, Floats
from simenv.encoder import Encoder
from simenv.errors import InputError, UnknownName
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.records import Auction, Bid, Outcome

from .fixed_slots import FixedSlots
from .passages import in_context

_LEAST_WEIGHT = 0.001
"""Weights are above 0, so that prices are finite."""
_RELEVANCE_TO = ("query", "answer")


class Production(FixedSlots):
    """Relevance-weighted second price of an answer engine: one labelled card under the answer, sold per click or view.

    Args:
        llm, ctr_model, writer: See `RankingAuction`.
        slots: Number of cards, if the auction's max_ads allows as many. With one, truthful for utility maximisers; with
            more it is GSP and claims no truth.
        view_reserve: r, currency per view: what showing a card must be expected to pay at least.
        relevance_power: Power of the relevance in the score, at least 0; 0 gives all ads the weight 1.
        relevance_to: What relevance is to: "query" takes the retriever's cosines; "answer" computes those of query and
            answer together.
        encoder: Encoder for relevance to the answer; the embedded one by default.

    Raises:
        InputError: a number out of range, or `slots` is not an integer of 0 or more.
        UnknownName: unknown `relevance_to` or writer.
    """

    name = "production"

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        slots: int = 1,
        writer: str = "plain",
        view_reserve: float = 0.0,
        relevance_power: float = 1.0,
        relevance_to: Literal["query", "answer"] = "query",
        encoder: Encoder | None = None,
    ) -> None:
        super().__init__(llm, ctr_model, slots, writer)
        for name, number in (("view_reserve", view_reserve), ("relevance_power", relevance_power)):
            if not 0 <= number < math.inf:
                raise InputError(f"{name} must be at least 0 and finite, got {number}")
        if relevance_to not in _RELEVANCE_TO:
            raise UnknownName("relevance_to", relevance_to, _RELEVANCE_TO)
        self._view_reserve = view_reserve
        self._power = relevance_power
        self._relevance_to = relevance_to
        self._encoder = encoder
        claims = {Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.BID_FREE_CANDIDATES}
        self.claims = frozenset(claims | {Claim.TRUTHFUL_UM} if slots <= 1 else claims)

    def places(self, auction: Auction) -> int:
        """Number of cards."""
        return min(super().places(auction), auction.max_ads)

    def allocate(self, auction: Auction, weights: Floats | None = None) -> dict[str, float]:
        """Winners with their price per click, or per view; `weights` are those of the query by default."""
        return super().allocate(auction, self.weights(auction) if weights is None else weights)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        answer = await self._writer.answer(auction)
        seen = in_context(auction, answer, self._encoder) if self._relevance_to == "answer" else auction
        return self.listed(auction, answer, self.allocate(auction, self.weights(seen)))

    def reserve(self, auction: Auction, bid: Bid, q: float) -> float:
        """The lowest eligible bid, in currency per click or per view."""
        return max(super().reserve(auction, bid, q), self._view_reserve / bid.units(q))

    def weights(self, auction: Auction) -> Floats:
        """w_i of every candidate, in (0, 1]: shape (n,)."""
        cosines = np.clip([bid.relevance for bid in auction.bids], -1.0, 1.0)
        return np.maximum(_LEAST_WEIGHT, ((1 + cosines) / 2) ** self._power)
