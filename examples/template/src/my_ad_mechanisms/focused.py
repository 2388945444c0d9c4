"""Focused: one ad per answer, and none that does not fit the question."""

from __future__ import annotations

import numpy as np
import simenv
from simenv.llm import LLM


class Focused:
    """Second-price auction for one place, among ads that fit the question.

    The ad with the highest bid x predicted click probability wins, if its relevance is at least `least`. It pays per
    click what it would have to bid to win.

    Args:
        llm: Writes the answer.
        ctr_model: Predicts clicks. The claims hold for its predictions.
        least: Smallest relevance of an ad that may be shown: a cosine.
    """

    name = "focused"
    claims = frozenset({simenv.Claim.INDIVIDUALLY_RATIONAL, simenv.Claim.MONOTONE, simenv.Claim.TRUTHFUL_UM})

    def __init__(self, llm: LLM, ctr_model: simenv.CTRModel, least: float = 0.2) -> None:
        self.writer = simenv.Writer(llm)
        self.ctr_model = ctr_model
        self.least = least

    async def run(self, auction: simenv.Auction, rng: np.random.Generator) -> simenv.Outcome:
        """Answers an auction. All draws come from `rng`, or from keys that have the auction's id in them."""
        clicks = self.ctr_model.relevance(auction)
        fitting = [
            (bid.amount * click, click, bid)
            for bid, click in zip(auction.bids, clicks, strict=True)
            if bid.relevance >= self.least and bid.amount > 0 and bid.amount >= auction.reserve
        ]
        ranked = sorted(fitting, key=lambda candidate: -candidate[0])  # of equals the retriever's first one wins
        ads, prices = [], {}
        if ranked and auction.max_ads > 0:
            _, click, winner = ranked[0]
            to_beat = ranked[1][0] if len(ranked) > 1 else 0.0
            ads, prices = [winner.ad], {winner.ad.id: max(auction.reserve, to_beat / click)}
        text = await self.writer.with_ads(auction, ads)
        return simenv.outcome(auction, text, prices)
