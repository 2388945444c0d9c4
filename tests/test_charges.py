"""Charges that no bid covers are counted, and refused in a strict world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from simenv import outcome
from simenv.charges import overcharges, refuse_overcharges
from simenv.env import NativeAdsEnv
from simenv.errors import InputError, OutcomeError
from simenv.mechanism import mechanism_names
from simenv.records import Auction, Outcome, Transition
from simenv.runs.summary import summarize
from simenv.runs.tables import to_csv, to_markdown
from simenv.testing import small_world
from tests.support.auctions import make_auction
from tests.support.bidding import FirstPrice
from tests.support.runs import transitions

AUCTION = make_auction([10.0, 4.0, 8.0], reserve=5.0)


def charged(prices: Mapping[str, float], transfers: Mapping[str, float] | None = None) -> list[tuple[str, str, float]]:
    links = " or ".join(AUCTION.bid_of(ad_id).ad.link for ad_id in prices)
    made = outcome(AUCTION, f"Take {links}.", prices, transfers=transfers)
    return [(it.kind, it.ad_id, it.excess) for it in overcharges(AUCTION, made)]


class FakeGreedy:
    """Shows the first candidate at twice its bid, and charges the second one 1,000."""

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        first, second, *_ = auction.bids
        text = f"Look at {first.ad.link}."
        return outcome(auction, text, {first.ad.id: 2 * first.amount}, transfers={second.ad.id: 1000.0})


@pytest.mark.parametrize(
    ("prices", "transfers", "expected"),
    [
        ({"c0": 10.0, "c2": 5.0}, None, []),
        ({"c0": 10.0 * (1 + 1e-12)}, None, []),
        ({"c0": 12.0}, None, [("price_above_bid", "c0", 2.0)]),
        ({"c1": 5.0}, None, [("bid_below_reserve", "c1", 1.0)]),
        ({"c0": 6.0}, {"c0": 4.0}, []),
        ({"c0": 6.0}, {"c0": 5.0}, [("transfer_above_bid", "c0", 1.0)]),
        ({"c0": 12.0}, {"c0": 5.0}, [("price_above_bid", "c0", 2.0)]),
        ({"c0": 6.0}, {"c2": 0.5, "c1": 0.25}, [("transfer_not_shown", "c1", 0.25), ("transfer_not_shown", "c2", 0.5)]),
        ({"c0": 6.0}, {"c2": -3.0}, []),
    ],
)
def test_what_counts(prices: dict[str, float], transfers: dict[str, float] | None, expected: list[Any]) -> None:
    assert charged(prices, transfers) == expected


def test_a_view_may_cost_its_bid_and_no_more() -> None:
    auction = make_auction([10.0], reserve=50.0, per_view={0})
    text = f"Take {auction.bids[0].ad.link}."
    assert overcharges(auction, outcome(auction, text, {"c0": 10.0})) == ()
    (found,) = overcharges(auction, outcome(auction, text, {"c0": 12.0}))
    assert (found.kind, found.excess) == ("transfer_above_bid", 2.0)
    with pytest.raises(OutcomeError, match="c0 has a price and transfer together of 12 and a bid of 10 per view"):
        refuse_overcharges(auction, outcome(auction, text, {"c0": 12.0}), "it")


def test_they_are_in_the_transition_and_in_logs_only_if_there_are_any() -> None:
    env = NativeAdsEnv(small_world(), render_mode="ansi")
    env.reset(seed=0)
    greedy: Transition = env.step(FakeGreedy())[4]["transition"]
    assert [it.kind for it in greedy.overcharges] == ["price_above_bid", "transfer_not_shown"]
    assert "overcharge: transfer_not_shown" in str(env.render())
    fair: Transition = env.step(FirstPrice())[4]["transition"]
    assert '"overcharges"' not in fair.model_dump_json()
    for row in (greedy, fair):
        assert Transition.model_validate_json(row.model_dump_json()) == row


def test_tables_have_them_only_if_there_are_any() -> None:
    env = NativeAdsEnv(small_world())
    rows = []
    for mechanism in (FakeGreedy(), FirstPrice()):
        env.reset(seed=0)
        rows.append(env.step(mechanism)[4]["transition"])
    assert "overcharges" not in to_csv(summarize(rows[1:])) + to_markdown(summarize(rows[1:]))
    table = summarize(rows)
    assert ",overcharges,per answer,2.0," in to_csv(table)
    assert "FakeGreedy charged more than bids cover, or ads that were not shown (overcharges)." in to_markdown(table)


def test_a_strict_world_refuses_them() -> None:
    env = NativeAdsEnv(small_world(strict=True))
    auction, _ = env.reset(seed=0)
    first, second, *_ = auction.bids
    with pytest.raises(
        OutcomeError,
        match=rf"FakeGreedy overcharges in auction .*: {first.ad.id} has a price per click of .* and a bid of .*; "
        rf"{second.ad.id} is not shown and has a transfer of 1000",
    ):
        env.step(FakeGreedy())
    with pytest.raises(InputError, match="outcome overcharges"):
        env.step(FakeGreedy().run(auction, np.random.default_rng(0)))
    assert env.step(FirstPrice())[4]["transition"].overcharges == ()


def test_mechanisms_that_ship_have_none_but_those_that_charge_for_influence() -> None:
    charging = set()
    for name in mechanism_names():
        rows = transitions(small_world(reserve=20.0, turns="linked"), name, n=2)
        if any(row.overcharges for row in rows):
            charging.add(name)
            assert {it.kind for row in rows for it in row.overcharges} == {"transfer_not_shown"}
    assert charging == {"mosaic", "token_auction"}
