"""Position auction: the matching and its prices against brute force, and where its ads stand."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from mechanisms.position_auction import MNLCTR, PositionAuction, best_matching
from simenv import Claim, check_mechanism
from simenv.ctr.models import CosineCTR
from simenv.errors import ClaimViolated, InputError
from simenv.llm import ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder
from simenv.text import sentences_with_space
from tests.support.auctions import GivenCTR, make_auction

ORGANIC = "Product 2 is first.  Then look.\nProduct 0 is last!"


def auctioneer(text: str = ORGANIC, **options) -> PositionAuction:
    llm = ScriptedLLM(lambda request: text if request.key[1] == "answer" else "which may help. More.")
    return PositionAuction(llm, encoder=FakeEncoder(), **options)


def brute_force(values, weights, most) -> float:
    """The largest welfare over all matchings, by trying them all."""
    n, m = weights.shape
    best = 0.0
    for k in range(min(n, m, most) + 1):
        for ads in itertools.permutations(range(n), k):
            for positions in itertools.combinations(range(m), k):
                shown = [weights[i, j] for i, j in zip(ads, positions, strict=True)]
                worth = sum(values[i] * w for i, w in zip(ads, shown, strict=True)) / (1 + sum(shown))
                best = max(best, worth)
    return best


@pytest.mark.parametrize(("n", "m", "most"), [(4, 3, 2), (3, 4, 3), (5, 2, 1), (2, 3, 5), (4, 1, 2), (3, 3, 0)])
def test_the_matching_is_the_best_of_all(n: int, m: int, most: int) -> None:
    for index in range(10):
        rng = keyed_rng("matching", n, m, index)
        values, weights = rng.uniform(-5, 60, n), rng.uniform(0.02, 2.0, (n, m))
        best = best_matching(values, weights, most)
        assert best.welfare == pytest.approx(brute_force(np.maximum(values, 0), weights, most))
        assert len(best.places) <= most
        assert len(set(best.places.values())) == len(best.places)
        assert best.total == pytest.approx(1 + sum(weights[i, j] for i, j in best.places.items()))


def test_an_ad_alone_is_clicked_as_predicted_and_two_share() -> None:
    mechanism = auctioneer(ctr_model=GivenCTR([0.5, 0.2]), slots=2)
    auction = make_auction([50.0, 45.0])
    made = asyncio.run(run_mechanism(mechanism, auction))
    assert mechanism.ctr_model.click_probs(auction, made.response, ["c0"]) == pytest.approx({"c0": 0.5})
    both = mechanism.ctr_model.click_probs(auction, made.response, ["c0", "c1"])
    assert both == pytest.approx({"c0": 1 / 2.25, "c1": 0.25 / 2.25})


def test_an_ad_that_takes_more_than_it_brings_is_not_shown() -> None:
    """50 x 0.9 = 45 alone; with an ad of value 10 and the same weight beside it (450 + 90) / 19 = 28.4."""
    made = asyncio.run(run_mechanism(auctioneer(ctr_model=GivenCTR(0.9)), make_auction([50.0, 10.0])))
    assert [p.ad_id for p in made.placements] == ["c0"]


@pytest.mark.parametrize("reserve", [0.0, 12.0])
def test_prices_are_what_the_others_lose(reserve: float) -> None:
    mechanism = auctioneer()
    pieces = ["Product 2 is first.", "Then look.", "Product 0 is last!"]
    for index in range(10):
        rng = keyed_rng("prices", index)
        auction = make_auction([float(b) for b in rng.integers(1, 100, 5)], reserve=reserve, name=f"p{index}")
        weights = np.stack([mechanism.ctr_model.weights(auction, piece) for piece in pieces], axis=1)
        values = np.array([bid.amount - reserve for bid in auction.bids])
        places, prices = mechanism.allocate(auction, pieces)
        total = 1 + sum(weights[int(ad_id[1:]), j] for j, ad_id in places.items())
        for position, ad_id in places.items():
            i = int(ad_id[1:])
            own = weights[i, position] / total
            others = [values[int(a[1:])] * weights[int(a[1:]), j] / total for j, a in places.items() if a != ad_id]
            alone = np.maximum(np.delete(values, i), 0)
            loss = brute_force(alone, np.delete(weights, i, axis=0), 2) - sum(others)
            assert prices[ad_id] == pytest.approx(reserve + loss / own)
            assert reserve <= prices[ad_id] <= auction.bids[i].amount


def test_ads_stand_after_the_sentences_that_they_fit() -> None:
    """Products are named by number: the sentence about product 2 is followed by product 2, in lines of their own."""
    auction = make_auction([50.0] * 4, max_ads=2)
    mechanism = auctioneer(ctr_model=CosineCTR(slope=30.0, centre=0.3))
    made = asyncio.run(run_mechanism(mechanism, auction))
    lines = made.response.split("\n")
    assert lines[0] == "Product 2 is first."
    assert "@Product 2@[c2]" in lines[1]
    assert lines[2:4] == ["Then look.", "Product 0 is last!"]
    assert "@Product 0@[c0]" in lines[4]
    assert len(lines) == 5


@pytest.mark.parametrize("text", [ORGANIC, "", "One line", "A list:\n\n- one\n- two.\n\nThat is all. Bye."])
def test_predictions_read_from_the_text_are_those_that_were_planned(text: str) -> None:
    mechanism = auctioneer(text)
    auction = make_auction([50.0, 80.0, 30.0, 60.0], max_ads=3)
    made = asyncio.run(run_mechanism(mechanism, auction))
    probs = mechanism.ctr_model.click_probs(auction, made.response, [p.ad_id for p in made.placements])
    pieces = [piece for piece in sentences_with_space(text.strip()) if piece.strip()] or [""]
    places, _ = mechanism.allocate(auction, pieces)
    assert [places[j] for j in sorted(places)] == list(probs)
    planned = {a: mechanism.ctr_model.weights(auction, pieces[j])[int(a[1:])] for j, a in places.items()}
    assert probs == pytest.approx({a: w / (1 + sum(planned.values())) for a, w in planned.items()})


def test_a_sentence_that_begins_with_its_link_is_read_rightly() -> None:
    ctr = MNLCTR(CosineCTR(), FakeEncoder())
    auction = make_auction([1.0, 1.0])
    probs = ctr.click_probs(auction, "Product 0 here.\n@Product 1@[c1]: it is good.\nProduct 1 there.", ["c1"])
    assert ctr.weights(auction, "Product 0 here.")[1] == pytest.approx(probs["c1"] / (1 - probs["c1"]))


def test_claims_hold() -> None:
    assert "truthful_um" in check_mechanism(auctioneer(), auctions=5).claims
    assert "truthful_um" in check_mechanism(auctioneer(slots=4), auctions=3).claims


class ExternalityBlind(PositionAuction):
    """Prices as if an ad took no clicks from the others: the value of the best ad that is not shown."""

    def allocate(self, auction, pieces):
        places, prices = super().allocate(auction, pieces)
        q = dict(zip([b.ad.id for b in auction.bids], self.ctr_model.weights(auction, pieces[0]), strict=True))
        out = max([b.amount * q[b.ad.id] for b in auction.bids if b.ad.id not in prices], default=0.0)
        return places, {i: min(auction.bid_of(i).amount, max(auction.reserve, out / q[i])) for i in prices}


class PaysTheBid(PositionAuction):
    claims = frozenset({Claim.TRUTHFUL_UM})

    def allocate(self, auction, pieces):
        places, prices = super().allocate(auction, pieces)
        return places, {ad_id: auction.bid_of(ad_id).amount for ad_id in prices}


@pytest.mark.parametrize("broken", [ExternalityBlind, PaysTheBid])
def test_wrong_payments_are_refused(broken) -> None:
    with pytest.raises(ClaimViolated, match="truthful_um"):
        check_mechanism(broken(ScriptedLLM(), encoder=FakeEncoder()), auctions=20)


def test_slots_must_be_a_number_of_ads() -> None:
    with pytest.raises(InputError, match="slots must be"):
        auctioneer(slots=-1)
