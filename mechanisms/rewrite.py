"""Generate, inject, rewrite: write the answer without ads, then insert each winner's ad with one more call.

Sources: Feizi, Hajiaghayi, Rezaei, Shin (2023), "Online advertisements with LLMs" (arXiv 2311.07601), whose
modification module turns an organic answer into one with an ad; Mordo, Tennenholtz, Kurland (2024), "Sponsored question
answering" (arXiv 2407.04471), who fuse the organic answer with an ad and use truthful payments; GEM-Bench (2025, arXiv
2509.14221), whose generate-inject-rewrite pipelines call the model to rewrite the answer after the insertion.

This file ranks by the click probability predicted before the rewriting and uses position VCG. With one ad that is the
second price of Mordo et al. Two parts of these papers are not implemented: the weight on the user's utility of each
fused answer (here all fused answers count the same; `quality_preserving` has such a weight), and GEM-Bench's search for
the place of insertion, which the rewriting call chooses here (`gem_insert` has it, and the writers `insert` and
`insert_smooth`). The option `strength` is PILA's (2026, arXiv 2607.25590): see `strength.py`.
"""

from __future__ import annotations

import numpy as np

from simenv import markup, outcome
from simenv.ctr.models import CTRModel
from simenv.errors import InputError
from simenv.files.prompts import read_prompt
from simenv.llm import LLM, Sampling
from simenv.records import Ad, Auction, Outcome
from simenv.writer.writer import corrected

from .strength import MOST, NEEDED, contrasted, level
from .vcg import VCG


class Rewrite(VCG):
    """Generate, inject, rewrite: VCG for positions, with one call per winner that rewrites the answer around its ad.

    K winners need 1 + K calls. DSIC, with the claims of VCG. A rewriting is rejected if it loses or changes a link, if
    its ads are not in the order of their slots, or if it says more of an ad than the ad's copy. The ad then gets a
    sentence at the end instead. A model that cannot follow formats never rewrites without a strength: all ads get such
    a sentence.

    Args:
        llm, ctr_model, slots: See `RankingAuction`.
        strength: rho, how strongly the text advertises: -1 as little as a text without the ad, 0 as the prompt asks,
            above 0 more; at 2 and more, hardly anything else. By contrastive decoding where the model gives the
            distributions of two prompts (`strength.py`), else by a sentence of the prompt; the log says which,
            `details["strength_by"]`. By default the prompt alone decides.

    Raises:
        InputError: the strength is not a number from -1 to 1,000,000.
        MissingCapability: a strength is given, and the model neither follows formats nor gives the distributions.
    """

    name = "rewrite"

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        slots: int | None = None,
        strength: float | None = None,
    ) -> None:
        super().__init__(llm, ctr_model, slots)
        self.strength = strength
        self._llm = llm
        self._contrasts = strength is not None and all(map(llm.can, NEEDED))
        if strength is not None:
            if isinstance(strength, bool) or not isinstance(strength, int | float) or not -1 <= strength <= MOST:
                raise InputError(f"strength must be a number from -1 to {MOST:,.0f}, got {strength!r}")
            if not llm.follows_formats:
                for capability in NEEDED:
                    llm.require(capability)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        prices = self.allocate(auction)
        text = await self._writer.answer(auction)
        shown: list[str] = []
        rewritten: list[str] = []
        for ad_id in prices:
            ad = auction.bid_of(ad_id).ad
            shown.append(ad_id)
            fused = await self._rewrite(auction, text, ad)
            links, violations = markup.parse(fused, auction)
            if list(links) == shown and not violations and fused == corrected(auction, fused):
                text = fused
                rewritten.append(ad_id)
            else:
                text = await self._writer.add_sentence(auction, text, ad)
        by = {} if self.strength is None else {"strength_by": "contrast" if self._contrasts else "prompt"}
        return outcome(auction, text, prices, details={"rewritten": rewritten, **by})

    async def _rewrite(self, auction: Auction, text: str, ad: Ad) -> str:
        """The text with the ad in it, as the model writes it; empty if the model cannot."""
        if self.strength is not None and self._contrasts:
            return await contrasted(self._llm, auction, text, ad, self.strength)
        if not self._llm.follows_formats:
            return ""
        prompt = read_prompt(__package__ or "mechanisms", "rewrite").format(
            query=auction.query.text,
            answer=text,
            title=ad.title,
            advertiser=ad.advertiser,
            body=ad.body,
            link=ad.link,
        )
        if self.strength is not None:
            prompt = f"{level(self.strength)} {prompt}"
        reply = await self._llm.complete(prompt, key=(auction.id, "rewrite", ad.id), sampling=Sampling(max_tokens=600))
        return reply.text.strip()
