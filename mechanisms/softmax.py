"""Softmax: one ad or none, drawn at random with known probabilities; a logging policy for off-policy evaluation.

    P(show i) = exp(b_i q_i / T) / (1 + sum_j exp(b_j q_j / T)),   P(no ad) = 1 / (1 + sum_j exp(b_j q_j / T))

over the eligible ads: those with a positive bid of at least the reserve. Every eligible ad has positive probability, so
the reward of another mechanism over the same choices can be estimated from its log (`simenv.runs.ope`).

Source: Boltzmann exploration; exponential weights over bids as in McSherry and Talwar (2007), "Mechanism design via
differential privacy". The draw is Gumbel-max (Gumbel 1954): argmax of b_i q_i / T + G_i with one standard Gumbel draw
per choice. Unlike a draw by inverse CDF it is monotone for every draw, not only on average: the G_i are drawn for all
candidates and do not depend on the bids, so a higher bid raises only the advertiser's own term.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from simenv import Writer, outcome
from simenv.ctr.models import CosineCTR, CTRModel
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.mechanism import Claim, Lottery
from simenv.records import Auction, Outcome

NO_AD = ""
"""The choice to show no ad, in `choice_probs` and in the log."""


class Softmax:
    """Softmax lottery for off-policy evaluation: draws one ad or none by bid x predicted CTR, which pays its bid.

    The outcome's details log the draw: `choice` (ad id, or "" for no ad), its probability `propensity`, and
    `choice_probs`, the probabilities of all choices. If the auction allows no ad (max_ads 0), none is drawn.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i, the click probability before any text is written.
        temperature: T, in currency per answer: small = the best ad nearly always, large = all choices equally likely.

    Raises:
        InputError: a temperature that is not a positive finite number.
    """

    name = "softmax"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.MONOTONE_IN_EXPECTATION, Claim.TRUTHFUL_VM})

    def __init__(self, llm: LLM, ctr_model: CTRModel | None = None, temperature: float = 10.0) -> None:
        if isinstance(temperature, bool) or not isinstance(temperature, int | float):
            raise InputError(f"temperature must be a number above 0, got {temperature!r}")
        if not 0 < temperature < math.inf:
            raise InputError(f"temperature must be above 0 and finite, got {temperature}")
        self.ctr_model = ctr_model or CosineCTR()
        self.temperature = float(temperature)
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        logits = self._logits(auction)
        noise = rng.gumbel(size=len(logits))
        place = int(np.argmax(logits + noise))
        return await self._outcome(auction, NO_AD if place == 0 else auction.bids[place - 1].ad.id)

    async def lottery(self, auction: Auction) -> Lottery:
        """Every choice with its probability."""
        return [(prob, await self._outcome(auction, choice)) for choice, prob in self.choice_probs(auction).items()]

    async def _outcome(self, auction: Auction, choice: str) -> Outcome:
        response = await self.write(auction, choice)
        probs = self.choice_probs(auction)
        return outcome(
            auction,
            response,
            {} if choice == NO_AD else {choice: auction.bid_of(choice).amount},
            details={"choice": choice, "propensity": probs[choice], "choice_probs": dict(probs)},
        )

    async def write(self, auction: Auction, choice: str) -> str:
        """The answer with the ad of this id, or without an ad for "". It does not depend on the bids."""
        return await self._writer.with_ads(auction, [] if choice == NO_AD else [auction.bid_of(choice).ad])

    def choice_probs(self, auction: Auction) -> dict[str, float]:
        """Probability of each choice: "" for no ad first, then every eligible ad in the candidates' order."""
        logits = self._logits(auction)
        weights = np.exp(logits)  # the largest is exp(0): no overflow, and the sum is at least 1
        probs = weights / weights.sum()
        ids = [NO_AD, *(bid.ad.id for bid in auction.bids)]
        shown = [0, *(1 + i for i in range(len(auction.bids)) if self._eligible(auction, i))]
        return {ids[place]: float(probs[place]) for place in shown}

    def _logits(self, auction: Auction) -> npt.NDArray[np.float64]:
        """b q / T minus its maximum: shape (1 + n,), no ad first, -inf for ads that may not be shown."""
        q = self.ctr_model.relevance(auction)
        scores = np.array([0.0, *(bid.amount * q[i] for i, bid in enumerate(auction.bids))])
        barred = [1 + i for i in range(len(auction.bids)) if not self._eligible(auction, i)]
        scores[barred] = -math.inf
        with np.errstate(over="ignore"):  # with a small T the losers may overflow to -inf, which is correct
            return np.asarray((scores - scores.max()) / self.temperature, dtype=np.float64)

    @staticmethod
    def _eligible(auction: Auction, place: int) -> bool:
        amount = auction.bids[place].amount
        return auction.max_ads > 0 and amount > 0 and amount >= auction.reserve
