"""Summary auction: the winners share one summary, with words in proportion to prominence.

Source: Dubey, Feng, Kidambi, Mehta, Wang (2024), "Auctions with LLM summaries" (arXiv 2404.08126): an auction module
chooses prominences that sum to 1, the language model writes a summary with these prominences, and a pCTR module
predicts clicks from them. In the paper's case of dynamic word lengths clicks are q_i pos_r Prom_i^beta, where
pos_r = d^r is the position effect of rank r. The shares that maximise welfare are

    Prom_i = e_i^a / sum_j e_j^a,   e_i = b_i q_i pos_r,   a = 1 / (1 - beta),

and the paper's payment is the Myerson integral of this allocation, per click. How we know: by second-hand notes and a
re-implementation that cites the paper's eq. 2; we could not read the text itself. That this payment is VCG's is derived
by us, and checked numerically in the tests: because a beta = a - 1, welfare is W = (sum_j e_j^a)^(1/a) over the best k
ads, it is convex in each bid, clicks are x_i = dW / db_i, and without a reserve

    p_i = b_i x_i - integral_0^{b_i} x_i = b_i x_i - (W(b) - W(0, b_-i))        for every k and every d.

With a reserve r the integral begins at r. Truth needs a model that writes with the prominence that it is told, and an
unbiased prediction of clicks. The word budget is part of the prompt for a capable model; a sentence of a small model is
cut after the last clause that fits.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from simenv import outcome
from simenv.ctr.models import CTRModel, Floats
from simenv.errors import InputError
from simenv.files.prompts import read_prompt
from simenv.llm import LLM, Sampling
from simenv.markup import strip_markup
from simenv.mechanism import Claim
from simenv.records import Ad, Auction, Outcome
from simenv.writer.guards import without_dangling

from .ranking import Ranked, RankingAuction

_CLAUSE_END = re.compile(r"[,;:.](?=\s)(?!\s+(?:but|except|unless|without|only|if|though|although)\b)")
_MIN_WORDS = 8
"""Enough for an opening phrase and a title."""


class SummaryCTR:
    """Click probabilities of another model, times Prom_i^beta: the paper's pCTR module, which knows the prominences.

    Args:
        base: Predicts q_i and the position effect.
        beta: Exponent with which clicks grow with prominence, in (0, 1).
    """

    def __init__(self, base: CTRModel, beta: float) -> None:
        self.base = base
        self.beta = beta
        self.name = f"summary({base.name})"
        self.position_discount = base.position_discount

    def relevance(self, auction: Auction) -> Floats:
        return self.base.relevance(auction)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        shares = self.shares(auction, shown)
        probs = self.base.click_probs(auction, response, shown)
        return {ad_id: probs[ad_id] * shares[ad_id] ** self.beta for ad_id in shown}

    def shares(self, auction: Auction, shown: Sequence[str]) -> dict[str, float]:
        """Prom_i of the ads of a summary, in reading order: ad id -> share; the shares sum to 1."""
        q = dict(zip([bid.ad.id for bid in auction.bids], self.base.relevance(auction), strict=True))
        values = {
            ad_id: auction.bid_of(ad_id).amount * q[ad_id] * self.position_discount**rank
            for rank, ad_id in enumerate(shown)
        }
        most = max((values[ad_id] for ad_id in shown), default=0.0)
        powers = {ad_id: (values[ad_id] / most) ** (1 / (1 - self.beta)) if most else 1.0 for ad_id in shown}
        total = sum(powers.values())
        return {ad_id: float(power / total) for ad_id, power in powers.items()}


class Summary(RankingAuction):
    """Summary auction: ranks by bid x predicted CTR, shares the words among the winners, pays Myerson prices per click.

    The winners share `words` words by prominence. DSIC for utility maximisers, individually rational and monotone under
    its `ctr_model`: the given model times Prom_i^beta.

    Args:
        llm, ctr_model, slots: See `RankingAuction`.
        beta: Exponent with which clicks grow with prominence; the paper uses 1/2, 1/3 and 1/4.
        words: Words for all ads together; a link counts as the words of its title. Every ad gets at least eight.

    Raises:
        InputError: beta not in (0, 1), or words below 1.
    """

    name = "summary"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.TRUTHFUL_UM})

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        slots: int | None = None,
        beta: float = 0.5,
        words: int = 40,
    ) -> None:
        super().__init__(llm, ctr_model, slots)
        if isinstance(beta, bool) or not isinstance(beta, int | float) or not 0 < beta < 1:
            raise InputError(f"beta must be above 0 and below 1, got {beta!r}")
        if isinstance(words, bool) or not isinstance(words, int) or words < 1:
            raise InputError(f"words must be 1 or more, got {words!r}")
        self.summary_ctr = SummaryCTR(self.ctr_model, float(beta))
        self.ctr_model = self.summary_ctr
        self.words = words
        self._llm = llm

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        prices = self.allocate(auction)
        shares = self.summary_ctr.shares(auction, list(prices))
        text = await self._writer.answer(auction)
        for ad_id, share in shares.items():
            text = await self._add_sentence(auction, text, auction.bid_of(ad_id).ad, self.budget(share))
        return outcome(auction, text, prices, details={"prominence": shares})

    def budget(self, share: float) -> int:
        """Number of words for an ad with this prominence."""
        return max(_MIN_WORDS, round(share * self.words))

    def price(self, auction: Auction, ranked: list[Ranked], place: int) -> float:
        winner, rivals, places = ranked[place], [*ranked[:place], *ranked[place + 1 :]], self.places(auction)
        discount, beta = self.ctr_model.position_discount, self.summary_ctr.beta
        # Scores in units of the largest one: powers of huge bids would overflow, and the integral scales with the unit.
        unit = ranked[0].score
        scores = [rival.score / unit for rival in rivals]
        own = winner.score / unit
        entry = max(auction.reserve * winner.q / unit, scores[places - 1] if len(scores) >= places else 0.0)
        area, high = 0.0, own
        for rank in range(place, places):  # the ranks at lower bids, down to the bid at which the ad drops out
            low = max(entry, scores[rank] if rank < len(scores) else 0.0)
            others = self._others(scores[: places - 1], rank)
            area += self._area(min(low, high) * discount**rank, high * discount**rank, others)
            high = min(low, high)
        power = math.pow(own * discount**place, 1 / (1 - beta))
        share = power / total if (total := power + self._others(scores[: places - 1], place)) else 0.0
        clicks = winner.q * discount**place * math.pow(share, beta)
        # No clicks: the share underflows to 0. The ad is shown but, with a click probability of 0, never charged.
        return max(auction.reserve, winner.bid.amount - area * unit / clicks) if clicks else winner.bid.amount

    def _others(self, scores: list[float], rank: int) -> float:
        """Sum of e_j^a of the other shown ads, best first, when the ad itself is at `rank`."""
        a, discount = 1 / (1 - self.summary_ctr.beta), self.ctr_model.position_discount
        return sum(math.pow(score * discount ** (j + (j >= rank)), a) for j, score in enumerate(scores))

    def _area(self, low: float, high: float, others: float) -> float:
        """(high^a + S)^(1 - beta) - (low^a + S)^(1 - beta), accurate also where the two terms nearly cancel."""
        a = 1 / (1 - self.summary_ctr.beta)
        base = math.pow(low, a) + others
        gain = math.pow(high, a) - math.pow(low, a)
        return math.pow(base, 1 / a) * math.expm1(math.log1p(gain / base) / a) if base else high

    async def _add_sentence(self, auction: Auction, text: str, ad: Ad, words: int) -> str:
        if self._llm.follows_formats:
            reply = await self._llm.complete(
                read_prompt(__package__ or "mechanisms", "summary_sentence").format(
                    query=auction.query.text,
                    answer=text,
                    title=ad.title,
                    advertiser=ad.advertiser,
                    body=ad.body,
                    link=ad.link,
                    words=words,
                ),
                key=(auction.id, "summary-sentence", ad.id),
                sampling=Sampling(max_tokens=200),
            )
            sentence = " ".join(reply.text.split())
            if self._writer.accepts(auction, sentence, ad):
                return f"{text} {sentence}".strip()
        whole = await self._writer.add_sentence(auction, text, ad)
        return f"{text} {cut(whole[len(text) :].strip(), words)}".strip()


def cut(sentence: str, words: int) -> str:
    """Cuts a sentence after the last clause that fits into `words` words; never before the end of its link.

    It is cut only at a comma, semicolon, colon or full stop that is followed by a space ("$1,400" is one word), and not
    before a clause that restricts what comes before it.
    """
    if len(strip_markup(sentence).split()) <= words:
        return sentence
    start = sentence.rindex("]") + 1
    ends = [start + match.start() for match in _CLAUSE_END.finditer(sentence[start:])]
    fitting = [end for end in ends if len(strip_markup(sentence[:end]).split()) <= words]
    kept = max(fitting, default=start)
    return f"{sentence[:start]}{without_dangling(sentence[start:kept]).rstrip(' .')}."
