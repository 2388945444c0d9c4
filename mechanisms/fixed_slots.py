"""Fixed slots: the answer without ads, then sponsored lines below it, ranked and priced by GSP.

The baseline of what answer engines do today: the ads stand outside the answer (Perplexity, Copilot), each in the
advertiser's own words, so no text is written for them.
"""

from __future__ import annotations

import numpy as np

from simenv import outcome
from simenv.records import Auction, Outcome

from .gsp import GSP


class FixedSlots(GSP):
    """GSP over the same scores; the winners are listed under the answer. Arguments and claims as in GSP."""

    name = "fixed_slots"

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        prices = self.allocate(auction)
        lines = [await self._writer.answer(auction)]
        for ad_id in prices:
            ad = auction.bid_of(ad_id).ad
            lines.append(f"Sponsored: {ad.link} {ad.body}".rstrip())
        return outcome(auction, "\n".join(lines), prices)
