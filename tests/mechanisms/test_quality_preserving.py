"""Quality-preserving auctions: the reserve that costs imply, the draw, and both payments against their definitions."""

from __future__ import annotations

import asyncio
import itertools
import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize

from mechanisms.quality_preserving import QualityPreserving, ScreenedVCG
from mechanisms.vcg import VCG
from simenv import Claim, check_mechanism
from simenv.check import random_auction, with_bid
from simenv.errors import ClaimViolated, InputError
from simenv.llm import ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.records import Auction
from simenv.seeding import keyed_rng
from tests.support.auctions import GivenCTR, make_auction

AMOUNTS, Q, COSINES = [40.0, 25.0, 60.0, 10.0], [0.5, 0.7, 0.2, 0.4], [0.6, 0.5, 0.1, 0.3]


def mechanism(kind=QualityPreserving, q=Q, **options):
    return kind(ScriptedLLM(), ctr_model=GivenCTR(q), **options)


def auction(**options) -> Auction:
    return make_auction(AMOUNTS, COSINES, **options)


def margins(weight: float) -> np.ndarray:
    return np.array(AMOUNTS) * Q - weight * (1 - np.array(COSINES))


def test_ads_that_take_more_than_they_bring_are_screened_out() -> None:
    """c3 brings 10 x 0.4 = 4 and takes 0.7 of the weight: it is out from a weight of 5.72 on."""
    assert "c3" in mechanism(quality_weight=5.7).choice_probs(auction())
    assert "c3" not in mechanism(quality_weight=5.72).choice_probs(auction())
    assert set(mechanism(ScreenedVCG, quality_weight=1000.0, slots=4).allocate(auction())) == set()
    assert mechanism(quality_weight=1000.0).choice_probs(auction()) == {"": 1.0}


@pytest.mark.parametrize("temperature", [2.0, 10.0])
def test_the_draw_maximises_welfare_less_temperature_times_divergence(temperature: float) -> None:
    margin = np.concatenate([[0.0], margins(4.0)])

    def loss(x: np.ndarray) -> float:
        return float(-(x * margin).sum() + temperature * (x * np.log(np.maximum(x, 1e-12) * len(x))).sum())

    best = minimize(
        loss,
        np.full(5, 0.2),
        bounds=[(1e-12, 1)] * 5,
        constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
        tol=1e-12,
    ).x
    probs = mechanism(quality_weight=4.0, temperature=temperature).choice_probs(auction())
    assert list(probs) == ["", "c0", "c1", "c2", "c3"]
    assert list(probs.values()) == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("reserve", [0.0, 20.0])
def test_expected_payment_is_the_myerson_integral_of_the_share(reserve: float) -> None:
    made, offered = mechanism(), auction(reserve=reserve)
    for ad_id, chance in made.choice_probs(offered).items():
        if ad_id:
            bid = offered.bid_of(ad_id).amount
            own = next(r for r in made.rank(offered) if r.bid.ad.id == ad_id)
            least = made.reserve(offered, own.bid, own.q)

            def share(z: float, ad_id: str = ad_id) -> float:
                return made.choice_probs(with_bid(offered, ad_id, z)).get(ad_id, 0.0)

            myerson = bid * chance - quad(share, least, bid)[0]
            assert made.expected_price(offered, ad_id) * chance == pytest.approx(myerson, rel=1e-7)


def test_payments_average_to_the_closed_form() -> None:
    """20,000 draws, 3 ads, shares and payments within 5 standard errors: false alarm below 4e-6."""
    made, offered = mechanism(), auction()
    noise = keyed_rng("quality-test").gumbel(size=(20_000, 5))
    rows = [made.draw(offered, draws) for draws in noise]
    for ad_id, chance in made.choice_probs(offered).items():
        if ad_id:
            paid = np.array([row.get(ad_id, 0.0) for row in rows])
            won = np.array([ad_id in row for row in rows])
            expected = chance * made.expected_price(offered, ad_id)
            assert abs(paid.mean() - expected) < 5 * paid.std() / math.sqrt(len(paid))
            assert abs(won.mean() - chance) < 5 * math.sqrt(chance * (1 - chance) / len(won))


def test_the_winner_pays_the_least_bid_that_still_wins_under_the_same_noise() -> None:
    for index in range(30):
        _, offered = random_auction(9, index)
        made = QualityPreserving(ScriptedLLM())
        noise = keyed_rng("critical", index).gumbel(size=1 + len(offered.bids))
        for ad_id, price in made.draw(offered, noise).items():
            assert ad_id in made.draw(with_bid(offered, ad_id, price * (1 + 1e-9)), noise)
            assert ad_id not in made.draw(with_bid(offered, ad_id, price * (1 - 1e-9)), noise)


def test_the_lottery_is_of_the_draw() -> None:
    made, offered = mechanism(), auction()
    lottery = asyncio.run(made.lottery(offered))
    assert sum(chance for chance, _ in lottery) == pytest.approx(1.0)
    shown = [outcome.placements[0].ad_id if outcome.placements else "" for _, outcome in lottery]
    assert shown == list(made.choice_probs(offered))
    run = asyncio.run(run_mechanism(made, offered))
    assert run.details["propensity"] == made.choice_probs(offered)[run.details["choice"]]
    assert run.response in {outcome.response for _, outcome in lottery}


@pytest.mark.parametrize("index", range(8))
def test_screened_vcg_charges_the_welfare_that_the_others_lose(index: int) -> None:
    """All ways to fill the places are tried; with one quality cost a reserve is one more bidder at every place."""
    _, offered = random_auction(11, index)
    offered = offered.model_copy(update={"max_ads": 3, "reserve": 0.0, "bids": offered.bids[:6]})
    made = ScreenedVCG(ScriptedLLM(), ctr_model=GivenCTR(0.4, discount=0.7), quality_weight=6.0)
    net = {b.ad.id: b.amount * 0.4 - made.cost(b) for b in offered.bids}

    def welfare(ads: list[float]) -> float:
        ways = itertools.permutations([*ads, 0.0, 0.0, 0.0], 3)
        return max(sum(w * s for w, s in zip([1.0, 0.7, 0.49], way, strict=True)) for way in ways)

    for place, (ad_id, price) in enumerate(made.allocate(offered).items()):
        others = [s for other, s in net.items() if other != ad_id]
        weight = 0.7**place
        theirs = welfare(list(net.values())) - weight * net[ad_id]
        cost = made.cost(offered.bid_of(ad_id))
        # It pays what the others lose and the quality that it takes itself.
        assert price * 0.4 * weight == pytest.approx(welfare(others) - theirs + weight * cost)


def test_screened_vcg_without_a_weight_is_vcg() -> None:
    for index in range(5):
        _, offered = random_auction(4, index)
        free = ScreenedVCG(ScriptedLLM(), quality_weight=0.0).allocate(offered)
        assert free == pytest.approx(VCG(ScriptedLLM()).allocate(offered))


@pytest.mark.parametrize("temperature", [0.05, 5.0, 1e6])
def test_claims_hold_at_any_temperature(temperature: float) -> None:
    report = check_mechanism(QualityPreserving(ScriptedLLM(), temperature=temperature), auctions=6)
    assert {"truthful_um", "truthful_um_in_expectation"} <= set(report.claims)


class PaysTheBid(QualityPreserving):
    def draw(self, auction: Auction, noise) -> dict[str, float]:
        return {ad_id: auction.bid_of(ad_id).amount for ad_id in super().draw(auction, noise)}


class ForgetsTheCost(QualityPreserving):
    """Maps a score back to a bid without the quality cost."""

    def bid_to_beat(self, winner, score: float) -> float:
        return score / winner.q


class PaysTheReserve(QualityPreserving):
    """Right draw by draw, and wrong about its average."""

    claims = frozenset({Claim.TRUTHFUL_UM_IN_EXPECTATION})

    def expected_price(self, auction: Auction, ad_id: str) -> float:
        own = next(r for r in self.rank(auction) if r.bid.ad.id == ad_id)
        return self.reserve(auction, own.bid, own.q)


@pytest.mark.parametrize("broken", [PaysTheBid, ForgetsTheCost, PaysTheReserve])
def test_wrong_payments_are_refused(broken) -> None:
    with pytest.raises(ClaimViolated, match="truthful_um"):
        check_mechanism(broken(ScriptedLLM()), auctions=40)


@pytest.mark.parametrize(
    "options", [{"temperature": 0}, {"temperature": math.inf}, {"quality_weight": -1}, {"quality_weight": "much"}]
)
def test_numbers_out_of_range_are_refused(options) -> None:
    with pytest.raises(InputError, match="must be"):
        QualityPreserving(ScriptedLLM(), **options)
