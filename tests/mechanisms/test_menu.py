"""Menus, and what is exact on them: the tilted optimum's curve, its best responses, and the menu optimum."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest

from mechanisms.menu import Item, Menu, choice_points, choice_tables, log_prob, scores, tilted
from mechanisms.menu_optimum import MenuOptimum
from mechanisms.tilted_optimum import TiltedOptimum
from simenv import Auction, Objective, markup
from simenv.check import expectation, random_auction, with_bid
from simenv.ctr.models import CosineCTR, Floats
from simenv.errors import InputError, MissingCapability
from simenv.llm import Capability, ScriptedLLM, metered
from simenv.mechanism import Lottery, lottery_of, run_mechanism
from simenv.records import Outcome
from simenv.writer.writer import Writer
from tests.support.auctions import small_auction
from tests.support.fakes import FakeChooser

LLM = FakeChooser()


def lottery(mechanism: TiltedOptimum | MenuOptimum, auction: Auction) -> Lottery:
    return asyncio.run(lottery_of(mechanism, auction))


def items_of(mechanism: TiltedOptimum | MenuOptimum, auction: Auction) -> list[Item]:
    return asyncio.run(mechanism.menu.items(auction))


@pytest.mark.parametrize(("max_ads", "shortlist", "size"), [(0, 4, 1), (1, 4, 7), (2, 0, 7), (2, 3, 13), (3, 3, 19)])
def test_the_menu_is_none_each_ad_and_ordered_lists_of_the_shortlist(max_ads: int, shortlist: int, size: int) -> None:
    auction = small_auction(6, max_ads=max_ads)
    lists = Menu(LLM, CosineCTR(), Objective(), shortlist=shortlist).lists(auction)
    ids = [tuple(ad.id for ad in ads) for ads in lists]
    assert len(ids) == len(set(ids)) == size
    assert ids[0] == ()
    assert {row for row in ids if len(row) == 1} == ({(b.ad.id,) for b in auction.bids} if max_ads else set())
    top = [bid.ad.id for bid in sorted(auction.bids, key=lambda bid: -bid.relevance)[:shortlist]]
    assert {row for row in ids if len(row) == 2} == (set(permutations(top, 2)) if max_ads > 1 else set())


def test_every_answer_shows_its_list_and_common_beginnings_are_asked_for_once() -> None:
    auction = small_auction(4)
    menu = Menu(LLM, CosineCTR(), Objective(), shortlist=4)

    async def go() -> tuple[list[Item], int]:
        with metered() as meter:
            return await menu.items(auction), meter.usage.calls

    items, calls = asyncio.run(go())
    shown = [tuple(markup.parse(item.response, auction).links) for item in items]
    assert shown == [tuple(ad.id for ad in ads) for ads in menu.lists(auction)]
    assert calls == 1 + 4 + 4 * 3, "the answer, each ad's sentence, and a second sentence for each pair"


def test_the_reference_is_how_often_the_writer_shows_each_list() -> None:
    """2,000 draws of the two-stage writer without bids, each of 17 lists within five sd: false alarm below 1e-4."""
    auction = small_auction(4)
    mechanism = TiltedOptimum(LLM, shortlist=4)
    items = items_of(mechanism, auction)
    probs = np.exp([item.log_weight for item in items])
    assert probs.sum() == pytest.approx(1, abs=1e-9), "with the whole shortlist the menu is all that the writer can do"
    writer = Writer(LLM)

    async def draw() -> list[str]:
        texts = [writer.own_choice(auction, show_bids=False, sample=j) for j in range(2000)]
        return [" ".join(markup.parse(text, auction).links) for text in await asyncio.gather(*texts)]

    counts = Counter(asyncio.run(draw()))
    for item, prob in zip(items, probs, strict=True):
        seen = counts[" ".join(item.click_probs)]
        assert abs(seen - 2000 * prob) <= 5 * math.sqrt(2000 * prob * (1 - prob)) + 1


def test_pi_star_is_the_tilt_of_the_reference() -> None:
    auction = small_auction(4)
    mechanism = TiltedOptimum(LLM, kl_weight=7.0)
    items = items_of(mechanism, auction)
    bids = {bid.ad.id: bid.amount for bid in auction.bids}
    weights = [math.exp(i.log_weight + sum(bids[a] * q for a, q in i.click_probs.items()) / 7) for i in items]
    expected = {item.response: weight / sum(weights) for item, weight in zip(items, weights, strict=True)}
    assert {made.response: prob for prob, made in lottery(mechanism, auction)} == pytest.approx(expected)


def moments(mechanism: TiltedOptimum, auction: Auction, ad_id: str) -> tuple[float, float]:
    """ITCTR and its slope, Var(q_i 1(i in y)) / kl_weight."""
    made = lottery(mechanism, auction)
    clicks = np.array(
        [mechanism.ctr_model.click_probs(auction, o.response, _shown(o)).get(ad_id, 0.0) for _, o in made]
    )
    probs = np.array([prob for prob, _ in made])
    mean = float(probs @ clicks)
    return mean, float(probs @ clicks**2 - mean**2) / mechanism.kl_weight


def _shown(made: Outcome) -> list[str]:
    return [placement.ad_id for placement in made.placements]


@pytest.mark.parametrize("ad_id", ["ad-1", "ad-2", "ad-4"])
def test_the_slope_of_the_curve_is_variance_over_kl_weight(ad_id: str) -> None:
    """[d ITCTR / d b = Var / beta, LLM-Auction section 3]"""
    mechanism = TiltedOptimum(LLM)
    auction = small_auction(4)
    for amount in (0.0, 5.0, 20.0, 60.0):
        step = 1e-3
        above, below = (moments(mechanism, with_bid(auction, ad_id, amount + d), ad_id)[0] for d in (2 * step, 0.0))
        slope = moments(mechanism, with_bid(auction, ad_id, amount + step), ad_id)[1]
        assert (above - below) / (2 * step) == pytest.approx(slope, rel=1e-5, abs=1e-9)
        assert slope > 0


def test_the_curve_is_monotone_and_has_no_jumps() -> None:
    """Var <= q^2 / 4, so a bid of one more currency unit moves ITCTR by at most q^2 / (4 kl_weight)."""
    mechanism = TiltedOptimum(LLM)
    auction = small_auction(4)
    curve = np.array([moments(mechanism, with_bid(auction, "ad-2", float(b)), "ad-2")[0] for b in range(1, 101)])
    steps = np.diff(curve)
    q = CosineCTR().relevance(auction)[1]
    assert (steps > 0).all()
    assert steps.max() <= q**2 / 4 / mechanism.kl_weight


def test_the_best_response_of_a_utility_maximiser_solves_its_first_order_condition() -> None:
    """max_b (v - b) ITCTR(b) on a grid of 0.1, against the root of v - b = ITCTR / ITCTR'."""
    mechanism = TiltedOptimum(LLM)
    auction = small_auction(3, max_ads=1)
    value = 60.0
    grid = np.arange(0.0, value, 0.1)
    curve = [moments(mechanism, with_bid(auction, "ad-2", float(b)), "ad-2") for b in grid]
    utility = [(value - b) * mean for b, (mean, _) in zip(grid, curve, strict=True)]
    best = float(grid[int(np.argmax(utility))])
    assert 5 < best < 55, "an inner solution"

    def excess(bid: float) -> float:
        mean, slope = moments(mechanism, with_bid(auction, "ad-2", bid), "ad-2")
        return value - bid - mean / slope

    low, high = best - 1, best + 1
    assert excess(low) > 0 > excess(high)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    assert best == pytest.approx(low, abs=0.1)


def test_a_value_maximiser_bids_value_over_target() -> None:
    """An expected click costs exactly the bid, and clicks rise with it: v / t is the best bid that keeps the target."""
    mechanism = TiltedOptimum(LLM)
    auction = small_auction(4)
    last = -1.0
    for amount in np.linspace(0.5, 80, 20):
        other = with_bid(auction, "ad-3", float(amount))
        made = expectation(lottery(mechanism, other), mechanism.ctr_model, other, "ad-3")
        assert made.payment == pytest.approx(amount * made.itctr)
        assert made.itctr > last
        last = made.itctr


def test_a_small_kl_weight_gives_the_menu_optimum_and_a_large_one_the_reference() -> None:
    auction = small_auction(4)
    ((_, best),) = lottery(MenuOptimum(LLM), auction)
    cold = lottery(TiltedOptimum(LLM, kl_weight=1e-3), auction)
    assert {made.response: prob for prob, made in cold if prob > 1e-6} == {best.response: pytest.approx(1)}
    hot = TiltedOptimum(LLM, kl_weight=1e9)
    reference = np.exp([item.log_weight for item in items_of(hot, auction)])
    assert [prob for prob, _ in lottery(hot, auction)] == pytest.approx(list(reference), rel=1e-5)


def test_the_menu_optimum_is_the_best_of_all_its_answers() -> None:
    for index in range(5):
        _, auction = random_auction(3, index)
        mechanism = MenuOptimum(LLM)
        ((_, made),) = lottery(mechanism, auction)
        objective = Objective()
        amounts = {bid.ad.id: bid.amount for bid in auction.bids}
        allowed = [i for i in items_of(mechanism, auction) if all(amounts[a] >= auction.reserve for a in i.click_probs)]
        rewards = [objective.reward(auction, item.click_probs) for item in allowed]
        probs = mechanism.ctr_model.click_probs(auction, made.response, _shown(made))
        assert objective.reward(auction, probs) == pytest.approx(max(rewards))


def test_ads_below_the_reserve_are_not_shown() -> None:
    auction = small_auction(4, reserve=25.0)
    below = {bid.ad.id for bid in auction.bids if bid.amount < 25}
    assert 0 < len(below) < 4
    shown = {p.ad_id for prob, made in lottery(TiltedOptimum(LLM), auction) for p in made.placements}
    assert shown == {bid.ad.id for bid in auction.bids} - below


def test_runs_are_drawn_from_the_lottery() -> None:
    """500 draws of the generator; every answer within five sd: fresh draws would fail with probability below 1e-4."""
    auction = small_auction(4)
    mechanism = TiltedOptimum(LLM)

    async def draw() -> Counter[str]:
        return Counter([(await mechanism.run(auction, np.random.default_rng(i))).response for i in range(500)])

    counts = asyncio.run(draw())
    for prob, made in lottery(mechanism, auction):
        assert abs(counts[made.response] - 500 * prob) <= 5 * math.sqrt(500 * prob * (1 - prob)) + 1
        assert made.details["propensity"] == prob


def test_an_ad_below_the_reserve_of_everybody_leaves_the_plain_answer() -> None:
    auction = small_auction(3, reserve=1e6)
    ((prob, made),) = lottery(TiltedOptimum(LLM), auction)
    assert (prob, made.placements) == (pytest.approx(1), ())


def test_probabilities_of_lists_follow_the_writers_steps() -> None:
    auction = small_auction(3, max_ads=2)
    a, b = auction.bids[0].ad, auction.bids[1].ad
    lists = [(), (a,), (a, b)]
    sets = choice_points(auction, lists)
    assert sets == {frozenset(), frozenset({a.id})}
    tables = asyncio.run(choice_tables(Writer(LLM), auction, sets))
    first, second = tables[frozenset()], tables[frozenset({a.id})]
    assert [log_prob(auction, tables, ads) for ads in lists] == [
        first[""],
        first[a.id] + second[""],
        first[a.id] + second[b.id],
    ]


def test_huge_worth_and_impossible_answers_break_nothing() -> None:
    items = [Item("a", {}, 0.0, 0.0), Item("b", {}, 0.0, -5.0), Item("c", {}, 0.0, 3.0)]
    worth: Floats = np.array([1e12, 1e12, -np.inf])
    probs = tilted(items, worth, 0.5)
    assert probs == pytest.approx([1 / (1 + math.exp(-5)), 1 / (1 + math.exp(5)), 0.0])
    assert list(scores(small_auction(2), [Item("x", {"ad-1": 0.5}, 3.0, 0.0)], click_cost=1.0)) == pytest.approx(
        [(small_auction(2).bids[0].amount - 1) * 0.5 - 3]
    )


def test_options_that_cannot_be_are_refused() -> None:
    for wrong in (
        {"kl_weight": 0},
        {"kl_weight": math.inf},
        {"kl_weight": "1"},
        {"shortlist": -1},
        {"reference": "me"},
    ):
        with pytest.raises(InputError, match=next(iter(wrong))):
            TiltedOptimum(LLM, **wrong)
    mute = ScriptedLLM(capabilities=frozenset({Capability.CONSTRAINT, Capability.PREFILL}))
    with pytest.raises(MissingCapability, match="logprobs"):
        TiltedOptimum(mute)
    auction = small_auction(3)
    assert asyncio.run(run_mechanism(TiltedOptimum(mute, reference="uniform"), auction)).response
