"""A language model for experiments at link level: it chooses like the inner model and copies the ads' own text.

Every mechanism runs on it without changes, at a hundredth of the cost of full answers. Choices (`OneOf`) are drawn from
the inner model's exact distribution, which is computed once per prompt. An ad's sentence is the first sentence of its
own copy, and the organic answer is empty.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterable, Sequence
from contextvars import Context

import numpy as np

from simenv.llm import LLM, Capability, Completion, LinksOnly, OneOf
from simenv.llm.requests import Request, ScoreRequest, Scores
from simenv.markup import LINK
from simenv.records import Ad, Usage
from simenv.seeding import keyed_rng


class LinkLevelLLM(LLM):
    """A link-level model: see the module docstring.

    Args:
        inner: The model that chooses.
        ads: The ads whose copy is used.
    """

    follows_formats = False
    capabilities = frozenset({Capability.CONSTRAINT, Capability.PREFILL, Capability.LOGPROBS})

    def __init__(self, inner: LLM, ads: Iterable[Ad]) -> None:
        super().__init__()
        self.name = f"{inner.name} at link level"
        self._inner = inner
        self._copy = {ad.id: re.split(r"(?<=[.!?])\s", ad.body or ad.advertiser)[0].rstrip(".!?") for ad in ads}

    async def _generate(self, request: Request) -> Completion:
        if isinstance(request.constraint, OneOf):
            return await self._choose(request, request.constraint)
        assert isinstance(request.constraint, LinksOnly)
        links = list(LINK.finditer(request.prompt.prefill))
        text = f" {self._copy[links[-1]['id']]}." if links else ""
        return Completion(text=text, usage=Usage(calls=1))

    async def _choose(self, request: Request, constraint: OneOf) -> Completion:
        rows = await self._read(request, constraint.options)
        logprobs = np.array([math.fsum(row) for row in rows])
        probs = np.exp(logprobs)
        drawn = int(keyed_rng("completion", *request.key).choice(len(probs), p=probs / probs.sum()))
        return Completion(text=constraint.options[drawn], logprobs=(float(logprobs[drawn]),), usage=Usage(calls=1))

    async def _score(self, request: ScoreRequest) -> Scores:
        return Scores(logprobs=await self._read(request, request.continuations))

    async def _read(self, request: Request | ScoreRequest, texts: Sequence[str]) -> tuple[tuple[float, ...], ...]:
        scoring = self._inner.logprob(request.prompt, texts, sampling=request.sampling, constraint=request.constraint)
        # In a separate context, so that the mechanism's meter counts its calls of this model, not of the inner model.
        return await asyncio.get_running_loop().create_task(scoring, context=Context())
