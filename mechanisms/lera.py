"""LERA: retrieval relevance selects a short list, the language model's relevance ranks it, prices use both thresholds.

Source: Sun, Song, Zhang, Chen, Chu, Zhang, Yu, Xu, Zheng, Deng (2026), "LERA: LLM-enhanced RAG for ad auction in
generative chatbots" (arXiv 2605.16474). We had access to the abstract only. It says: embeddings pre-select a small set
of ads; the logits of the language model over this set are the refined relevance; scores combine relevance and bids; the
payment is the critical value over both thresholds, which makes the mechanism truthful for utility maximisers.

We chose the rest. Both stages multiply by the bid, because otherwise the first stage would not affect the price. The
refined relevance l_i is the softmax of the logits: the probability that the model names ad i as the best of the list.
One auction ranks several ads, with position weights and critical values as in position VCG. The score is b_i q_i in the
first stage and b_i l_i in the second:

    critical bid for slot s = max(r, coarse_i, rival_s / l_i),   coarse_i = (m-th best b_j q_j of the others) / q_i,

where m is the length of the list. If ad i is on the list, the other ads on it do not depend on b_i, so l_i does not
depend on b_i either.

This is the only mechanism here in which the language model judges relevance before any text is written.
"""

from __future__ import annotations

import math
import re

import numpy as np

from simenv import outcome
from simenv.ctr.models import CTRModel
from simenv.errors import InputError
from simenv.files.prompts import read_prompt
from simenv.llm import LLM, Capability, OneOf, Prompt, Sampling
from simenv.records import Ad, Auction, Bid, Outcome
from simenv.writer.told import told_with_ads

from .ranking import Ranked
from .vcg import VCG

_SCORE = re.compile(r"^\W*(\d{1,3})\s*[:.)=-]\s*(\d{1,3})\s*$", re.MULTILINE)
_NEEDED = (Capability.LOGPROBS, Capability.CONSTRAINT, Capability.PREFILL)


class LERA(VCG):
    """LERA: ranks a short list by bid x relevance to the language model, pays the critical bid per click.

    The short list has the m highest b_i q_i; it is ranked by b_i l_i. DSIC, with the claims of VCG. If the model gives
    no log-probabilities, it is prompted for a score of each ad instead. If its reply cannot be parsed, ads are ranked
    by retrieval relevance, and the outcome's details record this.

    Args:
        llm: The Ad-LLM, which also judges relevance.
        ctr_model, slots, writer: See `RankingAuction`.
        shortlist: m, the number of candidates whose relevance the language model judges.

    Raises:
        InputError: `shortlist` is below 1.
    """

    name = "lera"

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        slots: int | None = None,
        shortlist: int = 4,
        writer: str = "plain",
    ) -> None:
        super().__init__(llm, ctr_model, slots, writer)
        if isinstance(shortlist, bool) or not isinstance(shortlist, int) or shortlist < 1:
            raise InputError(f"shortlist must be 1 or more, got {shortlist!r}")
        self.shortlist = shortlist
        self._llm = llm

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        coarse = self.rank(auction) if self.places(auction) else []
        listed = coarse[: self.shortlist]
        listed.sort(key=lambda ranked: auction.bids.index(ranked.bid))  # the prompt must not reveal the order of bids
        judged = await self.judge(auction, [ranked.bid.ad for ranked in listed])
        refined = judged or [ranked.q for ranked in listed]
        fine = [
            Ranked(r.bid, q, r.bid.amount * q) for r, q in zip(listed, refined, strict=True) if r.bid.amount * q > 0
        ]
        fine.sort(key=lambda ranked: -ranked.score)
        prices = {}
        for place, winner in enumerate(fine[: self.places(auction)]):
            hurdle = self.hurdle(coarse, winner.bid)
            # An ad off the short list is not shown, so the first-stage threshold acts on the price as a reserve.
            priced = auction.model_copy(update={"reserve": max(auction.reserve, hurdle)})
            prices[winner.bid.ad.id] = min(winner.bid.amount, self.price(priced, fine, place))
        told = await told_with_ads(self._writer, auction, [r.bid.ad for r in fine[: len(prices)]])
        relevance = {ranked.bid.ad.id: q for ranked, q in zip(listed, refined, strict=True)}
        judge = "language model" if judged else "retriever"
        return outcome(auction, told.text, prices, details={"relevance": relevance, "judge": judge, **told.details})

    def hurdle(self, coarse: list[Ranked], bid: Bid) -> float:
        """The lowest bid, in currency per click, at which this ad is on the short list."""
        own = next(ranked for ranked in coarse if ranked.bid == bid)
        others = [ranked.score for ranked in coarse if ranked.bid != bid]
        return others[self.shortlist - 1] / own.q if len(others) >= self.shortlist else 0.0

    async def judge(self, auction: Auction, ads: list[Ad]) -> list[float]:
        """l_i of each ad, in [0, 1]; empty if there are no ads or the model's reply could not be parsed."""
        if not ads:
            return []
        if all(self._llm.can(capability) for capability in _NEEDED):
            return await self._probabilities(auction, ads)
        lines = "\n".join(f"{number}. {ad.text}" for number, ad in enumerate(ads, start=1))
        reply = await self._llm.complete(
            read_prompt(__package__ or "mechanisms", "relevance_free").format(
                candidates=lines, query=auction.query.text
            ),
            key=(auction.id, "relevance"),
            sampling=Sampling(temperature=0.0, max_tokens=16 * len(ads)),
        )
        scores = {int(number): int(score) for number, score in _SCORE.findall(reply.text)}
        if set(scores) != set(range(1, len(ads) + 1)) or max(scores.values()) > 100:
            return []
        return [scores[number] / 100 for number in sorted(scores)]

    async def _probabilities(self, auction: Auction, ads: list[Ad]) -> list[float]:
        """Probability that the model names each ad as the best of the list; the values sum to 1."""
        lines = "\n".join(f"- {ad.text}" for ad in ads)
        # Two ads with the same title are one option and share its probability.
        titles = [f" {ad.title}" for ad in ads]
        rows = await self._llm.logprob(
            Prompt(
                user=read_prompt(__package__ or "mechanisms", "relevance").format(
                    candidates=lines, query=auction.query.text
                ),
                prefill="Best choice:",
            ),
            titles,
            constraint=OneOf(options=tuple(dict.fromkeys(titles))),
        )
        return [math.exp(sum(row)) / titles.count(title) for row, title in zip(rows, titles, strict=True)]
