"""Menu optimum: the best answer of a finite menu, an upper bound for the reward of other mechanisms on that menu.

It shows argmax R(y) = sum_i b_i q_i(y) - penalty(y) over the menu of `menu.py` and charges first price per click. With
a ctr_model equal to the world's click probabilities, no mechanism gets a higher expected reward with an answer of this
menu. Answers outside the menu (other wordings, longer lists from beyond the shortlist) can have a higher reward.

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
    """Upper bound for the reward on a finite menu: shows its best answer; ads pay their bids per click.

    The answer maximises R(y) over the menu of `menu.py`. Ties go to the answer with fewer ads.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i(y), the predicted click probability in an answer.
        objective: Gives the penalty for extra ads and violations.
        shortlist: See `menu.Menu`.

    Raises:
        InputError: a shortlist below 0.
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
        rewards = scores(auction, items)
        best = int(np.argmax(rewards))
        prices = {bid.ad.id: bid.amount for bid in auction.bids}
        details = {"menu": len(items), "score": float(rewards[best])}
        return outcome(auction, items[best].response, prices, details=details)
