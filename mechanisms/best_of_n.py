"""Best of N: write N answers without the bids, show the answer with the highest score, charge VCG payments.

Source: the post-generation baseline of LLM-Auction (section 2), with Vickrey-Clarke-Groves payments over the finite
set of candidate answers. The set does not depend on the bids, and the allocation maximises an affine function of the
bids over it. VCG payments therefore make the mechanism DSIC (dominant-strategy incentive compatible) for utility
maximisers, under the mechanism's own click predictions.

With a click-intent evaluator as its CTR model (evaluator:FILE) it is the mechanism of "pricing by a distilled
click-intent evaluator" (2607.27686), by our reading of the abstract: that charges the Myerson payment
b_i x_i - integral_0^{b_i} x_i, and over a finite set of answers W(z) = max_y (a_y + z q_i(y)) is convex and piecewise
linear in the bid z, so that the integral is W(b_i) - W(0) and the payment is VCG's. Derived by us, checked numerically.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simenv import make_writer, markup, outcome
from simenv.background_loop import gather
from simenv.ctr.models import CosineCTR, CTRModel
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.objective import Objective
from simenv.records import Auction, Outcome


class Candidate(NamedTuple):
    """One answer, its predicted click probabilities and its penalty, which does not depend on the bids."""

    response: str
    click_probs: dict[str, float]
    cost: float


class BestOfN:
    """VCG over N sampled answers: shows the answer with the highest predicted welfare, pays the others' loss.

    The answer y that is shown maximises sum_i (b_i - r) q_i(y) - penalty(y) over N answers, with r the reserve. Each ad
    of it pays r q_i plus the welfare loss of the other advertisers, in expectation per auction. The payment is charged
    per click, so it is divided by q_i. The reserve enters as a cost of showing an ad, so the rule is still VCG and
    still DSIC.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i(y), the predicted click probability in an answer.
        objective: Gives the penalty for extra ads and violations.
        n: Number of sampled answers. The answer without ads is always one more candidate.
        writer: Who writes them: "plain", or another writer (`simenv.make_writer`).

    Raises:
        InputError: n is not an integer of 0 or more.
        UnknownName: unknown writer.
    """

    name = "best_of_n"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.TRUTHFUL_UM, Claim.BID_FREE_CANDIDATES})

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        objective: Objective | None = None,
        n: int = 5,
        writer: str = "plain",
    ) -> None:
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise InputError(f"n must be a number of answers, 0 or more, got {n!r}")
        self.ctr_model = ctr_model or CosineCTR()
        self.objective = objective or Objective()
        self.n = n
        self._writer = make_writer(writer, llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        unpriced = auction.model_copy(update={"reserve": 0.0})  # the texts must not depend on the bids
        texts = await gather(
            [
                self._writer.answer(auction),
                *(self._writer.own_choice(unpriced, show_bids=False, sample=j) for j in range(self.n)),
            ]
        )
        candidates = [self._candidate(auction, text) for text in dict.fromkeys(texts)]
        return self.choose(auction, candidates)

    def choose(self, auction: Auction, candidates: list[Candidate]) -> Outcome:
        """Returns the best candidate with its VCG prices. Ties go to the earlier candidate, the ad-free one first."""
        net = {bid.ad.id: bid.amount - auction.reserve for bid in auction.bids}

        def score(candidate: Candidate, without: str | None = None) -> float:
            gains = (net[i] * q for i, q in candidate.click_probs.items() if i != without)
            return sum(gains) - candidate.cost

        # An ad whose bid is below the reserve may not be shown: it would have to pay more than it offered.
        feasible = [c for c in candidates if all(net[i] >= 0 for i in c.click_probs)]
        best = max(feasible, key=score)
        prices = {}
        for ad_id, q in best.click_probs.items():
            loss_to_others = max(score(c, ad_id) for c in self._without(ad_id, candidates, net)) - score(best, ad_id)
            # min: the exact price is at most the bid; rounding may raise it by one ulp
            prices[ad_id] = min(net[ad_id], loss_to_others / q) + auction.reserve if q > 0 else auction.reserve
        return outcome(
            auction,
            best.response,
            prices,
            details={
                "candidates": len(candidates),
                # The feasible candidates and their scores: `simenv export` builds training pairs from them.
                "candidate_texts": [c.response for c in feasible],
                "candidate_scores": [score(c) for c in feasible],
            },
        )

    def _candidate(self, auction: Auction, response: str) -> Candidate:
        links, violations = markup.parse(response, auction)
        probs = self.ctr_model.click_probs(auction, response, list(links))
        return Candidate(response, probs, self.objective.penalty(auction, len(links), violations))

    @staticmethod
    def _without(ad_id: str, candidates: list[Candidate], net: dict[str, float]) -> list[Candidate]:
        """Candidates that are feasible for the other bids; the bid of `ad_id` must not change the others' loss."""
        return [c for c in candidates if all(net[i] >= 0 for i in c.click_probs if i != ad_id)]
