"""Fixed slots: the answer without ads, then sponsored lines below it, ranked and priced by GSP.

This is the baseline for current answer engines (Perplexity, Copilot): the ads are shown outside the answer, each with
the advertiser's own copy, so no text is generated for them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from simenv import markup, outcome
from simenv.records import Auction, Outcome

from .gsp import GSP


class FixedSlots(GSP):
    """Generalised second-price auction for fixed slots: lists the winners below an answer without ads.

    Arguments and claims are those of GSP.
    """

    name = "fixed_slots"

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return self.listed(auction, await self._writer.answer(auction), self.allocate(auction))

    def listed(self, auction: Auction, answer: str, prices: Mapping[str, float]) -> Outcome:
        """The answer with the winners below it, in this order, each labelled as sponsored."""
        lines = [answer]
        for ad_id in prices:
            ad = auction.bid_of(ad_id).ad
            lines.append(f"Sponsored: {ad.link} {markup.neutral(ad.body, auction)}".rstrip())
        return outcome(auction, "\n".join(lines), prices)
