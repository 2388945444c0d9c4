"""Tilted optimum: the target distribution of LLM-Auction's training, computed exactly on a finite menu of answers.

    pi*(y) proportional to pi_0(y) exp(R(y) / kl_weight),   R(y) = sum_i b_i q_i(y) - penalty(y)

maximises the paper's objective (eq. 2) over distributions on the menu. The expected clicks of an ad are then smooth in
its bid, with slope d ITCTR_i / d b_i = Var(q_i 1(i in y)) / kl_weight >= 0. So first price per click (eq. 7) is
truthful for value maximisers, and a utility maximiser of value v bids b* with v - b* = ITCTR / ITCTR'.

Source: LLM-Auction (2025), sections 3 and 4. The draw is Gumbel-max with one noise term per answer. It makes an ad's
clicks monotone in its bid for every draw: the argmax of f(y) + b q_i(y) moves to larger q_i as b grows.
"""

from __future__ import annotations

import numpy as np

from simenv import outcome
from simenv.mechanism import Claim, Lottery
from simenv.records import Auction, Outcome

from .menu import Item, TiltedMenu, scores, tilted


class TiltedOptimum(TiltedMenu):
    """Exact target of LLM-Auction on a finite menu: draws an answer; ads pay their bids per click.

    The distribution is pi* on the menu of `menu.py`.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i(y), the predicted click probability in an answer.
        objective: Gives the penalty for extra ads and violations.
        kl_weight: The objective's beta, in currency: small = the best answer nearly always, large = pi_0.
        shortlist, reference: Define the menu and pi_0: see `menu.Menu`.

    Raises:
        InputError: a kl_weight that is not a positive finite number, a shortlist below 0, or another reference.
        MissingCapability: see `menu.Menu`.
    """

    name = "tilted_optimum"
    claims = frozenset(
        {
            Claim.INDIVIDUALLY_RATIONAL,
            Claim.MONOTONE,
            Claim.MONOTONE_IN_EXPECTATION,
            Claim.TRUTHFUL_VM,
            Claim.BID_FREE_CANDIDATES,
        }
    )

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        items = await self.menu.items(auction)
        noise = rng.gumbel(size=len(items))
        probs = tilted(items, scores(auction, items), self.kl_weight)
        with np.errstate(divide="ignore"):
            place = int(np.argmax(np.log(probs) + noise))
        return self._outcome(auction, items[place], float(probs[place]))

    async def lottery(self, auction: Auction) -> Lottery:
        """The whole menu with pi*."""
        items = await self.menu.items(auction)
        probs = tilted(items, scores(auction, items), self.kl_weight)
        return [
            (float(prob), self._outcome(auction, item, float(prob)))
            for item, prob in zip(items, probs, strict=True)
            if prob > 0
        ]

    @staticmethod
    def _outcome(auction: Auction, item: Item, prob: float) -> Outcome:
        prices = {bid.ad.id: bid.amount for bid in auction.bids}
        return outcome(auction, item.response, prices, details={"propensity": prob})
