"""Position auction for generated content: matches ads to sentence ends, with a CTR for each pair of ad and position.

Source: Balseiro, Bhawalkar, Deng, Feng, Mao, Mehta, Mirrokni, Paes Leme, Wang, Zuo (2025), "Position auctions in
AI-generated content" (arXiv 2506.03309): n advertisers, m positions, at most one ad per position, one position per ad
and at most K ads in all, and a click rate p_ij for each creative in each position, because its fit depends on the
context. Their outcome also has a reading order. In their multinomial logit model users see all ads at once, so ads
compete for clicks and order does not matter:

    pi_i(x) = sum_j x_ij w_ij / (1 + sum_kl x_kl w_kl),   w_ij = exp(rho_ij) = p_ij / (1 - p_ij).

This file maximises welfare exactly: sum v_i pi_i is a ratio of two linear functions of a matching. It is at least L
if and only if the best matching with weights w_ij (v_i - L) has a value of at least L (Dinkelbach 1967). The payment
is VCG, per click: the loss of the others divided by pi_i; the reserve is a cost of each click.

What is built is the welfare case of the multinomial logit model. By second-hand notes on the paper, which is all we
had, its welfare- and its revenue-optimal mechanism are both exact in this model, and in the cascade model, where clicks
depend on the reading order, there are only approximations. The revenue-optimal mechanism (Myerson's virtual values) and
the cascade model are not built. We know no payment formula of the paper: any truthful mechanism with this allocation
charges VCG's payment, up to a constant.

Our choices: the positions are the ends of the sentences of the organic answer, and p_ij is the CTR model's relevance
with the cosine of the ad to query and sentence together. Each ad is on its own line, so that the CTR model can separate
the organic text from the ads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from simenv import Writer, markup, outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.encoder import Encoder
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.mechanism import Claim
from simenv.records import Auction, Outcome
from simenv.text import sentences_with_space

from .matching import best_places
from .passages import in_context

_MAX_CLICK_PROB = 0.999
"""Upper bound of p_ij: a click probability of 1 would have infinite weight."""


class MNLCTR:
    """Multinomial logit clicks over the ads of an answer. An ad's weight is its fit to the sentence before it.

    Args:
        base: Predicts a click from relevance.
        encoder: For relevance in context; the embedded one by default.
    """

    position_discount = 1.0

    def __init__(self, base: CTRModel, encoder: Encoder | None = None) -> None:
        self.base = base
        self.name = f"mnl({base.name})"
        self._encoder = encoder

    def relevance(self, auction: Auction) -> Floats:
        return self.base.relevance(auction)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        links = markup.parse(response, auction).links
        ids = [bid.ad.id for bid in auction.bids]
        weights = {}
        for ad_id in shown:
            before = response[: links[ad_id][0]].split("\n")[:-1]
            organic = sentences_with_space("\n".join(line for line in before if not markup.LINK.search(line)).rstrip())
            weights[ad_id] = self.weights(auction, organic[-1] if organic else "")[ids.index(ad_id)]
        total = 1 + sum(weights.values())
        return {ad_id: float(weight / total) for ad_id, weight in weights.items()}

    def weights(self, auction: Auction, sentence: str) -> Floats:
        """w_ij of every candidate after this sentence: shape (n,)."""
        p = np.minimum(self.base.relevance(in_context(auction, sentence.strip(), self._encoder)), _MAX_CLICK_PROB)
        return np.asarray(p / (1 - p), dtype=np.float64)


class Matching(NamedTuple):
    """An allocation of ads to positions, with its welfare."""

    welfare: float
    """sum of v_i pi_i, in currency per answer."""
    places: dict[int, int]
    """Candidate -> position."""
    total: float
    """1 + the sum of the weights of the shown ads."""


def best_matching(values: Floats, weights: Floats, most: int) -> Matching:
    """The matching of greatest welfare in the multinomial logit model.

    Args:
        values: Currency per click: shape (n,). Those at 0 or below are never shown.
        weights: w_ij: shape (n, m).
        most: K, the largest number of ads.
    """
    best = Matching(0.0, {}, 1.0)
    while True:
        places = best_places(np.maximum(weights * (values - best.welfare)[:, None], 0.0), most)
        total = 1 + sum(weights[i, j] for i, j in places.items())
        welfare = float(sum(values[i] * weights[i, j] for i, j in places.items()) / total)
        if not welfare > best.welfare:
            return best
        best = Matching(welfare, places, float(total))


class PositionAuction:
    """Position auction in generated content: matches ads to sentence ends, pays VCG prices per click.

    DSIC for utility maximisers, individually rational and monotone under its `ctr_model`: multinomial logit over the
    given one.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives p_ij from relevance in context.
        slots: K, the largest number of ads; the auction's max_ads by default.
        encoder: For relevance in context; the embedded one by default.

    Raises:
        InputError: `slots` is not an integer of 0 or more.
    """

    name = "position_auction"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL, Claim.MONOTONE, Claim.TRUTHFUL_UM})

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        slots: int | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        if slots is not None and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 0):
            raise InputError(f"slots must be a number of ads, 0 or more, got {slots!r}")
        self.ctr_model = MNLCTR(ctr_model or CosineCTR(), encoder)
        self.slots = slots
        self._writer = Writer(llm)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        answer = await self._writer.answer(auction)
        pieces = [piece for piece in sentences_with_space(answer) if piece.strip()] or [""]
        places, prices = self.allocate(auction, pieces)
        text = ""
        for position, piece in enumerate(pieces):
            text += piece.lstrip() if text.endswith("\n") else piece
            if position in places:
                text = text.rstrip()
                ad = auction.bid_of(places[position]).ad
                sentence = (await self._writer.add_sentence(auction, text, ad)).removeprefix(text).strip()
                text = f"{text}\n{sentence}\n".lstrip()
        return outcome(auction, text.rstrip(), prices)

    def allocate(self, auction: Auction, pieces: Sequence[str]) -> tuple[dict[int, str], dict[str, float]]:
        """Position -> ad id, and ad id -> price per click."""
        most = auction.max_ads if self.slots is None else self.slots
        values = np.array([bid.amount - auction.reserve for bid in auction.bids], dtype=np.float64)
        if not most or not (values > 0).any():
            return {}, {}
        weights = np.stack([self.ctr_model.weights(auction, piece) for piece in pieces], axis=1)
        best = best_matching(values, weights, most)
        prices = {}
        for i, position in best.places.items():
            without = best_matching(np.where(np.arange(len(values)) == i, 0.0, values), weights, most).welfare
            click_prob = weights[i, position] / best.total
            loss = without - (best.welfare - values[i] * click_prob)
            prices[auction.bids[i].ad.id] = auction.reserve + float(np.clip(loss / click_prob, 0.0, values[i]))
        return {position: auction.bids[i].ad.id for i, position in best.places.items()}, prices
