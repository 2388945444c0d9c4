"""Mechanisms that plan the one ad of a session: on random sessions against brute force, and in the small world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mechanisms import one_ad
from mechanisms.first_price_timing import FirstPriceTiming
from mechanisms.fixed_turn import FixedTurn
from mechanisms.one_ad import OneAdASession
from mechanisms.optimal_stopping import OptimalStopping
from mechanisms.second_price_timing import SecondPriceTiming
from mechanisms.vcg import VCG
from simenv import Claim
from simenv.background_loop import run_sync
from simenv.check.session_cases import random_session
from simenv.conversation import Conversation
from simenv.ctr.models import CosineCTR
from simenv.errors import InputError
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism, mechanism_rng
from simenv.records import Auction, Outcome, ShownAd
from simenv.sessions import SessionStart, SoFar
from simenv.testing import small_world

CTR = CosineCTR()
PLANNED = (OptimalStopping, FirstPriceTiming, SecondPriceTiming)


def answers(mechanism: OneAdASession | FixedTurn, session: SessionStart, asked: Sequence[int]) -> list[Outcome]:
    """The outcomes of a session in which these questions are asked."""
    begun: Mechanism = mechanism.begin(session) or mechanism
    so_far, outcomes = SoFar(), []
    for turn in range(len(asked)):
        auction = session.auction(asked[: turn + 1], so_far)
        outcomes.append(run_sync(begun.run, auction, mechanism_rng(auction)))
        so_far = so_far.after(auction, outcomes[-1])
    return outcomes


def score(auction: Auction) -> float:
    q = CTR.relevance(auction)
    return max([b.amount * p for b, p in zip(auction.bids, q, strict=True) if b.amount >= auction.reserve], default=0.0)


def worth(session: SessionStart, asked: tuple[int, ...], cost: float, survival: float) -> tuple[float, float]:
    """Stop value and continuation after these questions, straight from the recursion."""
    stop = score(session.auctions[asked[-1]]) - cost
    following = [
        prob * max(worth(session, (*asked, number), cost, survival)) for number, prob in session.after(asked).items()
    ]
    return stop, max(0.0, survival * sum(following))


@pytest.mark.parametrize(("cost", "survival"), [(0.0, 1.0), (5.0, 0.7)])
def test_the_ad_is_shown_where_the_recursion_says(cost: float, survival: float) -> None:
    waited = 0
    for index in range(12):
        _, session = random_session(5, index)
        mechanism = OptimalStopping(ScriptedLLM(), cost=cost, survival=survival)
        for asked in list(session.orders())[::2]:
            open_ = True
            for turn, outcome in enumerate(answers(mechanism, session, asked)):
                stop, later = worth(session, asked[: turn + 1], cost, survival)
                now = open_ and stop >= later - 1e-9 and score(session.auctions[asked[turn]]) > 0
                assert bool(outcome.placements) == now
                if open_ and "best_ad" in outcome.details:
                    assert outcome.details["stop_value"] == pytest.approx(stop)
                    assert outcome.details["continuation"] == pytest.approx(later)
                    waited += not now
                open_ = open_ and not now
    assert waited > 10


def test_the_price_is_that_of_the_envelope_over_all_orders() -> None:
    """b X(b) - integral of X, with X the ad's clicks summed over every order of the questions."""
    for index in (1, 6):
        _, session = random_session(6, index)
        mechanism = OptimalStopping(ScriptedLLM())
        orders = list(session.orders())
        shown = {
            p.ad_id: p.price
            for order in orders
            for outcome in answers(mechanism, session, order)
            for p in outcome.placements
        }
        for ad_id, price in shown.items():
            bid, reserve = session.bids[ad_id], session.auctions[0].reserve
            steps = np.linspace(reserve, bid, 21)
            clicks = [_clicks(mechanism, session.with_bids({ad_id: z}), ad_id) for z in steps]
            paid = bid * clicks[-1] - np.trapezoid(clicks, steps)
            assert price * clicks[-1] == pytest.approx(paid, abs=(steps[1] - steps[0]) * clicks[-1] / 2 + 1e-9)


def _clicks(mechanism: OptimalStopping, session: SessionStart, ad_id: str) -> float:
    orders = list(session.orders())
    total = 0.0
    for order in orders:
        for turn, outcome in enumerate(answers(mechanism, session, order)):
            if any(p.ad_id == ad_id for p in outcome.placements):
                auction = session.auctions[order[turn]]
                place = [bid.ad.id for bid in auction.bids].index(ad_id)
                total += float(CTR.relevance(auction)[place])
    return total / len(orders)


def test_first_price_charges_the_bid_and_second_price_the_second_score() -> None:
    seen = 0
    for index in range(6):
        _, session = random_session(7, index)
        for asked in list(session.orders())[::4]:
            for rule in (FirstPriceTiming, SecondPriceTiming):
                for turn, outcome in enumerate(answers(rule(ScriptedLLM()), session, asked)):
                    for shown in outcome.placements:
                        auction, bid = session.auctions[asked[turn]], session.bids[shown.ad_id]
                        second = VCG(ScriptedLLM(), slots=1).allocate(auction)
                        assert second.keys() == {shown.ad_id}
                        expected = bid if rule is FirstPriceTiming else second[shown.ad_id]
                        assert shown.price == pytest.approx(expected)
                        seen += 1
    assert seen > 20


def test_a_rule_of_timing_has_a_reserve_of_its_own() -> None:
    _, session = random_session(7, 1)
    for rule in (FirstPriceTiming, SecondPriceTiming):
        top = max(session.bids.values())
        for asked in session.orders():
            assert not any(o.placements for o in answers(rule(ScriptedLLM(), reserve=top + 1), session, asked))
            prices = [p.price for o in answers(rule(ScriptedLLM(), reserve=top), session, asked) for p in o.placements]
            assert prices in ([], [top])


def test_a_session_has_one_ad_and_says_why_it_waits() -> None:
    world = small_world(turns="linked", horizon=2)
    for rule in PLANNED:
        for number in range(6):
            session = run_sync(world.session, 1, number)
            conversation, mechanism = Conversation(world, session), rule(ScriptedLLM())
            notes, ads = [], 0
            for turn in range(2):
                action = run_sync(conversation.answering, mechanism, turn)
                row = run_sync(lambda: world.step(session, turn, action, auction=conversation.auction(turn)))  # noqa: B023
                conversation.add(row)
                ads += len(row.outcome.placements)
                notes.append(row.outcome.details["note"])
            assert ads == 1
            shown = next(i for i, note in enumerate(notes) if note.startswith("shows an ad: showing"))
            assert all(note.startswith("waits: showing") for note in notes[:shown])
            assert notes[shown + 1 :] == ["the ad of this session was shown before"] * (1 - shown)


def test_predictions_are_asked_for_once_whatever_the_bids_are() -> None:
    asked: list[str] = []

    class Counting(CosineCTR):
        def relevance(self, auction: Auction):
            asked.append(auction.query.text)
            return super().relevance(auction)

    _, session = random_session(8, 0)
    mechanism = OptimalStopping(ScriptedLLM(), Counting())
    first = mechanism.begin(session)
    times = len(asked)
    for amount in (1.0, 7.0, 90.0):
        mechanism.begin(session.with_bids({next(iter(session.bids)): amount}))
    assert len(asked) == times
    questions, horizon = len(session.auctions), session.horizon
    assert times == sum(questions * _choose(questions - 1, turn) for turn in range(horizon))
    mechanism.begin(random_session(8, 1)[1])
    assert len(asked) > times
    assert first.name == "optimal_stopping"


def _choose(n: int, k: int) -> int:
    return int(np.prod([(n - i) / (i + 1) for i in range(k)], initial=1.0) + 0.5)


def test_fixed_turn_is_a_second_price_in_its_turn_alone() -> None:
    _, session = random_session(9, 0)
    for turn in (0, 1, 7):
        at = min(turn, session.horizon - 1)
        for asked in session.orders():
            outcomes = answers(FixedTurn(ScriptedLLM(), turn=turn), session, asked)
            prices = [{p.ad_id: p.price for p in outcome.placements} for outcome in outcomes]
            auction = session.auctions[asked[at]]
            assert prices[at] == VCG(ScriptedLLM(), slots=1).allocate(auction)
            assert not any(prices[:at] + prices[at + 1 :])


def test_no_ad_follows_one_that_another_mechanism_showed() -> None:
    _, session = random_session(9, 0)
    order = next(session.orders())
    auction = session.auction(order[:1]).model_copy(update={"shown": (ShownAd(ad_id="c0", turn=0),)})
    for mechanism in (*(rule(ScriptedLLM()) for rule in PLANNED), FixedTurn(ScriptedLLM())):
        begun = mechanism.begin(session) or mechanism
        assert not run_sync(begun.run, auction, mechanism_rng(auction)).placements


def test_with_a_survival_below_1_nothing_is_claimed_of_sessions_that_go_on() -> None:
    assert Claim.TRUTHFUL_UM_IN_EXPECTATION in OptimalStopping(ScriptedLLM()).claims
    assert OptimalStopping(ScriptedLLM(), survival=0.9).claims == {Claim.INDIVIDUALLY_RATIONAL}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"cost": -1.0}, "cost must be a finite number of at least 0, got -1.0"),
        ({"cost": float("inf")}, "cost must be a finite number of at least 0, got inf"),
        ({"survival": 1.5}, "survival must be a number from 0 to 1, got 1.5"),
        ({"survival": True}, "survival must be a number from 0 to 1, got True"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(InputError, match=said):
        OptimalStopping(ScriptedLLM(), **options)
    with pytest.raises(InputError, match="turn must be the number of a turn, 0 or more, got -1"):
        FixedTurn(ScriptedLLM(), turn=-1)
    with pytest.raises(InputError, match="reserve must be a finite number of at least 0, got '5'"):
        FirstPriceTiming(ScriptedLLM(), reserve="5")  # type: ignore[arg-type]


def test_a_session_with_too_many_states_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_ad, "_MOST_STATES", 5)
    with pytest.raises(InputError, match="more than 5 states, too many to plan: use a shorter horizon"):
        OptimalStopping(ScriptedLLM()).begin(random_session(9, 0)[1])
