"""Audits of sessions: a bid holds for the whole session, and clicks and payments are added up over its turns."""

from __future__ import annotations

import numpy as np
import pytest

from simenv import Claim, make_mechanism
from simenv.auditing.distort import DistortedCTR
from simenv.auditing.evaluate import AuditCase, AuditedMechanism, BidEvaluator
from simenv.auditing.records import Audit, AuditOptions
from simenv.auditing.report import caption
from simenv.auditing.run import audit
from simenv.auditing.session_case import truthful_start, whole_session
from simenv.background_loop import run_sync
from simenv.ctr.models import CosineCTR
from simenv.errors import InputError
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism
from simenv.session_play import play_order
from simenv.testing import small_world
from tests.support.session_mechanisms import OnceASession

QUICK = AuditOptions(n=2, advertisers=2, bids=6, curve_bids=6, collusion=0, wrong_ctr=0, play=0, replicas=4)


def run(mechanism: Mechanism, options: AuditOptions = QUICK, **world: object) -> Audit:
    place = small_world(**{"turns": "linked", **world})
    return run_sync(lambda: audit(place, {"it": mechanism}, options))


def test_a_truthful_session_mechanism_passes_and_one_that_charges_more_does_not() -> None:
    report = run(OnceASession())
    found = report.mechanisms["it"]
    assert {claim: verdict.verdict for claim, verdict in found.verdicts.items()} == dict.fromkeys(
        sorted(OnceASession.claims), "passed"
    )
    assert (found.measured, report.turns, report.auctions) == ("exact", 3, 2)
    assert found.largest_regret_um_own == pytest.approx(0, abs=1e-9)
    assert found.revenue.value > 0
    assert "2 sessions of 3 linked turns" in caption(report)

    class ChargesMore(OnceASession):
        def price(self, critical: float) -> float:
            return 1.05 * critical

    wrong = run(ChargesMore()).mechanisms["it"]
    assert wrong.verdicts[Claim.TRUTHFUL_UM_IN_EXPECTATION].verdict == "failed"


def test_clicks_and_payments_are_the_mean_over_all_orders_of_the_sums_over_turns() -> None:
    world = small_world(turns="linked")
    session = run_sync(world.session, 0, 0)
    start = truthful_start(world, session)
    auction = whole_session(start)
    values = np.array([bid.amount for bid in auction.bids])
    once, case = OnceASession(), AuditCase(session.persona, auction, values, np.ones(len(values)), start)
    lab = BidEvaluator(world.judge)
    measured = run_sync(lab.play, AuditedMechanism("it", once, once.ctr_model, 0), case, values)
    clicks, paid = np.zeros(len(values)), np.zeros(len(values))
    place = {bid.ad.id: i for i, bid in enumerate(auction.bids)}
    for order in start.orders():
        for turn in run_sync(play_order, once, start, order):
            for it in turn.outcome.placements:
                clicks[place[it.ad_id]] += 0.5 / 6
                paid[place[it.ad_id]] += 0.5 * it.price / 6
    assert measured.own_clicks[0] == pytest.approx(clicks)
    assert measured.own_payments[0] == pytest.approx(paid)
    assert lab.best_welfare(case) == pytest.approx(measured.clicks[0] @ values)
    assert clicks.sum() > 0


def test_mechanisms_for_single_auctions_and_drawing_ones_are_audited_over_sessions() -> None:
    once = QUICK.model_copy(update={"n": 1, "advertisers": 1})
    gsp = run(make_mechanism("gsp", context={"llm": ScriptedLLM()}), once).mechanisms["it"]
    assert gsp.measured == "exact"
    assert gsp.verdicts[Claim.INDIVIDUALLY_RATIONAL].verdict == "passed"
    softmax = run(make_mechanism("softmax", context={"llm": ScriptedLLM()}), once).mechanisms["it"]
    assert softmax.measured == "sampled"


def test_sessions_of_more_than_five_turns_are_refused() -> None:
    with pytest.raises(InputError, match="horizon must be at most 5, got 6"):
        run(OnceASession(), horizon=6)


def test_a_distorted_prediction_is_the_same_before_the_session_and_at_the_turn() -> None:
    world = small_world(turns="linked")
    start = truthful_start(world, run_sync(world.session, 0, 0))
    wrong = DistortedCTR(CosineCTR(), "noise", 0)
    assert wrong.relevance(start.auctions[1]).tolist() == wrong.relevance(start.auction((0, 1))).tolist()
