"""Sponsored questions: joint and modular design against brute force, and what users see."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from mechanisms.sponsored_questions import SponsoredQuestions, joint, modular
from simenv import Auction, Claim, Outcome, check_mechanism
from simenv.ctr.models import Floats
from simenv.errors import ClaimViolated, InputError
from simenv.judges.questions import choice_probs
from simenv.llm import ScriptedLLM, metered
from simenv.mechanism import answer_choice, lottery_of, offer_questions
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder
from tests.support.auctions import make_auction

QUESTIONS = [f"Is product {i} good at {i}?" for i in range(6)]


def auctioneer(**options: object) -> SponsoredQuestions:
    return SponsoredQuestions(ScriptedLLM(), encoder=FakeEncoder(), **options)


def brute_force(worth: Floats, logs: Floats, none: float, offered: int) -> float:
    """The largest expected welfare over all sets of questions, with any ad or none in the answer to each."""
    k, n = worth.shape
    best = 0.0
    for places in itertools.combinations(range(k), min(k, offered)):
        probs = choice_probs(logs[list(places)], none)
        for ads in itertools.product(range(-1, n), repeat=len(places)):
            best = max(best, sum(p * worth[s, i] for p, s, i in zip(probs, places, ads, strict=True) if i >= 0))
    return best


def random_case(case: int) -> tuple[Floats, Floats, Floats, float, int]:
    rng = keyed_rng("sponsored-questions", case)
    n, k, offered = int(rng.integers(1, 4)), int(rng.integers(1, 6)), int(rng.integers(1, 3))
    return rng.uniform(-10, 60, n), rng.uniform(0.01, 0.9, (k, n)), rng.normal(0, 1.5, k), float(rng.normal()), offered


def oracle_errors(cases: int) -> tuple[float, float]:
    """Largest error of welfare and payments of the joint design against brute force, and largest gain from a lie."""
    worst, gain = 0.0, -np.inf
    for case in range(cases):
        values, q, logs, none, offered = random_case(case)
        plan, worth = joint(values, q, logs, none, offered), q * np.maximum(values, 0.0)
        assert len(plan.places) == min(offered, len(q))
        assert np.allclose(plan.probs, choice_probs(logs[plan.places], none))
        worst = max(worst, abs(plan.welfare - brute_force(worth, logs, none, offered)))
        for i, value in enumerate(values):
            clicks, paid = _bill(plan, q, i)
            others = np.where(np.arange(len(values)) == i, 0.0, worth)
            due = brute_force(others, logs, none, offered) - (plan.welfare - max(value, 0.0) * clicks)
            worst = max(worst, abs(paid - due))
            assert paid <= max(value, 0.0) * clicks + 1e-12
            lie = values.copy()
            lie[i] = keyed_rng("lie", case, i).uniform(0, 80)
            other = joint(lie, q, logs, none, offered)
            liar = _bill(other, q, i)
            gain = max(gain, (value * liar[0] - liar[1]) - (value * clicks - paid))
    return worst, gain


def _bill(plan, q: Floats, i: int) -> tuple[float, float]:
    """Expected clicks and payment of an advertiser."""
    rows = list(zip(plan.places, plan.winners, plan.prices, plan.probs, strict=True))
    clicks = sum(prob * q[s, i] for s, winner, _, prob in rows if winner == i)
    return clicks, sum(prob * q[s, i] * price for s, winner, price, prob in rows if winner == i)


def test_joint_design_is_the_best_of_all_and_charges_what_the_others_lose() -> None:
    """In 5,000 cases: errors of up to 8e-15 in currency, gains of up to 3e-14."""
    worst, gain = oracle_errors(120)
    assert worst < 1e-10
    assert gain < 1e-10


@pytest.mark.parametrize("k", range(0, 10, 3))
def test_modular_design_may_lose_any_share_of_welfare(k: int) -> None:
    """Two advertisers value the first question's click at 10^k each, a third values the second one's at 1."""
    high, q, logs = 10.0**k, np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), np.zeros(2)
    values = np.array([high, high, 1.0])
    apart, together = (design(values, q, logs, -50.0, 1) for design in (modular, joint))
    assert (apart.places, apart.winners, apart.prices) == ([1], [2], [0.0])
    assert together.places == [0]
    assert together.prices == pytest.approx([high])
    assert together.welfare / apart.welfare == pytest.approx(high)


def test_modular_design_by_hand() -> None:
    """Of three questions two are sold: gains per choice 8, 8.8 and 0.8, so the third sets the price of a question."""
    q = np.array([[0.5, 0.5], [0.25, 0.05], [0.1, 0.2]])
    plan = modular(np.array([40.0, 24.0]), q, np.zeros(3), 0.0, 2)
    assert plan.places == [1, 0]
    assert plan.winners == [0, 0]
    assert plan.prices == pytest.approx([(1.2 + 0.8) / 0.25, (12 + 0.8) / 0.5])
    assert plan.welfare == pytest.approx((20 + 10) / 3)


def test_modular_design_never_charges_more_than_the_bid_nor_beats_the_joint_one() -> None:
    for case in range(200):
        values, q, logs, none, offered = random_case(case)
        plan = modular(values, q, logs, none, offered)
        assert plan.welfare <= joint(values, q, logs, none, offered).welfare + 1e-9
        assert all(0 <= p <= values[i] for i, p in zip(plan.winners, plan.prices, strict=True) if i is not None)


def test_only_the_joint_design_makes_claims() -> None:
    """`test_mechanisms.py` checks them."""
    assert auctioneer().claims == {
        Claim.INDIVIDUALLY_RATIONAL,
        Claim.RATIONAL_IN_EXPECTATION,
        Claim.MONOTONE_IN_EXPECTATION,
        Claim.TRUTHFUL_UM_IN_EXPECTATION,
    }
    assert check_mechanism(auctioneer(design="modular"), auctions=1).claims == ()


class Shaded(SponsoredQuestions):
    """Charges 5% too little."""

    factor = 0.95

    def plan(self, auction, questions):
        plan = super().plan(auction, questions)
        return plan._replace(prices=[self.factor * price for price in plan.prices])


class Dearer(Shaded):
    """Charges 5% too much, up to the bid."""

    def plan(self, auction, questions):
        plan = SponsoredQuestions.plan(self, auction, questions)
        bids = [0.0 if i is None else auction.bids[i].amount - auction.reserve for i in plan.winners]
        return plan._replace(prices=[min(bid, 1.05 * p) for p, bid in zip(plan.prices, bids, strict=True)])


class ClaimsToBeTruthful(SponsoredQuestions):
    def __init__(self, *parts: object, **options: object) -> None:
        super().__init__(*parts, **options)
        self.claims = frozenset({Claim.TRUTHFUL_UM_IN_EXPECTATION})


@pytest.mark.parametrize(
    ("broken", "options"), [(Shaded, {}), (Dearer, {}), (ClaimsToBeTruthful, {"design": "modular"})]
)
def test_wrong_payments_are_refused(broken, options: dict[str, object]) -> None:
    with pytest.raises(ClaimViolated, match="truthful_um_in_expectation"):
        check_mechanism(broken(ScriptedLLM(), encoder=FakeEncoder(), **options), auctions=10)


def written(questions: list[str] = QUESTIONS) -> ScriptedLLM:
    """A model that writes these questions."""

    def reply(request) -> str:
        return "\n".join(questions) if request.key[1] == "follow-ups" else f"About: {request.prompt.user}"

    return ScriptedLLM(reply, follows_formats=True, capabilities=frozenset())


def offered_by(llm: ScriptedLLM, auction: Auction, **options: object) -> tuple[SponsoredQuestions, Outcome]:
    mechanism = SponsoredQuestions(llm, encoder=FakeEncoder(), **options)
    return mechanism, asyncio.run(offer_questions(mechanism, auction))


def test_a_capable_model_writes_the_questions_in_one_call_without_bids() -> None:
    auction = make_auction([31.25, 77.5])
    with metered() as meter:
        _, offer = offered_by(written(), auction)
    assert meter.usage.calls == offer.usage.calls == 1
    (request,) = meter.requests
    assert not {"31.25", "77.5"} & set(request.prompt.user.split())
    assert {it.text for it in offer.suggestions} <= set(QUESTIONS)
    assert len(offer.suggestions) == 3
    assert sum(it.prob for it in offer.suggestions) < 1


def test_the_chosen_question_is_answered_with_its_ad_and_none_without_ads() -> None:
    mechanism, offer = offered_by(written(), make_auction([50.0, 40.0], reserve=5.0))
    auction = make_auction([50.0, 40.0], reserve=5.0)
    for place, question in enumerate(offer.suggestions):
        made = asyncio.run(answer_choice(mechanism, auction, offer, place))
        assert made.response.startswith(f"About: {question.text}")
        assert [(p.ad_id, p.price) for p in made.placements] == [(question.ad_id, question.price)]
        assert question.price >= 5.0
        assert auction.answered(made).query.text == question.text
    plain = asyncio.run(answer_choice(mechanism, auction, offer, None))
    assert (plain.response, plain.placements) == (f"About: {auction.query.text}", ())
    assert auction.answered(plain) is auction


def test_lottery_is_over_the_predicted_choices() -> None:
    mechanism, offer = offered_by(written(), auction := make_auction([50.0, 40.0]))
    rows = asyncio.run(lottery_of(mechanism, auction))
    assert {made.chosen: prob for prob, made in rows} == pytest.approx(
        {0: offer.suggestions[0].prob, 1: offer.suggestions[1].prob, 2: offer.suggestions[2].prob}
        | {None: 1 - sum(it.prob for it in offer.suggestions)}
    )


def test_nothing_above_the_reserve_and_no_readable_question() -> None:
    _, offer = offered_by(written(), make_auction([50.0], reserve=60.0))
    assert [it.ad_id for it in offer.suggestions] == [None] * 3
    _, offer = offered_by(written(["I cannot."]), make_auction([50.0]))
    assert offer.suggestions == ()


def test_candidates_of_a_small_model_are_near_the_query_and_its_ads(tmp_path) -> None:
    file = tmp_path / "questions.txt"
    lines = ["Where is the sea?", "Should I choose product 1?", "How old is the moon?", "Which should I choose?"]
    auction = make_auction([10.0, 20.0])
    file.write_text("\n".join([*lines, auction.query.text]), encoding="utf-8")
    mechanism = auctioneer(questions=str(file), candidates=3)
    assert asyncio.run(mechanism.questions(auction))[:2] == [lines[1], lines[3]]
    assert asyncio.run(auctioneer(questions=str(file), candidates=9).questions(auction)) != [auction.query.text]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"design": "both"}, "design must be 'joint' or 'modular', got 'both'"),
        ({"offered": 0}, "offered must be a number of questions"),
        ({"candidates": 2.5}, "candidates must be a number of questions"),
        ({"offered": 4, "candidates": 3}, "candidates must be at least offered, 4, got 3"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        auctioneer(**options)
