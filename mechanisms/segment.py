"""Segment auction: for each segment of the answer an ad is drawn with probability proportional to bid x relevance.

Source: Hajiaghayi, Lahaie, Rezaei, Shin (2024), "Ad auctions for LLMs via retrieval augmented generation"
(arXiv 2406.09459). Ad i is drawn with probability

    x_i = b_i q_i / sum_j b_j q_j,

which maximises logarithmic social welfare. The draw is Gumbel-max, so it is a lottery over deterministic auctions: the
largest ln(b_i q_i) + G_i wins and pays per click the lowest bid that still wins under the same noise. In expectation
over the noise that is Myerson's payment for x_i:

    E[price 1(i wins)] = (W / q_i) (ln(1 + t) - t / (1 + t)),   W = sum_(j != i) b_j q_j,   t = b_i q_i / W.

With several ads per segment the k largest win (Gumbel-top-k: a draw without replacement), each at the lowest bid that
keeps it among the k.

Our choices, where the paper leaves a point open or we could not check its text:
- The organic answer is written first and cut into segments, and each ad's sentence continues the text so far. So the
  organic part does not depend on the bids.
- From the second segment on, relevance is the cosine of the ad with query and text so far, through the same CTR model.
- The ads of one segment are in the candidates' order, because an order by bids would reward overbidding.
- An ad that wins again is not linked again.
"""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np

from simenv import Writer, outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.encoder import Encoder
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.records import Auction, Outcome
from simenv.text import sentences_with_space

from .passages import in_context

_IN_EXPECTATION = {Claim.RATIONAL_IN_EXPECTATION, Claim.MONOTONE_IN_EXPECTATION, Claim.TRUTHFUL_UM_IN_EXPECTATION}
_MIN_PROB = 1e-200
"""Choices with a lower probability are dropped: the closed form would overflow."""


class Segment:
    """Segment auction: draws ads for each segment by bid x relevance, pays the critical bid of the draw per click.

    It draws `ads_per_segment` ads for each of `segments` segments, at most the auction's max_ads in total.

    Individually rational and monotone for every draw. With one segment it is also DSIC for utility maximisers, for
    every draw and therefore in expectation. With more segments it is not: an ad can gain by losing an early segment,
    where its price is high, and winning a later one.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i: the retriever's relevance as a click probability.
        segments: T, the number of parts that the answer is cut into.
        ads_per_segment: k.
        replacement: Whether an ad that has won a segment stays in the draw. If it wins again, it keeps its place and
            price, and the later segment shows no new ad.
        encoder: For relevance in context, with several segments; the embedded one by default.

    Raises:
        InputError: `segments` or `ads_per_segment` is below 1.
    """

    name = "segment"

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        segments: int = 1,
        ads_per_segment: int = 1,
        replacement: bool = False,
        encoder: Encoder | None = None,
    ) -> None:
        for what, number in (("segments", segments), ("ads_per_segment", ads_per_segment)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise InputError(f"{what} must be 1 or more, got {number!r}")
        self.claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE})
        if segments == 1:
            self.claims |= {Claim.TRUTHFUL_UM}
        if segments == ads_per_segment == 1:  # the exact distribution is known
            self.claims |= _IN_EXPECTATION
        self.ctr_model = ctr_model or CosineCTR()
        self.segments = segments
        self.ads_per_segment = ads_per_segment
        self.replacement = replacement
        self._encoder = encoder
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        noise = rng.gumbel(size=(self.segments, len(auction.bids)))
        answer = await self._writer.answer(auction)
        parts = np.array_split(np.array(sentences_with_space(answer), dtype=object), self.segments)
        text, prices = "", dict[str, float]()
        for place, part in enumerate(parts):
            text += "".join(part)
            seen = in_context(auction, text, self._encoder) if place else auction
            barred = () if self.replacement else prices
            k = min(self.ads_per_segment, auction.max_ads - len(prices))
            for ad_id, price in self.draw(seen, noise[place], k, barred).items():
                if ad_id not in prices:
                    prices[ad_id] = price
                    text = await self._writer.add_sentence(auction, text, auction.bid_of(ad_id).ad)
        return outcome(auction, text, prices, details=self._propensity(auction, list(prices)))

    def draw(self, auction: Auction, noise: Floats, k: int = 1, barred: Collection[str] = ()) -> dict[str, float]:
        """The winners of one segment, in the candidates' order, with their price per click.

        Args:
            auction: The auction, with relevance in context.
            noise: One standard Gumbel draw per candidate: shape (n,).
            k: Maximum number of winners.
            barred: Ids of ads that may not win.
        """
        log_q, log_b = self._logs(auction)
        scores = log_b + log_q + noise
        scores[[bid.ad.id in barred for bid in auction.bids]] = -math.inf
        ranked = np.argsort(-scores, kind="stable")
        best_loser = scores[ranked[k]] if k < len(ranked) else -math.inf
        prices = {}
        for i in sorted(i for i in ranked[:k] if scores[i] > -math.inf):
            critical = math.exp(min(best_loser - noise[i] - log_q[i], log_b[i]))
            bid = auction.bids[i]
            prices[bid.ad.id] = min(bid.amount, max(critical, auction.reserve))
        return prices

    def choice_probs(self, auction: Auction) -> dict[str, float]:
        """x_i of every ad that may win, in the candidates' order; {"": 1.0} if no ad may win.

        Raises:
            InputError: there are several segments or ads per segment, so a choice is a list of ads.
        """
        if (self.segments, self.ads_per_segment) != (1, 1):
            raise InputError(
                "the probabilities of a segment auction are known only for one ad in one segment, got "
                f"segments={self.segments} and ads_per_segment={self.ads_per_segment}"
            )
        weights = np.add(*self._logs(auction))
        if not np.isfinite(weights).any():
            return {"": 1.0}
        shares = np.exp(weights - weights.max())
        chances = zip(auction.bids, shares / shares.sum(), strict=True)
        return {bid.ad.id: float(chance) for bid, chance in chances if chance > _MIN_PROB}

    async def lottery(self, auction: Auction) -> list[tuple[float, Outcome]]:
        """Distribution of `run` over its own draw: each outcome with its probability and its conditional mean price.

        Raises:
            InputError: see `choice_probs`.
        """
        outcomes = []
        for ad_id, chance in self.choice_probs(auction).items():
            text = await self._writer.with_ads(auction, [auction.bid_of(ad_id).ad] if ad_id else [])
            prices = {ad_id: self.expected_price(auction, ad_id)} if ad_id else {}
            outcomes.append((chance, outcome(auction, text, prices)))
        return outcomes

    def expected_price(self, auction: Auction, ad_id: str) -> float:
        """E[price given that this ad wins], in currency per click: the closed form above, with the reserve r.

        E[max(C, r) 1(C <= b)] = r F(r) + h(b) - h(r), where C is the critical bid, F(c) = c q / (W + c q) is its
        distribution function and h is the closed form as a function of the bid.
        """
        i = next(i for i, bid in enumerate(auction.bids) if bid.ad.id == ad_id)
        weights = np.add(*self._logs(auction))
        bid, reserve = auction.bids[i].amount, auction.reserve
        rest = float(np.exp(np.delete(weights, i) - weights[i]).sum()) * bid  # W / q_i, in the unit of a bid
        if rest == 0:
            return reserve

        def cdf(c: float) -> float:
            return c / (rest + c)

        def h(c: float) -> float:
            return rest * _log_excess(c / rest)

        mean = (reserve * cdf(reserve) + h(bid) - h(reserve)) / cdf(bid)
        return min(bid, max(reserve, mean))

    def _logs(self, auction: Auction) -> tuple[Floats, Floats]:
        """ln q_i and ln b_i: each of shape (n,), -inf for ads that may not win."""
        amounts = np.array([bid.amount if bid.amount >= auction.reserve else 0.0 for bid in auction.bids])
        with np.errstate(divide="ignore"):
            return np.log(self.ctr_model.relevance(auction)), np.log(amounts if auction.max_ads else 0 * amounts)

    def _propensity(self, auction: Auction, shown: list[str]) -> dict[str, object]:
        """Details for off-policy evaluation: the probability of the draw, where it is known."""
        if (self.segments, self.ads_per_segment) != (1, 1):
            return {}
        probs, choice = self.choice_probs(auction), shown[0] if shown else ""
        return {"choice": choice, "propensity": probs[choice], "choice_probs": probs}


def _log_excess(t: float) -> float:
    """ln(1 + t) - t / (1 + t), accurate also for small t, where the two terms cancel."""
    if t < 1e-3:
        return sum((power - 1) / power * (-t) ** power for power in range(2, 7))
    return math.log1p(t) - t / (1 + t)
