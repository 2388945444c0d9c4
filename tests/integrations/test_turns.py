"""Sums of sessions, and turns as JSON."""

from __future__ import annotations

import json
import math

import pytest

from simenv.integrations.turns import SUMS, session_sums, turn_facts
from simenv.records import Failure, Transition
from simenv.testing import small_world
from tests.support.fakes import Hesitant
from tests.support.runs import transitions


@pytest.fixture(scope="module")
def session() -> list[Transition]:
    return transitions(small_world(), "gsp", n=3)


def test_a_session_adds_up_its_turns(session: list[Transition]) -> None:
    sums = session_sums(session)
    assert set(sums) == {*SUMS, "satisfaction"}
    assert sums["reward"] == pytest.approx(sum(turn.expected_reward or 0.0 for turn in session))
    assert sums["revenue"] == pytest.approx(sum(sum((turn.expected_payments or {}).values()) for turn in session))
    assert sums["ads"] == sum(len(turn.outcome.placements) for turn in session) > 0


def test_a_failed_answer_or_an_abstention_makes_the_money_unknown(session: list[Transition]) -> None:
    failed = session[0].model_copy(update={"error": Failure(kind="LLMRefused", text="no")})
    assert math.isnan(session_sums([failed, *session[1:]])["reward"])
    unsure = next(t for t in transitions(small_world(judge=Hesitant()), "gsp") if t.abstentions)
    assert math.isnan(session_sums([unsure])["revenue"])
    assert session_sums([unsure])["ads"] == len(unsure.outcome.placements)


def test_facts_are_json_with_bid_price_and_verdict(session: list[Transition]) -> None:
    turn = next(turn for turn in session if turn.outcome.placements)
    facts = json.loads(json.dumps(turn_facts(turn)))
    shown, placement = facts["shown"][0], turn.outcome.placements[0]
    assert shown["ad"] == placement.ad_id
    assert shown["price"] == placement.price
    assert shown["bid"] == turn.auction.bid_of(placement.ad_id).amount
    assert shown["click_prob"] == turn.feedback.clicks[0].click_prob
    assert [row["ad"] for row in facts["candidates"]] == [bid.ad.id for bid in turn.auction.bids]
