"""Bidders where turns are linked: one bid for a session, budgets that hold for all its turns, learning from its sum."""

from __future__ import annotations

from collections import defaultdict

import pytest

from simenv.background_loop import run_sync
from simenv.conversation import Conversation
from simenv.market.bidders import BidRequest, Budgeted, Exp3Bidder, ShadedBidder
from simenv.testing import ADS, small_world
from tests.support.bidding import FirstPrice, run
from tests.support.fakes import ConstantJudge


def test_a_session_is_bid_for_once_and_for_all_its_turns() -> None:
    asked: list[BidRequest] = []

    class Asked(ShadedBidder):
        def bid(self, request: BidRequest) -> float:
            asked.append(request)
            return super().bid(request)

    world = small_world(turns="linked", bidder=Asked())
    conversation = Conversation(world, run_sync(world.session, 0, 0))
    for turn in range(3):
        conversation.auction(turn)
    assert len({request.ad.id for request in asked}) == len(asked)
    assert {(request.auction_id, request.turn, request.turns) for request in asked} == {(conversation.session.id, 0, 3)}


def test_a_budget_is_never_overspent_though_a_bid_holds_for_three_answers() -> None:
    budget = 20.0
    rows = run(Budgeted(ShadedBidder(), budget), n=18, turns="linked", judge=ConstantJudge(1.0))
    spent: dict[str, float] = defaultdict(float)
    for row in rows:
        for ad_id, amount in row.payments.items():
            spent[ad_id] += amount
    assert max(spent.values()) <= budget + 1e-9
    assert max(spent.values()) > budget / 3, "and more than one answer's share"


def test_exp3_learns_from_a_session_after_its_last_turn() -> None:
    bidder = Exp3Bidder(rate=0.5)
    world = small_world(turns="linked", judge=ConstantJudge(1.0), bidder=bidder)
    session = run_sync(world.session, 0, 0)
    conversation, paid, clicked = Conversation(world, session, bidder), defaultdict(float), defaultdict(float)
    before = {ad.id: bidder.strategy(ad.id).tolist() for ad in ADS}
    bids = conversation.start.bids if conversation.start is not None else {}
    for turn in range(3):
        assert {ad.id: bidder.strategy(ad.id).tolist() for ad in ADS} == before
        transition = run_sync(lambda t=turn: world.step(session, t, FirstPrice(), auction=conversation.auction(t)))
        conversation.add(transition)
        bidder.observe(transition)
        for click in transition.feedback.clicks:
            clicked[click.ad_id] += float(click.clicked or 0)
            paid[click.ad_id] += transition.payments[click.ad_id]
    for ad_id, bid in bids.items():
        value = world.values.value(session.id, next(ad for ad in ADS if ad.id == ad_id))
        gain = (min(1.0, max(-1.0, clicked[ad_id] - paid[ad_id] / value)) + 1) / 2
        arm = bidder.grid.index(round(bid / value, 9))
        assert bidder._log_weights[ad_id][arm] == pytest.approx(0.5 * gain / (0.2 * 5))
    assert max(clicked.values()) > 1, "an ad that was clicked at several turns"
    assert not bidder._tried
