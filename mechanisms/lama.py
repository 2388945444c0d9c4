"""LAMA on a menu: one latent advertiser wins the whole answer; winner and answer are drawn together.

Source: Liu, Zhang, Yu, Ye, Qi (2026), LAMA, arXiv 2608.27382. Its full text was not available to us; this is our
reading of the abstract and of public notes. Advertisers report continuation values V_i(s) of each beginning s of an
answer. These define policies
    pi_i(a | s) = pi_0(a | s) exp((V_i(s a) - V_i(s)) / kl_weight).
For each token a latent advertiser is drawn from the posterior l(s), then the token from its policy, and l is updated by
l_i(s a) ~ l_i(s) pi_i(a | s). At the end the winner is drawn from l(y), and it alone pays.

What this is (derived by us, checked numerically): if l_i at the root is proportional to exp(V_i(root) / kl_weight) and
an answer y is worth (b_i - reserve) q_i(y) to i at its end, then winner and answer have the joint distribution

    P(i, y) = pi_0(y) exp((b_i - reserve) q_i(y) / kl_weight) / Z.

MOSAIC has the sum over all advertisers in the exponent; LAMA has the winner's value alone. This file draws from P
directly, on the menu of `menu.py`.

Payment (ours; whether the paper's entry fee equals it is unknown): with Phi = kl_weight ln Z and

    X_i = E[q_i(y) 1(i wins)] = dPhi / db_i,

which rises in b_i, p_i = (b_i - reserve) X_i - (Phi(b) - Phi(reserve, b_-i)) >= 0 is the envelope integral of X_i. It
is charged as reserve + p_i / X_i per click on the winner's ad, which lies between the reserve and b_i. In
Phi(reserve, b_-i) the pairs of i remain, with a value of 0: without them i would also receive the gain in entropy.

Phi = E[value - penalty] - kl_weight KL(y) + kl_weight E[entropy of l(y)], where KL(y) is the divergence of the
answers from pi_0. So this regularised welfare is within kl_weight ln N of its optimum, with N the largest number of
possible winners of one answer.

Our choices: the pairs are an answer of the menu with each ad in it, and the answer without ads with "bidder 0", whose
value is 0, so that no ad can win. In an answer with several ads the winner's ad alone is linked and pays. The others
stand in it as plain words: they can not be clicked and pay nothing. Clicks on them would be free, would depend on the
own bid, and the payment would no longer be truthful. The objective's penalty lowers the weight of an answer whoever
wins it. An advertiser that bids below the reserve cannot win.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv import markup, outcome
from simenv.ctr.models import Floats
from simenv.mechanism import Claim, Lottery
from simenv.records import Auction, Outcome

from .menu import TiltedMenu

Bools = npt.NDArray[np.bool_]


class Pair(NamedTuple):
    """An answer and the advertiser that wins it."""

    winner: str
    """Ad id; "" for bidder 0."""
    response: str
    """The answer, in which the winner's ad alone is linked."""
    click_prob: float
    """q_i(y), the predicted click probability of the winner's ad; 0 for bidder 0."""
    log_weight: float
    """ln pi_0(y) - penalty / kl_weight, up to a constant; it does not depend on the bids."""


class Lama(TiltedMenu):
    """LAMA on a menu: draws an answer and the one ad that wins it, charges the winner its potential price per click.

    Truthful in expectation (over the mechanism's own draw, given the menu) for utility maximisers, and individually
    rational for every draw.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i(y), the predicted click probability in an answer.
        objective: Gives the penalty of an answer.
        kl_weight: In currency: small = the pair of greatest value nearly always, large = pi_0.
        shortlist, reference: Define the menu and pi_0: see `menu.Menu`. With a shortlist of 0 every answer has at most
            one ad.

    Raises:
        InputError: a kl_weight that is not a positive finite number, a shortlist below 0, or another reference.
        MissingCapability: see `menu.Menu`.
    """

    name = "lama"
    claims = frozenset(
        {
            Claim.INDIVIDUALLY_RATIONAL,
            Claim.MONOTONE,
            Claim.RATIONAL_IN_EXPECTATION,
            Claim.MONOTONE_IN_EXPECTATION,
            Claim.TRUTHFUL_UM_IN_EXPECTATION,
            Claim.BID_FREE_CANDIDATES,
        }
    )

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        pairs = await self.pairs(auction)
        noise = rng.gumbel(size=len(pairs))  # Gumbel-max: monotone in each bid for every draw (see tilted_optimum.py)
        probs = joint(pair_logs(auction, pairs, self.kl_weight))
        with np.errstate(divide="ignore"):
            place = int(np.argmax(np.log(probs) + noise))
        return self._outcome(auction, pairs[place], float(probs[place]), self.prices(auction, pairs))

    async def lottery(self, auction: Auction) -> Lottery:
        """All pairs with P."""
        pairs = await self.pairs(auction)
        probs = joint(pair_logs(auction, pairs, self.kl_weight))
        prices = self.prices(auction, pairs)
        return [
            (float(prob), self._outcome(auction, pair, float(prob), prices))
            for pair, prob in zip(pairs, probs, strict=True)
            if prob > 0
        ]

    async def pairs(self, auction: Auction) -> list[Pair]:
        """All pairs of an answer and a winner, bidder 0 with the answer without ads first. Bids do not affect them."""
        pairs = []
        for item in await self.menu.items(auction):
            log_weight = item.log_weight - item.penalty / self.kl_weight
            if not item.click_probs:
                pairs.append(Pair("", item.response, 0.0, log_weight))
            for ad_id, alone in item.click_probs.items():
                response, prob = item.response, alone
                if len(item.click_probs) > 1:
                    response = linked_alone(item.response, auction.bid_of(ad_id).ad.link)
                    prob = self.ctr_model.click_probs(auction, response, [ad_id])[ad_id]
                pairs.append(Pair(ad_id, response, prob, log_weight))
        return pairs

    def prices(self, auction: Auction, pairs: Sequence[Pair]) -> dict[str, float]:
        """Ad id -> price per click if it wins."""
        logs = pair_logs(auction, pairs, self.kl_weight)
        clicks = np.array([pair.click_prob for pair in pairs])
        prices = {}
        for bid in auction.bids:
            own = np.array([pair.winner == bid.ad.id for pair in pairs])
            price = potential_price(bid.amount - auction.reserve, logs, clicks, own, self.kl_weight)
            prices[bid.ad.id] = auction.reserve + price
        return prices

    @staticmethod
    def _outcome(auction: Auction, pair: Pair, prob: float, prices: dict[str, float]) -> Outcome:
        # min: adding the reserve may exceed the bid by a rounding error
        shown = {pair.winner: min(auction.bid_of(pair.winner).amount, prices[pair.winner])} if pair.winner else {}
        return outcome(auction, pair.response, shown, details={"propensity": prob, "winner": pair.winner})


def pair_logs(auction: Auction, pairs: Sequence[Pair], kl_weight: float) -> Floats:
    """ln P(i, y) up to a constant, shape (pairs,): -inf for a winner that bids below the reserve."""
    net = {bid.ad.id: bid.amount - auction.reserve for bid in auction.bids} | {"": 0.0}
    return np.array(
        [
            pair.log_weight + net[pair.winner] * pair.click_prob / kl_weight if net[pair.winner] >= 0 else -np.inf
            for pair in pairs
        ]
    )


def joint(logs: Floats) -> Floats:
    """The distribution proportional to exp(logs)."""
    shares = np.exp(logs - logs.max())
    return np.asarray(shares / shares.sum())


def potential_price(value: float, logs: Floats, clicks: Floats, own: Bools, kl_weight: float) -> float:
    """p_i / X_i: the envelope integral of X_i from 0 to the bid, per expected click; between 0 and the bid.

    Args:
        value: b_i - reserve, currency per click.
        logs: ln P of all pairs, up to a constant: shape (pairs,).
        clicks: Click probability of the winner's ad in each pair.
        own: Which pairs i wins.
        kl_weight: In currency.
    """
    probs = joint(logs)
    expected = float(np.sum(probs[own] * clicks[own]))
    if value <= 0 or expected <= 0:
        return 0.0
    fall = value * clicks[own] / kl_weight
    # Phi(b) - Phi(0, b_-i) = -kl_weight ln E[exp(-b q 1(i wins) / kl_weight)]; log1p keeps the digits of small shares
    if np.sum(probs[own]) < 0.5:
        gain = -math.log1p(float(np.sum(probs[own] * np.expm1(-fall))))
    else:
        lowered = logs.copy()
        lowered[own] -= fall
        gain = float(np.logaddexp.reduce(logs) - np.logaddexp.reduce(lowered))
    return min(max(0.0, value - kl_weight * gain / expected), value)


def linked_alone(response: str, link: str) -> str:
    """The answer with this link, and the title in place of every other link."""
    return markup.LINK.sub(lambda found: found[0] if found[0] == link else found["title"], response)
