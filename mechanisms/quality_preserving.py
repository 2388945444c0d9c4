"""Quality-preserving auctions: an ad is shown only if its bid x click probability exceeds its quality cost.

Source: Han, Dai (2026), "Mechanism design for quality-preserving LLM advertising" (arXiv 2605.10964). We had access to
the abstract only. It says: organic content is the reference; an endogenous reserve screens out ads whose marginal
welfare is not positive; one ad is allocated by a KL-regularised rule with Myerson payments, several ads by a screened
VCG; both are truthful and individually rational.

We chose the rest. Ad i has a quality cost c_i = quality_weight (1 - fidelity_i), in currency. Fidelity is the cosine of
ad and query, 0 where negative, so it is known before any text is written. The marginal welfare of ad i is
m_i = b_i q_i - c_i, so its reserve is c_i / q_i. The distribution over "no ad" and the remaining ads that maximises

    sum_i x_i m_i - temperature KL(x | uniform)    is    x_i = exp(m_i / T) / (1 + sum_j exp(m_j / T)).

Equivalently, c_i can be part of the reference: then the KL is to a distribution that prefers the organic answer. The
Myerson payment is

    E[price 1(i wins)] = b_i x_i - (T / q_i) ln((A + exp(m_i(b_i) / T)) / (A + exp(m_i(r_i) / T)))

where A is the sum of the other terms, including "no ad", and r_i is the reserve. The draw is Gumbel-max, and the winner
pays the lowest bid that still wins under the same noise: equal to the payment above on average, and DSIC for every
    draw.

The platform sets one weight, not a reserve per ad. `simenv bench` measures user satisfaction, so the effect on answer
quality can be checked.
"""

from __future__ import annotations

import math

import numpy as np

from simenv import outcome
from simenv.ctr.models import CTRModel, Floats
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.records import Auction, Bid, Outcome
from simenv.writer.told import Told, told_with_ads

from .ranking import Ranked
from .vcg import VCG

NO_AD = ""
_MIN_PROB = 1e-200
"""Choices with a lower probability are dropped: their price would be 0 / 0."""


class ScreenedVCG(VCG):
    """VCG with a quality screen: ranks by bid x predicted CTR minus quality cost, pays critical bids per click.

    Only ads with m_i = b_i q_i - c_i above 0 are shown. The quality cost of an ad is weighted by its place in the same
    way as its clicks. DSIC, with the claims of VCG.

    Args:
        llm, ctr_model, slots, writer: See `RankingAuction`.
        quality_weight: Quality cost of an ad with fidelity 0, in currency.

    Raises:
        InputError: a weight below 0 or not finite.
    """

    name = "screened_vcg"

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        slots: int | None = None,
        quality_weight: float = 10.0,
        writer: str = "plain",
    ) -> None:
        super().__init__(llm, ctr_model, slots, writer)
        self.quality_weight = _number("quality_weight", quality_weight)

    def cost(self, bid: Bid) -> float:
        """c_i, in currency."""
        return self.quality_weight * (1 - min(1.0, max(0.0, bid.relevance)))

    def score(self, bid: Bid, q: float) -> float:
        return bid.amount * q - self.cost(bid)

    def reserve(self, auction: Auction, bid: Bid, q: float) -> float:
        return max(auction.reserve, self.cost(bid) / q)

    def bid_to_beat(self, winner: Ranked, score: float) -> float:
        return (score + self.cost(winner.bid)) / winner.q


class QualityPreserving(ScreenedVCG):
    """Quality-preserving lottery: draws one ad or none by welfare net of quality cost, pays the critical bid per click.

    The probabilities are the x_i above. DSIC for utility maximisers, individually rational and monotone for every draw,
    and therefore also in expectation. The outcome's details log the draw as `softmax` does, so its log can be used for
    off-policy evaluation.

    Args:
        llm, ctr_model, quality_weight: See `ScreenedVCG`.
        temperature: T, in currency per answer: small = the ad with the highest marginal welfare nearly always.

    Raises:
        InputError: a weight below 0, or a temperature that is not above 0.
    """

    name = "quality_preserving"
    claims = VCG.claims | {
        Claim.RATIONAL_IN_EXPECTATION,
        Claim.MONOTONE_IN_EXPECTATION,
        Claim.TRUTHFUL_UM_IN_EXPECTATION,
    }

    def __init__(
        self, llm: LLM, ctr_model: CTRModel | None = None, quality_weight: float = 10.0, temperature: float = 5.0
    ) -> None:
        super().__init__(llm, ctr_model, slots=1, quality_weight=quality_weight)
        self.temperature = _number("temperature", temperature)
        if not self.temperature:
            raise InputError("temperature must be above 0, got 0")

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        prices = self.draw(auction, rng.gumbel(size=1 + len(auction.bids)))
        choice = next(iter(prices), NO_AD)
        probs = self.choice_probs(auction)
        details = {"choice": choice, "propensity": probs[choice], "choice_probs": probs}
        told = await self._write(auction, choice)
        return outcome(auction, told.text, prices, details={**details, **told.details})

    def draw(self, auction: Auction, noise: Floats) -> dict[str, float]:
        """The winning ad, if any, with its price per click. `noise`: standard Gumbel, no ad first, shape (1 + n,)."""
        noise_of = dict(zip([bid.ad.id for bid in auction.bids], noise[1:].tolist(), strict=True))
        levels = {NO_AD: self.temperature * float(noise[0])}
        screened = {ranked.bid.ad.id: ranked for ranked in self._screened(auction)}
        levels |= {i: ranked.score + self.temperature * noise_of[i] for i, ranked in screened.items()}
        choice = max(levels, key=lambda i: levels[i])
        if choice == NO_AD:
            return {}
        winner = screened[choice]
        best_other = max(level for i, level in levels.items() if i != choice)
        critical = self.bid_to_beat(winner, best_other - self.temperature * noise_of[choice])
        reserve = self.reserve(auction, winner.bid, winner.q)
        return {choice: min(winner.bid.amount, max(critical, reserve))}

    def choice_probs(self, auction: Auction) -> dict[str, float]:
        """Probability of each choice: "" for no ad first, then every remaining ad, in the candidates' order."""
        scores = {ranked.bid.ad.id: ranked.score / self.temperature for ranked in self._screened(auction)}
        logits = {NO_AD: 0.0} | {bid.ad.id: scores[bid.ad.id] for bid in auction.bids if bid.ad.id in scores}
        weights = np.exp(np.array(list(logits.values())) - max(logits.values()))
        chances = dict(zip(logits, (weights / weights.sum()).tolist(), strict=True))
        return {choice: chance for choice, chance in chances.items() if chance > _MIN_PROB}

    async def lottery(self, auction: Auction) -> list[tuple[float, Outcome]]:
        """Distribution of `run` over its own draw: each outcome with its probability and its conditional mean price."""
        outcomes = []
        for choice, chance in self.choice_probs(auction).items():
            prices = {choice: self.expected_price(auction, choice)} if choice else {}
            outcomes.append((chance, outcome(auction, (await self._write(auction, choice)).text, prices)))
        return outcomes

    def expected_price(self, auction: Auction, ad_id: str) -> float:
        """E[price given that this ad wins], in currency per click: the Myerson payment above, divided by x_i."""
        screened = self._screened(auction)
        own = next(ranked for ranked in screened if ranked.bid.ad.id == ad_id)
        others = [0.0, *(ranked.score / self.temperature for ranked in screened if ranked is not own)]
        log_others = float(np.logaddexp.reduce(others))
        reserve = self.reserve(auction, own.bid, own.q)
        lead = own.score / self.temperature - log_others
        least = self.score(own.bid.model_copy(update={"amount": reserve}), own.q) / self.temperature - log_others
        area = self.temperature / own.q * float(np.logaddexp(0.0, lead) - np.logaddexp(0.0, least))
        share = math.exp(-float(np.logaddexp(0.0, -lead)))
        return min(own.bid.amount, max(reserve, own.bid.amount - area / share))

    def _screened(self, auction: Auction) -> list[Ranked]:
        return self.rank(auction) if self.places(auction) and auction.max_ads else []

    async def _write(self, auction: Auction, choice: str) -> Told:
        return await told_with_ads(self._writer, auction, [] if choice == NO_AD else [auction.bid_of(choice).ad])


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise InputError(f"{name} must be 0 or more and finite, got {value!r}")
    return float(value)
