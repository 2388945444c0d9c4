"""GEM-Bench's pipelines: retrieve ads, insert the one that breaks the answer least, and smooth the text on request.

Source: GEM-Bench (Hu, Zhang, Shi, Xiao, 2025, "GEM-Bench: a benchmark for ad-injected response generation within
generative engine marketing", arXiv 2509.14221) and its public code.

    retrieve="answer", smooth=False     GI-R: retrieves by the answer, one call
    retrieve="answer", smooth=True      GIR-R: the same, then one call smooths the text
    retrieve="prompt", smooth=True      GIR-P: retrieves by the question, two calls

Allocation, without bids: of the `top` ads most similar to the answer (or the question), the ad and the place with the
least disruption (`simenv.writer.gaps`, which has the formula and where it differs from their code). One ad, as there.
An ad that bids 0 or less than the reserve is not retrieved.

GEM-Bench has no payments. Ours is the bid per click, as of `prompted`, so that revenue can be compared. A lower bid,
down to the reserve, loses nothing: an audit finds a regret of 99.9% for utility maximisers, and revenue falls as bids
learn. Nothing is claimed of incentives but that nobody pays more than its bid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from simenv import outcome
from simenv.encoder import Encoder, default_encoder, know
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.one_thread import product
from simenv.records import Ad, Auction, Outcome
from simenv.writer.copy_check import own_words
from simenv.writer.gaps import disruption, gaps, with_sentences
from simenv.writer.insert import SmoothWriter
from simenv.writer.writer import lead

Retrieve = Literal["answer", "prompt"]


class GemInsert:
    """GEM-Bench's pipelines: retrieves an ad by similarity, inserts it where the answer breaks least, first price.

    Individually rational. Bids choose nothing, so it makes no other claim.

    Args:
        llm: The Ad-LLM.
        retrieve: "answer": ads similar to the answer are retrieved (GI-R, GIR-R); "prompt": similar to the question
            (GIR-P).
        smooth: Whether one more call smooths the text around the ad (GIR-R, GIR-P). The log says whether it could:
            `details["smoothed"]`.
        top: Number of retrieved ads.
        encoder: Embeds ads, answer and sentences; the embedded one by default.

    Raises:
        InputError: another `retrieve`, or `top` is not an integer of 1 or more.
    """

    name = "gem_insert"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL})

    def __init__(
        self,
        llm: LLM,
        retrieve: Retrieve = "answer",
        smooth: bool = False,
        top: int = 5,
        encoder: Encoder | None = None,
    ) -> None:
        if retrieve not in get_args(Retrieve):
            raise InputError(f"retrieve must be one of {', '.join(get_args(Retrieve))}, got {retrieve!r}")
        if isinstance(top, bool) or not isinstance(top, int) or top < 1:
            raise InputError(f"top must be a number of ads, 1 or more, got {top!r}")
        self.retrieve = retrieve
        self.smooth = smooth
        self.top = top
        self._given_encoder = encoder
        self._writer = SmoothWriter(llm, encoder)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        answer = await self._writer.answer(auction)
        ads = await self._retrieved(auction, answer) if auction.max_ads else []
        if not ads:
            return outcome(auction, answer)
        ad, place = await self._least_disruptive(answer, ads)
        text = with_sentences(answer, [place], [f"{lead(ad, 0)} {own_words(ad)}"])
        details = {}
        if self.smooth:
            smoothed = await self._writer.smoothed(auction, text)
            text, details = smoothed or text, {"smoothed": bool(smoothed)}
        return outcome(auction, text, {ad.id: auction.bid_of(ad.id).amount}, details=details)

    async def _retrieved(self, auction: Auction, answer: str) -> list[Ad]:
        """The `top` most similar ads, best first."""
        bids = [bid for bid in auction.bids if bid.amount > 0 and bid.amount >= auction.reserve]
        if not bids:
            return []
        cosines = np.array([bid.relevance for bid in bids])
        if self.retrieve == "answer":
            texts = [answer, *(bid.ad.text for bid in bids)]
            await know(self._encoder, texts)
            vectors = self._encoder.encode(texts)
            cosines = product(vectors[1:], vectors[0])
        return [bids[i].ad for i in np.argsort(-cosines, kind="stable")[: self.top]]

    async def _least_disruptive(self, answer: str, ads: Sequence[Ad]) -> tuple[Ad, int]:
        """The ad and the offset where it breaks the answer least; the first ad at the end if there is no gap."""
        cuts = gaps(answer)
        if not cuts:
            return ads[0], len(answer)
        costs = await disruption(self._encoder, answer, cuts, ads)
        ad, gap = np.unravel_index(int(np.argmin(costs)), costs.shape)
        return ads[int(ad)], cuts[int(gap)]

    @property
    def _encoder(self) -> Encoder:
        return self._given_encoder or default_encoder()
