"""Generate, inject, rewrite: write the answer without ads, then insert each winner's ad with one more call.

Sources: Feizi, Hajiaghayi, Rezaei, Shin (2023), "Online advertisements with LLMs" (arXiv 2311.07601), whose
modification module turns an organic answer into one with an ad; Mordo, Tennenholtz, Kurland (2024), "Sponsored question
answering" (arXiv 2407.04471), who fuse the organic answer with an ad and use truthful payments; GEM-Bench (2025, arXiv
2509.14221), whose generate-inject-rewrite pipelines call the model to rewrite the answer after the insertion.

This file ranks by the click probability predicted before the rewriting and uses position VCG. With one ad that is the
second price of Mordo et al. Two parts of these papers are not implemented: the weight on the user's utility of each
fused answer (here all fused answers count the same; `quality_preserving` has such a weight), and GEM-Bench's search for
the place of insertion, which the rewriting call chooses here (`gem_insert` has it, and the writers `insert` and
`insert_smooth`).
"""

from __future__ import annotations

import numpy as np

from simenv import markup, outcome
from simenv.ctr.models import CTRModel
from simenv.files.prompts import read_prompt
from simenv.llm import LLM, Sampling
from simenv.records import Ad, Auction, Outcome
from simenv.writer.writer import corrected

from .vcg import VCG


class Rewrite(VCG):
    """Generate, inject, rewrite: VCG for positions, with one call per winner that rewrites the answer around its ad.

    K winners need 1 + K calls. DSIC, with the claims of VCG. A rewriting is rejected if it loses or changes a link, if
    its ads are not in the order of their slots, or if it says more of an ad than the ad's copy. The ad then gets a
    sentence at the end instead. A model that cannot follow formats never rewrites: all ads get such a sentence.

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
            if list(links) == shown and not violations and fused == corrected(auction, fused):
                text = fused
                rewritten.append(ad_id)
            else:
                text = await self._writer.add_sentence(auction, text, ad)
        return outcome(auction, text, prices, details={"rewritten": rewritten})

    async def _rewrite(self, auction: Auction, text: str, ad: Ad) -> str:
        prompt = read_prompt(__package__ or "mechanisms", "rewrite").format(
            query=auction.query.text,
            answer=text,
            title=ad.title,
            advertiser=ad.advertiser,
            body=ad.body,
            link=ad.link,
        )
        reply = await self._llm.complete(prompt, key=(auction.id, "rewrite", ad.id), sampling=Sampling(max_tokens=600))
        return reply.text.strip()
