"""The objective and the three sums of money."""

from __future__ import annotations

import pytest

from simenv import Ad, Auction, Bid, Click, Feedback, Objective, Query, outcome
from simenv.objective import LinearPenalty
from simenv.runs.summary import summarize
from simenv.settlement import settle

ADS = [Ad(id=f"A{i}", advertiser=f"firm {i}", title=f"Thing {i}") for i in range(3)]
AUCTION = Auction(
    id="t",
    query=Query(text="what?"),
    bids=tuple(Bid(ad=ad, amount=10.0 * (i + 1)) for i, ad in enumerate(ADS)),
    max_ads=1,
)
VALUES = {"A0": 12.0, "A1": 25.0, "A2": 40.0}


def test_reward_is_bid_weighted_clicks_minus_the_penalty() -> None:
    objective = Objective(weight=2.0, rule=LinearPenalty(per_extra_ad=7.0, per_violation={"unknown_ad": 3.0}))
    made = outcome(AUCTION, f"{ADS[0].link} {ADS[1].link} @Ghost@[X]", {"A0": 1, "A1": 1})
    # 10 * 1 + 20 * 0.5 - 2 * (7 for one extra ad + 3 for the unknown one)
    assert objective.reward(AUCTION, {"A0": 1.0, "A1": 0.5}, made.violations) == pytest.approx(20 - 2 * 10)


def test_no_penalty_up_to_the_free_number_of_ads() -> None:
    assert Objective().penalty(AUCTION, 1) == 0
    assert Objective().penalty(AUCTION, 3) == 2 * LinearPenalty().per_extra_ad


def settled(clicks: tuple[Click, ...], transfers: dict[str, float] | None = None):
    made = outcome(AUCTION, f"{ADS[0].link} {ADS[1].link}", {"A0": 4.0, "A1": 6.0}, transfers=transfers)
    return settle(
        AUCTION,
        made,
        Feedback(clicks=clicks),
        VALUES,
        Objective(rule=LinearPenalty(per_extra_ad=0.0)),
        index=0,
        mechanism="m",
        persona_id="p",
        turn=0,
    )


def test_revenue_bid_weighted_clicks_and_welfare_are_kept_apart() -> None:
    t = settled(
        (Click(ad_id="A0", clicked=True, click_prob=0.5), Click(ad_id="A1", clicked=False, click_prob=0.1)),
        transfers={"A2": 1.5},
    )
    assert t.payments == {"A0": 4.0, "A1": 0.0, "A2": 1.5}
    assert t.expected_payments == pytest.approx({"A0": 2.0, "A1": 0.6, "A2": 1.5})
    means = {cell.metric: cell.estimate.value for cell in summarize([t]).cells}
    assert means["revenue"] == pytest.approx(2.0 + 0.6 + 1.5)
    assert means["bid_weighted_clicks"] == pytest.approx(10 * 0.5 + 20 * 0.1)
    assert means["welfare"] == pytest.approx(12 * 0.5 + 25 * 0.1)


def test_an_abstention_makes_the_reward_unknown_not_lower() -> None:
    t = settled((Click(ad_id="A0", clicked=True), Click(ad_id="A1", clicked=None)))
    assert t.reward is None
    assert t.expected_reward is None
    assert t.abstentions == 1
    assert t.payments == {"A0": 4.0}  # what is known was paid
