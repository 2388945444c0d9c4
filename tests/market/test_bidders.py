"""Bidders: what they bid, what they learn, and that budgets hold."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from simenv import Auction, Transition, make_mechanism
from simenv.background_loop import run_sync
from simenv.errors import InputError, UnknownName
from simenv.llm import ScriptedLLM
from simenv.market.bidders import (
    BidRequest,
    Budgeted,
    Exp3Bidder,
    MixedBidder,
    ShadedBidder,
    UniformBidder,
    make_bidder,
)
from simenv.market.values import UniformValues
from simenv.objective import Objective
from simenv.records import Bid, Click, Feedback, Query
from simenv.seeding import keyed_rng
from simenv.settlement import settle
from simenv.testing import ADS, small_world
from tests.support.bidding import FirstPrice, run
from tests.support.fakes import ConstantJudge

ME, OTHER = ADS[0], ADS[1]


def request(auction_id: str, value: float) -> BidRequest:
    """What my advertiser is asked in turn 0 of the session "s"."""
    return BidRequest(auction_id, "s", 0, ME, value)


def spending(rows: list[Transition]) -> dict[str, list[float]]:
    """What each ad paid in each auction in which it was a candidate."""
    paid = defaultdict(list)
    for row in rows:
        for bid in row.auction.bids:
            paid[bid.ad.id].append(row.payments.get(bid.ad.id, 0.0))
    return paid


def test_bidders_without_memory() -> None:
    assert [make_bidder(name).bid(request("a", 60.0)) for name in ("truthful", "shaded:0.7", "shaded:0", "roi:2")] == (
        pytest.approx([60.0, 42.0, 0.0, 30.0])
    )
    draws = [make_bidder("uniform").bid(request(str(i), 60.0)) for i in range(2000)]
    assert {float(x) for x in range(1, 101)} >= set(draws)
    assert draws == [UniformBidder().bid(request(str(i), 1.0)) for i in range(2000)], "by key, whatever the value"
    # 2000 uniform draws of 1..100: the mean is 50.5 with standard error 0.65; five of these by chance: 6e-7.
    assert abs(np.mean(draws) - 50.5) < 3.3
    assert {min(draws), max(draws)} == {1.0, 100.0}  # by chance one is missing: 4e-9


def test_names() -> None:
    for name in ("truthful", "uniform", "exp3", "shaded:0.7", "roi:2"):
        assert make_bidder(name).name == name
    assert make_bidder("learning").name == "exp3", "the older name"
    assert make_bidder("shaded:1").name == "truthful"
    assert Budgeted(make_bidder("roi:2"), 50, "session").name == "roi:2, budget 50 a session"


@pytest.mark.parametrize("name", ["truthfull", "", "greedy"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(UnknownName, match=r"known are exp3, learned, roi, shaded, truthful, uniform"):
        make_bidder(name)


@pytest.mark.parametrize("name", ["truthful:1", "uniform:3"])
def test_names_without_an_option_take_no_number(name: str) -> None:
    with pytest.raises(InputError, match=f"bidder '{name}': nothing can follow the colon"):
        make_bidder(name)


@pytest.mark.parametrize("name", ["shaded", "shaded:", "shaded:x", "roi", "shaded:-1", "shaded:nan", "roi:0", "roi:-2"])
def test_numbers_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"needs (factor|target_roi)|valid number|must be at least 0|must be positive"):
        make_bidder(name)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Exp3Bidder(grid=()),
        lambda: Exp3Bidder(grid=(0.5, -0.1)),
        lambda: Exp3Bidder(grid=(0.5, float("nan"))),
        lambda: Exp3Bidder(rate=0),
        lambda: Exp3Bidder(rate=1.5),
        lambda: MixedBidder((), ()),
        lambda: MixedBidder((0.5, 1.0), (0.5, 0.4)),
        lambda: MixedBidder((0.5, 1.0), (1.5, -0.5)),
        lambda: MixedBidder((0.5, 1.0), (1.0,)),
        lambda: Budgeted(ShadedBidder(), 0),
        lambda: Budgeted(ShadedBidder(), float("nan")),
        lambda: Budgeted(ShadedBidder(), 5, "month"),
        lambda: Budgeted(ShadedBidder(), 5, auctions=0),
    ],
)
def test_bad_parameters_are_refused(build: Any) -> None:
    with pytest.raises(InputError):
        build()


def duel(bidder: Exp3Bidder, number: int, rival: float = 30.0, abstains: bool = False) -> Transition:
    """One first-price auction of ME against a fixed bid; the winner is clicked half of the time."""
    auction_id = f"duel.{number}"
    value = UniformValues().value(auction_id, ME)
    bids = (Bid(ad=ME, amount=bidder.bid(request(auction_id, value))), Bid(ad=OTHER, amount=rival))
    auction = Auction(id=auction_id, query=Query(text="Which?"), bids=bids, max_ads=1)
    made = FirstPrice().run(auction, keyed_rng("unused"))
    clicked = None if abstains else bool(keyed_rng("duel click", number).random() < 0.5)
    feedback = Feedback(clicks=tuple(Click(ad_id=p.ad_id, clicked=clicked) for p in made.placements))
    values = {ME.id: value, OTHER.id: rival}
    return settle(auction, made, feedback, values, Objective(), index=number, mechanism="first", persona_id="p", turn=0)


def test_learning_starts_uniform_and_shades_under_first_price() -> None:
    """Bidding the value earns nothing under first price, shading earns something: the weight moves.

    Everything is keyed, so this holds or does not. Under 50 other sequences of keys the full value's probability ended
    at 0.051 or below (0.041 on average; the least possible is 0.04); it starts at 0.2.
    """
    bidder = Exp3Bidder(rate=0.2)
    assert bidder.strategy(ME.id) == pytest.approx(np.full(5, 0.2))
    for number in range(1500):
        bidder.observe(duel(bidder, number, rival=5.0))
        strategy = bidder.strategy(ME.id)
        assert strategy.sum() == pytest.approx(1.0)
        assert strategy.min() >= 0.2 / 5 - 1e-12, "exploration goes on"
    assert strategy[-1] < 0.1
    assert bidder.strategy(OTHER.id) == pytest.approx(np.full(5, 0.2)), "each ad learns for itself"


def test_one_step_is_that_of_exp3() -> None:
    """Gain over the probability of having tried: a factor seldom tried counts for more."""
    bidder = Exp3Bidder(grid=(0.5, 0.9), rate=0.2)
    bidder._log_weights[ME.id][:] = (1.0, 0.0)
    for number in range(2):
        before, probs = bidder._log_weights[ME.id].copy(), bidder.strategy(ME.id)
        seen = duel(bidder, number, rival=0.0)
        arm = int(np.argmin([abs(seen.auction.bids[0].amount - f * seen.values[ME.id]) for f in bidder.grid]))
        bidder.observe(seen)
        utility = (1 - bidder.grid[arm]) * bool(seen.payments[ME.id])
        before[arm] += 0.2 * (1 + utility) / 2 / (2 * probs[arm])
        assert bidder._log_weights[ME.id] == pytest.approx(before)


def test_weights_stay_probabilities_after_very_many_gains() -> None:
    """Log-weights grow without bound; the least probability does not shrink below rate / len(grid)."""
    bidder = Exp3Bidder(grid=(0.0, 1.0), rate=1.0)
    for number in range(5000):
        bidder.observe(duel(bidder, number, rival=1.0))
    assert bidder.strategy(ME.id) == pytest.approx([0.5, 0.5]), "rate 1 explores alone"
    bidder = Exp3Bidder(grid=(0.5, 0.9), rate=0.01)
    bidder._log_weights[ME.id][:] = (1e6, 0.0)
    assert bidder.strategy(ME.id) == pytest.approx([0.995, 0.005])


def test_nothing_is_learned_from_an_abstention_or_from_another_bidders_auction() -> None:
    bidder = Exp3Bidder(rate=0.5)
    for number in range(20):
        bidder.observe(duel(bidder, number, rival=0.0, abstains=True))
    assert bidder.strategy(ME.id) == pytest.approx(np.full(5, 0.2))
    bidder.observe(duel(Exp3Bidder(), 99))
    assert bidder.strategy(ME.id) == pytest.approx(np.full(5, 0.2))


@pytest.mark.parametrize("inner", ["truthful", "learning"])
@pytest.mark.parametrize("pacing", [None, 20])
def test_a_budget_is_never_overspent_under_first_price(inner: str, pacing: int | None) -> None:
    """In chunks of 64 too: every payment is booked before the next bid."""
    paid = spending(run(Budgeted(make_bidder(inner), 70.0, auctions=pacing), n=120, chunk=64))
    free = spending(run(make_bidder(inner), n=120))
    assert all(sum(amounts) <= 70 + 1e-9 for amounts in paid.values())
    assert sum(sum(amounts) > 70 for amounts in free.values()) >= 3, "without the budget some would spend more"
    if pacing is None and inner == "truthful":
        assert sum(sum(amounts) > 65 for amounts in paid.values()) >= 3, "and it is spent"


@pytest.mark.parametrize(
    "make", [lambda: Budgeted(ShadedBidder(), 60.0), lambda: Budgeted(ShadedBidder(), 60.0, "session"), Exp3Bidder]
)
def test_bidders_with_memory_meet_the_same_auctions_in_chunks_of_any_size(make: Any) -> None:
    """Every ad shown is clicked, so that each auction changes the bids of the next."""
    one, *others = (run(make(), n=60, chunk=chunk, judge=ConstantJudge(1.0)) for chunk in (1, 16, 64))
    assert all(other == one for other in others)
    assert one != run(ShadedBidder(), n=60, judge=ConstantJudge(1.0)), "the memory matters here"


def test_a_budget_for_each_session_begins_anew() -> None:
    rows = run(Budgeted(ShadedBidder(), 40.0, "session"), n=120)
    sessions: dict[tuple[str, str], float] = defaultdict(float)
    for row in rows:
        for ad_id, amount in row.payments.items():
            sessions[row.auction.id.rpartition(".")[0], ad_id] += amount
    assert max(sessions.values()) <= 40 + 1e-9
    assert max(sum(amounts) for amounts in spending(rows).values()) > 40
    for row in rows:  # in a session's first auction the whole budget is there
        if row.turn == 0:
            for bid in row.auction.bids:
                assert bid.amount == min(row.values[bid.ad.id], 40.0)


def test_spent_is_what_was_paid() -> None:
    bidder = Budgeted(Exp3Bidder(), 1000.0)
    bidder.observe(transition := duel(bidder, 3, rival=0.0))
    bidder.observe(duel(bidder, 4, rival=0.0))
    total = transition.payments.get(ME.id, 0.0) + duel(Exp3Bidder(), 4, rival=0.0).payments.get(ME.id, 0.0)
    assert bidder.spent("any", ME.id) == pytest.approx(total)


def test_pacing_spreads_spending_over_the_run() -> None:
    """The share spent in the first half is nearer to a half. Keyed: it holds or does not."""
    n, budget = 120, 400.0
    shares = []
    for pacing in (None, n // 2):  # six of twelve ads are candidates: an ad meets about half of the auctions
        # Every ad shown is clicked, so that a budget is many payments.
        rows = run(Budgeted(ShadedBidder(), budget, auctions=pacing, rate=0.1), n=n, judge=ConstantJudge(1.0))
        halves = [sum(sum(r.payments.values()) for r in part) for part in (rows[: n // 2], rows[n // 2 :])]
        assert sum(halves) > 0
        shares.append(halves[0] / sum(halves))
    assert abs(shares[1] - 0.5) < abs(shares[0] - 0.5)
    assert shares[0] > 0.9
    assert shares[0] - shares[1] > 0.1


@pytest.mark.parametrize("make", [lambda: Exp3Bidder(rate=0.5), lambda: Budgeted(ShadedBidder(), 60.0)])
def test_every_mechanism_has_a_population_of_its_own(make: Any) -> None:
    context = {"llm": ScriptedLLM()}
    gsp, slots = (make_mechanism(name, context=context) for name in ("gsp", "fixed_slots"))
    both = run(make(), {"gsp": gsp, "fixed_slots": slots}, n=90, chunk=4)
    by_name = {name: [row for row in both if row.mechanism == name] for name in ("gsp", "fixed_slots")}
    assert by_name["fixed_slots"] == run(make(), {"fixed_slots": slots}, n=90, chunk=4)
    assert by_name["gsp"] == run(make(), {"gsp": gsp}, n=90, chunk=4)
    bids = [[row.auction.bids for row in rows] for rows in by_name.values()]
    assert bids[0] != bids[1], "what they meet differs, so they come to bid otherwise"


def test_the_worlds_own_bidder_learns_nothing_from_a_run() -> None:
    bidder = Exp3Bidder(rate=0.5)
    assert run(bidder, n=30) == run(bidder, n=30)
    assert all(bidder.strategy(ad.id) == pytest.approx(np.full(5, 0.2)) for ad in ADS)


@pytest.mark.parametrize("amount", [-1.0, float("nan"), float("inf")])
def test_a_bidder_that_bids_nonsense_is_named(amount: float) -> None:
    class FakeBadBidder:
        name = "mine"

        def bid(self, request: BidRequest) -> float:
            return amount

    world = small_world(bidder=FakeBadBidder())
    session = run_sync(world.session, 0, 0)
    with pytest.raises(InputError, match=r"bidder 'mine' bids .* expected a finite number, at least 0"):
        world.auction(session, 0)


def test_a_mixed_bidder_draws_by_its_probabilities() -> None:
    bidder = MixedBidder((0.2, 0.5), (0.25, 0.75))
    bids = [bidder.bid(request(str(i), 100.0)) for i in range(2000)]
    assert set(bids) == {20.0, 50.0}
    # Of 2000 draws with probability 0.75 the share has standard error 0.0097; five of these by chance: 6e-7.
    assert abs(np.mean(np.array(bids) == 50.0) - 0.75) < 0.049
