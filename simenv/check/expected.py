"""Expected clicks and payments of one advertiser, and what the claims say of them at several bids.

A mechanism's outcome at a bid does not depend on the advertiser's value. So the outcomes at a few bids of one
advertiser, with everything else fixed, test a claim of truthfulness for each of these bids as the value: every pair of
bids is a value and a deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

from simenv.ctr.models import CTRModel
from simenv.mechanism import Claim, Lottery
from simenv.records import Auction

TOLERANCE = 1e-6
"""Share of the largest bid by which rounding may break an inequality."""


class Expected(NamedTuple):
    """Expected clicks and payment of one advertiser over a lottery, under a mechanism's own predictions."""

    itctr: float
    """Expected clicks: probability of being shown times that of a click, summed over outcomes (LLM-Auction, eq. 1). Of
    an ad that bids per view, expected views: the probability of being shown."""
    payment: float
    """Expected price times click, plus transfers, in currency."""

    def utility(self, value: float) -> float:
        """Expected utility, in currency, of an advertiser with this value per click, or per view."""
        return value * self.itctr - self.payment


def expectation(
    lottery: Lottery, ctr_model: CTRModel | Callable[[], CTRModel], auction: Auction, ad_id: str
) -> Expected:
    """Expected clicks and payment of one advertiser over a lottery (see `lottery_of`).

    Args:
        lottery: Outcomes with their probabilities.
        ctr_model: Predicts clicks; or a function that returns the model, called where the ad is shown.
        auction: The auction.
        ad_id: The advertiser's ad.
    """
    itctr = payment = 0.0
    bid = auction.bid_of(ad_id)
    for weight, outcome in lottery:
        price = next((p.price for p in outcome.placements if p.ad_id == ad_id), None)
        if price is not None:
            shown = [placement.ad_id for placement in outcome.placements]
            model = ctr_model() if callable(ctr_model) else ctr_model
            prob = model.click_probs(auction.answered(outcome), outcome.response, shown)[ad_id]
            itctr += weight * bid.units(prob)
            payment += weight * prob * price
        payment += weight * outcome.transfers.get(ad_id, 0.0)
    return Expected(itctr, payment)


Responses = Mapping[float, Expected]
"""Bid of one advertiser -> its expected clicks and payment, all else fixed."""


def grid(value: float) -> list[float]:
    """The bids to try first for an advertiser with this value."""
    return sorted({0.0, 0.25 * value, 0.5 * value, 0.8 * value, value, 1.25 * value, 2 * value, 4 * value})


def widest(responses: Responses, within: tuple[float, float] | None = None) -> tuple[float, float, float]:
    """The gap between neighbouring bids in which most can be hidden.

    If no bid that was tried is a better one for the value of another, a value between neighbours b < b' loses at most
    (b' - b) (clicks at b' - clicks at b) against them, where clicks rise with the bid. This is the size of a gap.

    Args:
        responses: At least two bids.
        within: Only gaps between these two bids.

    Returns:
        Size in currency per answer, lower bid, higher bid; (0, 0, 0) if there is no gap with a rise.
    """
    bids = sorted(bid for bid in responses if within is None or within[0] <= bid <= within[1])
    gaps = [((high - low) * (responses[high].itctr - responses[low].itctr), low, high) for low, high in pairwise(bids)]
    return max([(0.0, 0.0, 0.0), *gaps])


def broken(claim: Claim, responses: Responses, slack: float) -> str | None:
    """How the outcomes at several bids break a claim about expected clicks and payments; None: they do not.

    Args:
        claim: One of those about clicks and payments of one advertiser. The claims ex post get the outcomes of single
            runs, those in expectation the expectations over the lottery.
        responses: Outcomes at the bids that were tried.
        slack: Currency that rounding may account for.
    """
    return _RULES[claim](responses, slack)


def _monotone(responses: Responses, slack: float) -> str | None:
    for low, high in pairwise(sorted(responses)):
        if responses[high].itctr < responses[low].itctr - TOLERANCE:
            return f"raising the bid from {low:g} to {high:g} lowers its CTR"
    return None


def _truthful_um(responses: Responses, slack: float) -> str | None:
    for value, truth in responses.items():
        for bid, other in responses.items():
            gain = other.utility(value) - truth.utility(value)
            if gain > slack:
                return f"with value {value:g} it gains {gain:g} by bidding {bid:g}"
    return None


def _truthful_vm(responses: Responses, slack: float) -> str | None:
    for limit, truth in responses.items():
        if not _keeps_target(truth, limit):
            return f"it bids {limit:g} and pays more than that per click"
        for bid, other in responses.items():
            if other.itctr > truth.itctr + TOLERANCE and _keeps_target(other, limit):
                return f"it may pay {limit:g} per click and gets more clicks by bidding {bid:g}"
    return None


def _rational(responses: Responses, slack: float) -> str | None:
    for value, truth in responses.items():
        if truth.utility(value) < -slack:
            return f"with value {value:g} it pays {truth.payment:g}, and its clicks are worth {value * truth.itctr:g}"
    return None


def _keeps_target(expected: Expected, limit: float) -> bool:
    """Whether the mean cost per expected click is at most `limit` = v / t, so that value per cost is at least t."""
    return expected.payment <= limit * expected.itctr * (1 + 1e-9)


_RULES: dict[Claim, Callable[[Responses, float], str | None]] = {
    Claim.MONOTONE: _monotone,
    Claim.TRUTHFUL_UM: _truthful_um,
    Claim.RATIONAL_IN_EXPECTATION: _rational,
    Claim.MONOTONE_IN_EXPECTATION: _monotone,
    Claim.TRUTHFUL_UM_IN_EXPECTATION: _truthful_um,
    Claim.TRUTHFUL_VM: _truthful_vm,
}
