"""Generate, inject, rewrite: the answer is written without ads, then each winner's copy is worked in by a second call.

Sources: Feizi, Hajiaghayi, Rezaei, Shin (2023), "Online advertisements with LLMs" (arXiv 2311.07601), whose
modification module turns an organic answer into one with an ad; Mordo, Tennenholtz, Kurland (2024), "Sponsored question
answering" (arXiv 2407.04471), who fuse the organic answer with an ad and charge the winner so that bids are truthful;
GEM-Bench (2025, arXiv 2509.14221), whose generate-inject-rewrite pipelines put a rewriting call after the insertion.

Followed here: the auction is on the click probability predicted before the rewriting, with position VCG, which is
Mordo et al.'s second price where there is one ad. Two things of theirs are left out: the weight on the user's utility
of each fused answer (as if all were equal; `quality_preserving` has such a weight), and GEM-Bench's search for the
place of insertion, which is left to the rewriting call.
"""

from __future__ import annotations

import numpy as np

from simenv import markup, outcome
from simenv.ctr.models import CTRModel
from simenv.llm import LLM, Sampling
from simenv.records import Ad, Auction, Outcome

from .vcg import VCG
from .writer import read_prompt


class Rewrite(VCG):
    """VCG's winners and prices; 1 + K calls, each of the K rewriting the whole answer. Claims as in VCG.

    A rewriting that loses or changes a link, or puts the ads in another order than that which they pay for, is thrown
    away and the ad gets a sentence at the end instead. So does every ad where the model is too small to rewrite.

    Args:
        llm, ctr_model, slots: See `RankingAuction`.
    """

    name = "rewrite"

    def __init__(self, llm: LLM, ctr_model: CTRModel | None = None, slots: int | None = None) -> None:
        super().__init__(llm, ctr_model, slots)
        self._llm = llm

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        prices = self.allocate(auction)
        text = await self._writer.answer(auction)
        shown: list[str] = []
        rewritten: list[str] = []
        for ad_id in prices:
            ad = auction.bid_of(ad_id).ad
            shown.append(ad_id)
            fused = await self._rewrite(auction, text, ad) if self._llm.follows_formats else ""
            links, violations = markup.parse(fused, auction)
            if list(links) == shown and not violations:
                text = fused
                rewritten.append(ad_id)
            else:
                text = await self._writer.add_sentence(auction, text, ad)
        return outcome(auction, text, prices, details={"rewritten": rewritten})

    async def _rewrite(self, auction: Auction, text: str, ad: Ad) -> str:
        prompt = read_prompt("rewrite").format(
            query=auction.query.text,
            answer=text,
            title=ad.title,
            advertiser=ad.advertiser,
            body=ad.body,
            link=ad.link,
        )
        reply = await self._llm.complete(prompt, key=(auction.id, "rewrite", ad.id), sampling=Sampling(max_tokens=600))
        return reply.text.strip()
