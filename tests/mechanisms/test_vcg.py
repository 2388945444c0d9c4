"""VCG, first price and Myerson: payments against what they are derived from, and wrong payments refused."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from mechanisms.first_price import FirstPrice
from mechanisms.gsp import GSP
from mechanisms.myerson import Exponential, Myerson, Uniform, read_prior
from mechanisms.vcg import VCG
from simenv import Claim, check_mechanism
from simenv.check import random_auction
from simenv.errors import ClaimViolated, InputError
from simenv.llm import ScriptedLLM
from simenv.records import Auction
from tests.support.auctions import GivenCTR, make_auction


def vcg(**options) -> VCG:
    return VCG(ScriptedLLM(), **options)


def best_welfare(scores: list[float], weights: list[float]) -> float:
    """The largest sum of weight times score over all ways to fill the places, by trying them all."""
    ways = itertools.permutations([*scores, *[0.0] * len(weights)], len(weights))
    return max(sum(w * s for w, s in zip(weights, way, strict=True)) for way in ways)


@pytest.mark.parametrize("index", range(8))
@pytest.mark.parametrize("reserve", [0.0, 15.0])
def test_vcg_charges_the_welfare_that_the_others_lose(index: int, reserve: float) -> None:
    """With the reserve taken off every bid VCG is the plain externality, found here by trying every assignment."""
    _, auction = random_auction(3, index)
    auction = auction.model_copy(update={"max_ads": 3, "reserve": reserve, "bids": auction.bids[:6]})
    # Equal relevance: then a reserve per click is the same as one more bidder at every place.
    mechanism = vcg(ctr_model=GivenCTR(0.4, discount=0.7))
    weights = [1.0, 0.7, 0.49]
    scores = {b.ad.id: 0.4 * (b.amount - reserve) for b in auction.bids if b.amount >= reserve}
    for place, (ad_id, price) in enumerate(mechanism.allocate(auction).items()):
        others = [s for other, s in scores.items() if other != ad_id]
        theirs = best_welfare(list(scores.values()), weights) - weights[place] * scores[ad_id]
        loss = best_welfare(others, weights) - theirs
        assert price == pytest.approx(reserve + loss / (0.4 * weights[place]))


def test_vcg_with_one_place_is_the_second_price() -> None:
    for index in range(10):
        _, auction = random_auction(1, index)
        assert vcg(slots=1).allocate(auction) == pytest.approx(GSP(ScriptedLLM(), slots=1).allocate(auction))
    auction = make_auction([30.0, 50.0, 20.0])
    assert vcg(slots=1).allocate(auction) == pytest.approx({"c1": 30.0})


def test_vcg_never_charges_more_than_gsp_at_the_same_bids() -> None:
    for index in range(20):
        _, auction = random_auction(2, index)
        auction = auction.model_copy(update={"max_ads": 3})
        prices, dearer = vcg().allocate(auction), GSP(ScriptedLLM()).allocate(auction)
        assert list(prices) == list(dearer)
        assert all(price <= dearer[ad_id] + 1e-9 for ad_id, price in prices.items())


def test_a_lone_bidder_pays_the_reserve_whatever_the_number_of_places() -> None:
    for places in (1, 2, 5):
        assert vcg(slots=places).allocate(make_auction([80.0], reserve=12.0)) == pytest.approx({"c0": 12.0})


def test_an_ad_that_cannot_be_clicked_is_not_shown() -> None:
    auction = make_auction([1e9, 10.0, 5.0])
    for kind in (VCG, GSP, FirstPrice, Myerson):
        assert "c0" not in kind(ScriptedLLM(), ctr_model=GivenCTR([0.0, 0.5, 1e-300])).allocate(auction)


def test_first_price_charges_the_bid() -> None:
    auction = make_auction([30.0, 50.0, 20.0])
    assert FirstPrice(ScriptedLLM()).allocate(auction) == {"c1": 50.0, "c0": 30.0}


class ClippedVCG(VCG):
    """The plain VCG price, clipped at the reserve."""

    def price(self, auction: Auction, ranked, place: int) -> float:
        plain = super().price(auction.model_copy(update={"reserve": 0.0}), ranked, place)
        return max(plain, auction.reserve)


class WithoutOwnRelevance(VCG):
    """Forgets to divide by the winner's own relevance."""

    def bid_to_beat(self, winner, score: float) -> float:
        return score


class FreeLastPlace(VCG):
    """The (K+1)th bidder prices nothing."""

    def price(self, auction: Auction, ranked, place: int) -> float:
        return super().price(auction, ranked[: self.places(auction)], place)


class OverstatedFirstPrice(FirstPrice):
    claims = frozenset({Claim.TRUTHFUL_UM})


class OverstatedGSP(GSP):
    claims = frozenset({Claim.TRUTHFUL_UM})


class ClippedMyerson(Myerson):
    """The price of plain VCG, clipped at the monopoly reserve."""

    def bid_to_beat(self, winner, score: float) -> float:
        return score / winner.q


@pytest.mark.parametrize(
    "broken", [ClippedVCG, WithoutOwnRelevance, FreeLastPlace, OverstatedFirstPrice, OverstatedGSP, ClippedMyerson]
)
def test_wrong_payments_are_refused(broken) -> None:
    with pytest.raises(ClaimViolated, match="truthful_um"):
        check_mechanism(broken(ScriptedLLM()), auctions=40)


@pytest.mark.parametrize(
    ("prior", "law"),
    [
        (Uniform(1, 100), stats.uniform(1, 99)),
        (Uniform(60, 100), stats.uniform(60, 40)),
        (Exponential(40), stats.expon(scale=40)),
    ],
)
def test_virtual_values_are_those_of_the_distribution(prior, law) -> None:
    for value in law.ppf([0.05, 0.3, 0.6, 0.95]):
        assert prior.virtual(value) == pytest.approx(value - law.sf(value) / law.pdf(value))
        assert prior.inverse(prior.virtual(value)) == pytest.approx(value)
    reserve = prior.inverse(0.0)
    prices = np.linspace(law.ppf(0), law.ppf(0.999), 20_001)
    assert reserve * law.sf(reserve) == pytest.approx((prices * law.sf(prices)).max(), rel=1e-6)  # monopoly price


def test_virtual_values_of_integers_in_a_range() -> None:
    """On 1..100 the reserve 50 earns the most from one bidder, tied with 51."""
    revenue = {price: price * sum(v >= price for v in range(1, 101)) for price in range(1, 101)}
    assert revenue[round(Uniform(1, 100).inverse(0.0))] == max(revenue.values())


def test_myerson_earns_the_expected_virtual_surplus() -> None:
    """Two bidders, uniform on 0..100, one place: 125/3 = 41.67, against 33.33 without a reserve (Myerson's lemma)."""
    grid = (np.arange(50) + 0.5) * 2
    optimal = Myerson(ScriptedLLM(), ctr_model=GivenCTR(1.0), slots=1, prior="uniform:0:100")
    plain = vcg(ctr_model=GivenCTR(1.0), slots=1)

    def revenue(mechanism) -> float:
        bids = [make_auction([float(a), float(b)]) for a in grid for b in grid]
        return float(np.mean([sum(mechanism.allocate(auction).values()) for auction in bids]))

    surplus = np.mean([max(0.0, 2 * a - 100, 2 * b - 100) for a in grid for b in grid])
    assert revenue(optimal) == pytest.approx(surplus, abs=0.7)  # cells of width 2
    assert revenue(optimal) == pytest.approx(125 / 3, abs=0.7)
    assert revenue(plain) == pytest.approx(100 / 3, abs=0.7)


def test_myerson_gives_every_advertiser_its_own_reserve() -> None:
    auction = make_auction([45.0, 45.0, 45.0], max_ads=3)
    mechanism = Myerson(ScriptedLLM(), priors={"c1": "uniform:1:80", "c2": "exponential:10"})
    prices = mechanism.allocate(auction)
    assert list(prices) == ["c2", "c1"]  # c0's reserve is 50; c2 has the larger virtual value: 35 against 10
    assert prices["c1"] == pytest.approx(40.0)
    assert prices["c2"] >= 10.0
    check_mechanism(Myerson(ScriptedLLM(), priors={"c1": "uniform:1:80", "c2": "exponential:10"}), auctions=10)


@pytest.mark.parametrize(
    "text", ["uniform", "uniform:5:5", "uniform:a:b", "exponential:0", "exponential:inf", "beta:1:2", 7]
)
def test_a_prior_that_cannot_be_read_is_refused(text) -> None:
    with pytest.raises(InputError, match="cannot read the prior"):
        read_prior(text)


@pytest.mark.parametrize("slots", [-1, 1.5, True, "2"])
def test_slots_must_be_a_number_of_ads(slots) -> None:
    with pytest.raises(InputError, match="slots must be"):
        vcg(slots=slots)
