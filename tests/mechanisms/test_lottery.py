"""Lotteries: what is claimed in expectation is held to the exact distribution, and `run` to the lottery."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from simenv import Auction, Claim, Outcome, check_mechanism, make_mechanism, outcome
from simenv.check import expectation, random_auction, with_bid
from simenv.ctr.models import CosineCTR
from simenv.errors import ClaimViolated, MechanismFailed, OutcomeError
from simenv.llm import ScriptedLLM
from simenv.mechanism import Lottery, lottery_of


def rising(amount: float) -> float:
    return amount / (amount + 10)


def own_bid(amount: float) -> float:
    return amount


def myerson(amount: float) -> float:
    """Makes `rising` truthful: b - (integral of the shares below b) / share = b - (b - 10 ln(1 + b / 10)) / share."""
    return amount - (amount - 10 * math.log1p(amount / 10)) / rising(amount) if amount else 0.0


class Draws:
    """The first candidate, with a probability and at a price that its own bid decides; or nothing."""

    def __init__(
        self,
        claims: Iterable[Claim] = (),
        share: Callable[[float], float] = rising,
        price: Callable[[float], float] = own_bid,
        transfer: float = 0.0,
    ) -> None:
        self.claims = frozenset(claims)
        self.ctr_model = CosineCTR()
        self.share, self.price, self.transfer = share, price, transfer

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        lottery = self._lottery(auction)
        return lottery[int(rng.choice(len(lottery), p=[prob for prob, _ in lottery]))][1]

    async def lottery(self, auction: Auction) -> Lottery:
        return self._lottery(auction)

    def _lottery(self, auction: Auction) -> Lottery:
        first = auction.bids[0] if auction.bids and auction.max_ads else None
        if first is None or first.amount < auction.reserve or auction.reserve:
            return [(1.0, outcome(auction, "Nothing to show."))]
        transfers = {first.ad.id: self.transfer}
        share = self.share(first.amount)
        shown = outcome(auction, f"See {first.ad.link}.", {first.ad.id: self.price(first.amount)}, transfers=transfers)
        return [(share, shown), (1 - share, outcome(auction, "Nothing to show.", transfers=transfers))]


EXPECTED = (
    Claim.RATIONAL_IN_EXPECTATION,
    Claim.MONOTONE_IN_EXPECTATION,
    Claim.TRUTHFUL_UM_IN_EXPECTATION,
    Claim.TRUTHFUL_VM,
)


def test_true_claims_in_expectation_pass() -> None:
    check_mechanism(Draws(set(EXPECTED) - {Claim.TRUTHFUL_VM}, price=myerson))
    check_mechanism(Draws(set(EXPECTED) - {Claim.TRUTHFUL_UM_IN_EXPECTATION}, price=own_bid))


@pytest.mark.parametrize(
    ("claim", "broken"),
    [
        (Claim.RATIONAL_IN_EXPECTATION, {"transfer": 1.0}),
        (Claim.MONOTONE_IN_EXPECTATION, {"share": lambda amount: 10 / (amount + 10)}),
        (Claim.TRUTHFUL_UM_IN_EXPECTATION, {"price": own_bid}),
        (Claim.TRUTHFUL_UM_IN_EXPECTATION, {"price": lambda amount: 2 * myerson(amount)}),
        (Claim.TRUTHFUL_VM, {"price": lambda amount: 0.7 * amount}),
        (Claim.TRUTHFUL_VM, {"price": lambda amount: 1.1 * amount}),
    ],
)
def test_broken_claims_in_expectation_are_found(claim: Claim, broken: dict[str, object]) -> None:
    with pytest.raises(ClaimViolated, match=f"is not {claim}"):
        check_mechanism(Draws({claim}, **broken))


class HalfAnswer(Draws):
    async def lottery(self, auction: Auction) -> Lottery:
        return [(0.5 * prob, made) for prob, made in self._lottery(auction)]


class OtherAnswer(Draws):
    async def lottery(self, auction: Auction) -> Lottery:
        return [(1.0, outcome(auction, "Something else."))]


class Impossible(Draws):
    """What it does has probability 0 in its lottery."""

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return outcome(auction, "Nothing to show.")

    async def lottery(self, auction: Auction) -> Lottery:
        return [(1.0, outcome(auction, "Something.")), (0.0, outcome(auction, "Nothing to show."))]


class BelowReserve(Draws):
    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return outcome(auction, "Nothing to show.")

    async def lottery(self, auction: Auction) -> Lottery:
        shown = [(0.5, outcome(auction, f"See {b.ad.link}.", {b.ad.id: 0.0})) for b in auction.bids[:1]]
        return [(1 - 0.5 * len(shown), outcome(auction, "Nothing to show.")), *shown]


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (HalfAnswer(), "must sum to 1, got"),
        (OtherAnswer(), "not consistent with its lottery"),
        (Impossible(), "not consistent with its lottery"),
        (BelowReserve(), "below the reserve"),
    ],
)
def test_broken_lotteries_are_found(broken: Draws, said: str) -> None:
    with pytest.raises(ClaimViolated, match=said):
        check_mechanism(broken)


def test_a_lottery_that_is_none_is_named() -> None:
    class ReturnsText(Draws):
        def lottery(self, auction: Auction) -> Lottery:
            return [(1.0, "text")]

    class Crashes(Draws):
        def lottery(self, auction: Auction) -> Lottery:
            return [(1 / 0, outcome(auction, "text"))]

    _, auction = random_auction(0, 0)
    with pytest.raises(OutcomeError, match="lottery returned str"):
        asyncio.run(lottery_of(ReturnsText(), auction))
    with pytest.raises(MechanismFailed, match="ZeroDivisionError"):
        asyncio.run(lottery_of(Crashes(), auction))


def test_a_mechanism_that_does_not_draw_is_its_own_lottery() -> None:
    _, auction = random_auction(0, 3)
    gsp = make_mechanism("gsp", context={"llm": ScriptedLLM()})
    ((prob, made),) = asyncio.run(lottery_of(gsp, auction))
    assert prob == 1
    first = made.placements[0]
    expected = expectation([(prob, made)], gsp.ctr_model, auction, first.ad_id)
    assert expected.payment == pytest.approx(expected.itctr * first.price)
    assert expected.utility(first.price) == pytest.approx(0)


def test_expectation_adds_clicks_and_transfers() -> None:
    _, auction = random_auction(0, 3)
    auction = with_bid(auction.model_copy(update={"reserve": 0.0}), "c0", 30.0)
    mechanism = Draws(transfer=2.0)
    q = float(CosineCTR().relevance(auction)[0])
    made = expectation(asyncio.run(lottery_of(mechanism, auction)), CosineCTR(), auction, "c0")
    assert made.itctr == pytest.approx(0.75 * q)
    assert made.payment == pytest.approx(0.75 * q * 30 + 2)


def test_softmax_draws_from_its_lottery() -> None:
    """Draws of the generator against the probabilities that it states: 600 draws, five sd, over at most 13 choices.

    The draws are keyed, so that the test comes out the same in every run; of fresh ones 1e-5 would fail.
    """
    _, auction = random_auction(0, 3)
    mechanism = make_mechanism("softmax", context={"llm": ScriptedLLM()})

    async def go() -> tuple[Lottery, Counter[str]]:
        runs = [(await mechanism.run(auction, np.random.default_rng(i))).response for i in range(600)]
        return await lottery_of(mechanism, auction), Counter(runs)

    lottery, counts = asyncio.run(go())
    assert len(lottery) > 3
    for prob, made in lottery:
        assert abs(counts[made.response] - 600 * prob) <= 5 * math.sqrt(600 * prob * (1 - prob)) + 1
