"""Mechanisms of sessions, broken on purpose, are refused: what holds in each auction alone may fail in a session."""

from __future__ import annotations

import numpy as np
import pytest

from mechanisms.first_price_timing import FirstPriceTiming
from mechanisms.fixed_turn import FixedTurn
from mechanisms.one_ad import Charge, OneAdASession, Planned
from mechanisms.optimal_stopping import OptimalStopping
from mechanisms.second_price_timing import SecondPriceTiming
from simenv import Claim, check_mechanism
from simenv.errors import ClaimViolated
from simenv.llm import ScriptedLLM
from simenv.sessions import SessionStart

TRUTHFUL = frozenset({Claim.TRUTHFUL_UM_IN_EXPECTATION})


class Dearer(OptimalStopping):
    """Charges 5% too much, at most the bid, in sessions of several turns."""

    factor = 1.05

    def charge(self, planned: Planned, turn: int, state: int) -> Charge:
        right = super().charge(planned, turn, state)
        wrong = right._replace(price=max(planned.reserve, self.factor * right.price))
        return right if len(planned.problem.layers) == 1 else wrong


class Cheaper(Dearer):
    """Charges 5% too little, at least the reserve."""

    factor = 0.95


class SecondPriceOfTheTurn(OptimalStopping):
    """Charges what is right for the turn alone: its bid also decides whether there is a later one."""

    def charge(self, planned: Planned, turn: int, state: int) -> Charge:
        winner, q = planned.winner(turn, state)
        scores = planned.problem.layers[turn].q[state] * np.where(planned.bids >= planned.reserve, planned.bids, 0.0)
        return Charge(float(max(planned.reserve, np.delete(scores, winner).max(initial=0.0) / q)), "a second price")


class Myopic(OptimalStopping):
    """Stops at the first score of 10, with the Clarke price of the best plan."""

    def begin(self, session: SessionStart):
        begun = super().begin(session)
        plan = begun._planned.plan
        decisions = [it._replace(stop=it.stop_value >= 10) for it in plan.decisions]
        begun._planned = begun._planned._replace(plan=plan._replace(decisions=decisions))
        return begun


class TruthfulFirstPrice(FirstPriceTiming):
    claims = TRUTHFUL


class TruthfulSecondPrice(SecondPriceTiming):
    claims = TRUTHFUL


class ExPost(OptimalStopping):
    """Claims for every order of the questions what holds on average."""

    def __init__(self, llm: ScriptedLLM) -> None:
        super().__init__(llm)
        self.claims = frozenset({Claim.TRUTHFUL_UM})


class DearerFixedTurn(FixedTurn):
    def price(self, auction, ranked, place: int) -> float:
        return 1.05 * super().price(auction, ranked, place)


class DearerFirstPrice(FirstPriceTiming):
    """Its price is above the bid. `OneAdASession` would cut it off there."""

    def begin(self, session: SessionStart):
        begun = super().begin(session)
        begun._planned = begun._planned._replace(bids=1.05 * begun._planned.bids)
        return begun


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (TruthfulFirstPrice, "truthful_um_in_expectation"),
        (Myopic, "truthful_um_in_expectation"),
        (DearerFixedTurn, "truthful_um"),
        (DearerFirstPrice, "individually_rational"),
    ],
)
def test_wrong_payments_are_refused(broken: type[OneAdASession], said: str) -> None:
    with pytest.raises(ClaimViolated, match=f"not {said}"):
        check_mechanism(broken(ScriptedLLM()))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Dearer, "in expectation over the order of questions"),
        (Cheaper, "in expectation over the order of questions"),
        (SecondPriceOfTheTurn, "in expectation over the order of questions"),
        (TruthfulSecondPrice, "in expectation over the order of questions"),
        (ExPost, "in order"),
    ],
)
def test_what_holds_in_one_auction_is_refused_in_a_session(broken: type[OneAdASession], said: str) -> None:
    with pytest.raises(ClaimViolated, match=rf"random session \d is not truthful_um.*{said}"):
        check_mechanism(broken(ScriptedLLM()))


class Forgetful(FixedTurn):
    """Answers differently when a session is begun again."""

    times = 0

    def begin(self, session: SessionStart) -> None:
        self.times += 1
        self.turn = self.times % 2


def test_a_session_that_differs_when_it_is_begun_again_is_refused() -> None:
    with pytest.raises(ClaimViolated, match="begun a second time it gave other answers"):
        check_mechanism(Forgetful(ScriptedLLM()), auctions=4)


class InOneTurn:
    """A timing rule in auctions that are apart: with one turn there is no timing, and a second price is truthful."""

    claims = frozenset({Claim.TRUTHFUL_UM})

    def __init__(self, rule: OneAdASession) -> None:
        self.ctr_model, self.run = rule.ctr_model, rule.run


class DearerSecondPrice(SecondPriceTiming):
    factor = 1.05

    def charge(self, planned: Planned, turn: int, state: int) -> Charge:
        right = super().charge(planned, turn, state)
        return right._replace(price=max(planned.reserve, self.factor * right.price))


class CheaperSecondPrice(DearerSecondPrice):
    factor = 0.95


def test_second_price_timing_is_truthful_in_one_turn_and_5_percent_are_noticed() -> None:
    assert check_mechanism(InOneTurn(SecondPriceTiming(ScriptedLLM()))).sessions == 0
    for wrong in (DearerSecondPrice, CheaperSecondPrice):
        with pytest.raises(ClaimViolated, match="not truthful_um"):
            check_mechanism(InOneTurn(wrong(ScriptedLLM())))
