"""Surprise of an ad's sentence to a language model: low surprise means that it continues the text before it.

    surprise = - mean over the sentence's tokens of log p(token | question, answer so far)

A small model's surprise also rises with rare words and names. So it can rank wordings of one ad, but not ads.
"""

from __future__ import annotations

import hashlib
import math

from simenv import markup
from simenv.llm.base import LLM, Capability, Prompt, metered
from simenv.quality.embedded import EmbeddedQuality
from simenv.records import AdQuality, Auction, Feedback, Outcome, Persona, Quality
from simenv.text import sentence_around


class LikelihoodQuality:
    """Computes the embedded measures and the surprise of each shown ad, with one model call per ad.

    Args:
        inner: Computes the embedded measures.
        llm: Scores continuations.

    Raises:
        MissingCapability: the model cannot score continuations, or cannot start from a given answer prefix.
    """

    def __init__(self, inner: EmbeddedQuality, llm: LLM) -> None:
        llm.require(Capability.LOGPROBS)
        llm.require(Capability.PREFILL)
        self.name = f"likelihood:{llm.name},{inner.name}"
        # What computes the surprises is part of the measure.
        self.sha256 = hashlib.sha256(f"{inner.sha256}\n{llm.arithmetic}".encode()).hexdigest()
        self._inner = inner
        self._llm = llm

    async def measure(self, persona: Persona, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        measured = await self._inner.measure(persona, auction, outcome, ad_free)
        quality = measured.quality or Quality()
        with metered() as meter:
            rows: list[AdQuality] = []
            for row, placement in zip(quality.ads, outcome.placements, strict=True):
                surprise = await self._surprise(auction, outcome.response, placement.span)
                rows.append(row.model_copy(update={"surprise": surprise}))
        update = {"ads": tuple(rows), "usage": quality.usage + meter.usage}
        return measured.model_copy(update={"quality": quality.model_copy(update=update)})

    async def _surprise(self, auction: Auction, response: str, span: tuple[int, int]) -> float | None:
        start, stop = sentence_around(response, span)
        before = markup.strip_markup(response[:start]).rstrip()
        sentence = markup.strip_markup(response[start:stop]).strip()
        if not sentence:
            return None
        prompt = Prompt(user=auction.query.text, prefill=before)
        (scores,) = await self._llm.logprob(prompt, [f" {sentence}" if before else sentence])
        mean = -sum(scores) / len(scores) if scores else math.inf
        return max(0.0, mean) if math.isfinite(mean) else None  # the model gives the text probability 0
