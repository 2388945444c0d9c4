"""MOSAIC: sample M answers without the bids, choose one at random by importance weight and bids, charge transfers.

Source: Soumalias, Curry, Seuken (2025), "Truthful aggregation of LLMs with an application to online advertising"
(arXiv 2405.05905), algorithm 1 and its payment rule. M answers y_j are drawn from a generator pi_gen that sees the
context but never the bids. Answer j is shown with probability

    pi_j proportional to w_j exp(sum_i r_i(y_j) / tilt),   w_j = pi_ref(y_j) / pi_gen(y_j).

As M grows, this distribution converges to the maximiser of expected reward minus tilt x KL from pi_ref. With

    V(S) = tilt ln sum_j w_j exp(sum_(i in S) r_i(y_j) / tilt)

advertiser i pays p_i = E_pi[r_i] - V(all) + V(all but i) = tilt KL(pi || pi_without_i) >= 0, independent of the answer
shown and of clicks. Bidding the value is optimal for any finite set of candidates, and gives the expected utility
V(all) - V(all but i) >= 0. The base payment is E_pi[r_i] - V(all), up to a constant (Rochet 1987; the paper's theorem
5.1). V(all but i), over the same candidates, is the paper's offset (lemma 5.2): it does not depend on i's bid, and
without it an advertiser that adds nothing would gain V(all). We know the two statements from second-hand notes, and
checked them numerically in the tests.

How this file implements it:
- pi_ref is the two-stage writer without bids (`simenv.Writer`): it chooses one ad after another or none, then writes
  their sentences. pi_gen makes these choices with a prompt that shows the user's profile and the advertisers' copy.
  Both choose at temperature 1 without top-p or top-k, so pi_gen covers pi_ref.
- The model gives the probabilities of all choices, and the M samples are drawn from them. The distribution is that of
  M completions, with fewer model calls.
- Given the choices, pi_ref and pi_gen write the same sentences, which cancel in w_j: the weights are those of the
  choices. Equal samples are merged into one answer with the summed weight.
- r_i(y) = (b_i - reserve) q_i(y), and a shown ad also pays the reserve per click: the reserve is a cost of showing an
  ad. An advertiser with a bid below the reserve is never shown and pays nothing. The objective's penalty for violations
  is the platform's own reward and does not depend on the bids.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from simenv import Writer, outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.mechanism import Claim, Lottery
from simenv.objective import Objective
from simenv.records import Auction, Bid, Outcome
from simenv.seeding import keyed_rng

from .menu import (
    AdList,
    Item,
    Tables,
    choice_points,
    choice_tables,
    log_prob,
    log_value,
    read,
    require_choices,
    scores,
    tilted,
    write,
)


class Mosaic:
    """MOSAIC: draws one of M sampled answers by importance weight and bids, pays VCG-like transfers.

    Truthful in expectation (over the mechanism's own lottery, given the candidate answers) for utility maximisers, and
    individually rational in expectation.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i(y), the predicted click probability in an answer.
        objective: Gives the penalty for extra ads and violations.
        samples: M.
        tilt: The paper's tau, in currency: small = the best candidate nearly always, large = pi_ref.
        charge: "expected": p_i as above. "realised": r_i(y) - (V(all) - V(all but i)) for the answer y that is shown,
            the same in expectation. With "realised" no advertiser loses on any draw, but the platform may have to pay.

    Raises:
        InputError: samples below 1, a tilt that is not positive and finite, or another charge.
        MissingCapability: the model cannot score continuations, or cannot be constrained.
    """

    name = "mosaic"

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        objective: Objective | None = None,
        samples: int = 20,
        tilt: float = 10.0,
        charge: str = "expected",
    ) -> None:
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1:
            raise InputError(f"samples must be 1 or more, got {samples!r}")
        if isinstance(tilt, bool) or not isinstance(tilt, int | float) or not 0 < tilt < math.inf:
            raise InputError(f"tilt must be a number above 0 and finite, got {tilt!r}")
        if charge not in ("expected", "realised"):
            raise InputError(f"charge must be 'expected' or 'realised', got {charge!r}")
        require_choices(llm)
        always = {Claim.INDIVIDUALLY_RATIONAL} if charge == "realised" else set()
        self.claims = frozenset(
            {
                Claim.MONOTONE,
                Claim.RATIONAL_IN_EXPECTATION,
                Claim.MONOTONE_IN_EXPECTATION,
                Claim.TRUTHFUL_UM_IN_EXPECTATION,
                Claim.BID_FREE_CANDIDATES,
            }
            | always
        )
        self.ctr_model = ctr_model or CosineCTR()
        self.objective = objective or Objective()
        self.samples = samples
        self.tilt = float(tilt)
        self.charge = charge
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        items = await self.candidates(auction)
        noise = rng.gumbel(size=len(items))  # Gumbel-max: monotone in each bid for every draw (see tilted_optimum.py)
        probs = self.choice_probs(auction, items)
        if not probs.any():
            return outcome(auction, await self._writer.answer(auction))
        with np.errstate(divide="ignore"):
            place = int(np.argmax(np.log(probs) + noise))
        return self._outcome(auction, items[place], float(probs[place]), self.payments(auction, items))

    async def lottery(self, auction: Auction) -> Lottery:
        """Every candidate answer with its probability."""
        items = await self.candidates(auction)
        probs = self.choice_probs(auction, items)
        if not probs.any():
            return [(1.0, outcome(auction, await self._writer.answer(auction)))]
        paid = self.payments(auction, items)
        return [
            (float(prob), self._outcome(auction, item, float(prob), paid))
            for item, prob in zip(items, probs, strict=True)
            if prob > 0
        ]

    async def candidates(self, auction: Auction) -> list[Item]:
        """The distinct answers among M samples of pi_gen, each with the logarithm of its summed importance weights."""
        samples, generator = await self._sample(auction)
        lists = Counter(samples)
        reference = await choice_tables(self._writer, auction, choice_points(auction, lists))
        return [
            read(
                auction,
                text,
                math.log(count) + log_prob(auction, reference, ads) - log_prob(auction, generator, ads),
                self.ctr_model,
                self.objective,
            )
            for (ads, count), text in zip(lists.items(), await write(self._writer, auction, lists), strict=True)
        ]

    async def _sample(self, auction: Auction) -> tuple[list[AdList], Tables]:
        """M lists of ads drawn from pi_gen, and the probabilities of the choices."""
        ads = {bid.ad.id: bid.ad for bid in auction.bids}
        rngs = [keyed_rng("mosaic", auction.id, sample) for sample in range(self.samples)]
        lists: list[AdList] = [()] * self.samples
        tables: dict[frozenset[str], dict[str, float]] = {}
        unfinished = list(range(self.samples))
        for _ in range(auction.max_ads):
            sets = {_ids(lists[j]) for j in unfinished} - tables.keys()
            tables |= await choice_tables(self._writer, auction, sets, in_context=True)
            for j in list(unfinished):
                table = tables[_ids(lists[j])]
                probs = np.exp(list(table.values()))
                choice = list(table)[int(rngs[j].choice(len(probs), p=probs / probs.sum()))]
                if choice:
                    lists[j] = (*lists[j], ads[choice])
                else:
                    unfinished.remove(j)
        return lists, tables

    def choice_probs(self, auction: Auction, items: Sequence[Item]) -> Floats:
        """pi, shape (items,): all 0 if every candidate shows an ad below the reserve."""
        rewards = scores(auction, items, click_cost=auction.reserve)
        return tilted(items, rewards, self.tilt) if np.isfinite(rewards).any() else np.zeros(len(items))

    def payments(self, auction: Auction, items: Sequence[Item]) -> dict[str, tuple[float, float]]:
        """Ad id of every advertiser that may be shown -> p_i and V(all) - V(all but i), in currency per answer."""
        rewards = scores(auction, items, click_cost=auction.reserve)
        probs = self.choice_probs(auction, items)
        total = log_value(items, rewards, self.tilt)
        paid = {}
        for bid in auction.bids:
            if bid.amount < auction.reserve or not any(bid.ad.id in item.click_probs for item in items):
                continue
            gains = np.array([self._gain(auction, bid, item) for item in items])
            contribution = total - log_value(items, rewards - gains, self.tilt)
            paid[bid.ad.id] = (max(0.0, float(probs @ gains) - contribution), contribution)  # max: rounding
        return paid

    def _outcome(self, auction: Auction, item: Item, prob: float, paid: Mapping[str, tuple[float, float]]) -> Outcome:
        transfers = {}
        for bid in auction.bids:
            if bid.ad.id in paid:
                expected, contribution = paid[bid.ad.id]
                realised = self._gain(auction, bid, item) - contribution
                transfers[bid.ad.id] = expected if self.charge == "expected" else realised
        prices = dict.fromkeys((bid.ad.id for bid in auction.bids), auction.reserve)
        return outcome(auction, item.response, prices, transfers=transfers, details={"propensity": prob})

    @staticmethod
    def _gain(auction: Auction, bid: Bid, item: Item) -> float:
        """r_i(y) = (b_i - reserve) q_i(y)."""
        return (bid.amount - auction.reserve) * item.click_probs.get(bid.ad.id, 0.0)


def _ids(ads: AdList) -> frozenset[str]:
    return frozenset(ad.id for ad in ads)
