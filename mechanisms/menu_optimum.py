"""Menu optimum: the best answer of a finite menu, the yardstick for what mechanisms earn.

It shows argmax R(y) = sum_i b_i q_i(y) - penalty(y) over the menu of `menu.py` and charges first price per click, so
with a ctr_model that knows the world's clicks no mechanism earns a higher expected reward WITH AN ANSWER OF THIS MENU.
Other answers (other wordings, longer lists from beyond the shortlist) may do better.

Source: the target of LLM-Auction (2025), eq. 5, without its KL term.
"""

from __future__ import annotations

import numpy as np

from simenv import outcome
from simenv.ctr.models import CosineCTR, CTRModel
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.objective import Objective
from simenv.records import Auction, Outcome

from .menu import Menu, scores


class MenuOptimum:
    """The argmax of R on the menu; each click costs the bid. Ties go to the answer with fewer ads.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i(y), the predicted click probability in an answer.
        objective: Its penalty for extra ads and violations.
        shortlist: See `menu.Menu`.

    Raises:
        InputError: a menu that cannot be.
    """

    name = "menu_optimum"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.TRUTHFUL_VM, Claim.BID_FREE_CANDIDATES})

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        objective: Objective | None = None,
        shortlist: int = 4,
    ) -> None:
        self.ctr_model = ctr_model or CosineCTR()
        self.menu = Menu(llm, self.ctr_model, objective or Objective(), shortlist=shortlist)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        items = await self.menu.items(auction)
        worth = scores(auction, items)
        best = int(np.argmax(worth))
        prices = {bid.ad.id: bid.amount for bid in auction.bids}
        details = {"menu": len(items), "score": float(worth[best])}
        return outcome(auction, items[best].response, prices, details=details)
