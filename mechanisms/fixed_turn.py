"""Fixed turn: the one ad of a session is auctioned in a turn that does not depend on the bids.

This is what timing rules are compared with: Fang et al. (2026) report optimal stopping against the best fixed turn, and
Banchio, Mehta, Perlroth (2024) let the bids decide. With the turn fixed an ordinary second price is truthful.
"""

from __future__ import annotations

import numpy as np

from simenv import outcome
from simenv.ctr.models import CTRModel
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.records import Auction, Outcome
from simenv.sessions import SessionStart

from .vcg import VCG


class FixedTurn(VCG):
    """A second-price auction with a single ad in one turn of each session; the other turns are answered without ads.

    The ad with the highest score b_i q_i pays the second score / q_i per click, at least the reserve. DSIC
    (dominant-strategy incentive compatible) for utility maximisers, individually rational and monotone, also for the
    whole session, under the mechanism's own click predictions.

    Args:
        llm, ctr_model, writer: See `RankingAuction`.
        turn: The turn, 0 is the first; the last one of a shorter session.

    Raises:
        InputError: the turn is not an integer of 0 or more, or the writer does not fit the model.
        UnknownName: unknown writer.
    """

    name = "fixed_turn"

    def __init__(self, llm: LLM, ctr_model: CTRModel | None = None, turn: int = 0, writer: str = "plain") -> None:
        if isinstance(turn, bool) or not isinstance(turn, int) or turn < 0:
            raise InputError(f"turn must be the number of a turn, 0 or more, got {turn!r}")
        super().__init__(llm, ctr_model, slots=1, writer=writer)
        self.turn = turn

    def begin(self, session: SessionStart) -> None:
        """Nothing depends on the session; the bids are made for all of it."""

    def places(self, auction: Auction) -> int:
        return min(1, auction.max_ads)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        if auction.turn == min(self.turn, (auction.horizon or 1) - 1) and not auction.shown:
            return await super().run(auction, rng)
        return outcome(auction, await self._writer.answer(auction))
