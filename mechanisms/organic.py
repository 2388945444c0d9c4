"""Organic: the answer without ads, the reference for answer quality (the ad-free counterfactual)."""

from __future__ import annotations

import numpy as np

from simenv import Writer, outcome
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.records import Auction, Outcome, Unit


class Organic:
    """The answer without ads, as a reference: no ads, no payments.

    Args:
        llm: The Ad-LLM.
    """

    name = "organic"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.TRUTHFUL_UM, Claim.BID_FREE_CANDIDATES})
    units: frozenset[Unit] = frozenset({"click", "view"})

    def __init__(self, llm: LLM) -> None:
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return outcome(auction, await self._writer.answer(auction))
