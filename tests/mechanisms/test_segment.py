"""Segment auction: its draw and its payment against closed forms, draw by draw and on average."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest
from scipy.integrate import quad

from mechanisms.passages import in_context
from mechanisms.segment import Segment
from simenv import Claim, check_mechanism
from simenv.check import random_auction, with_bid
from simenv.errors import ClaimViolated, InputError
from simenv.llm import ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.records import Auction
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder
from tests.support.auctions import GivenCTR, make_auction

AMOUNTS, Q = [40.0, 25.0, 60.0, 10.0], [0.5, 0.7, 0.2, 0.4]


def segment(**options) -> Segment:
    return Segment(ScriptedLLM(), encoder=FakeEncoder(), **options)


def closed_form(amount: float, q: float, others: float) -> float:
    """E[price 1(win)] without a reserve, as the specification has it."""
    t = amount * q / others
    return others / q * (math.log1p(t) - t / (1 + t))


@pytest.mark.parametrize("reserve", [0.0, 8.0])
def test_expected_payment_is_the_myerson_integral_of_the_share(reserve: float) -> None:
    """Numerical integration of x_i(z) = z q / (W + z q), which is 0 below the reserve."""
    mechanism = segment(ctr_model=GivenCTR(Q))
    auction = make_auction(AMOUNTS, reserve=reserve)
    for i, (ad_id, chance) in enumerate(mechanism.choice_probs(auction).items()):
        others = sum(b * q for j, (b, q) in enumerate(zip(AMOUNTS, Q, strict=True)) if j != i)

        def share(z: float, q: float = Q[i], others: float = others) -> float:
            return z * q / (others + z * q)

        assert chance == pytest.approx(share(AMOUNTS[i]))
        myerson = AMOUNTS[i] * chance - quad(share, reserve, AMOUNTS[i])[0]
        assert mechanism.expected_price(auction, ad_id) * chance == pytest.approx(myerson, rel=1e-9)
        if not reserve:
            assert myerson == pytest.approx(closed_form(AMOUNTS[i], Q[i], others), rel=1e-9)


@pytest.mark.parametrize("reserve", [0.0, 8.0])
def test_payments_average_to_the_closed_form(reserve: float) -> None:
    """8 means of 20,000 draws within 5 standard errors: false alarm below 1e-5 (8 x 6e-7, and the same for shares)."""
    mechanism = segment(ctr_model=GivenCTR(Q))
    auction = make_auction(AMOUNTS, reserve=reserve)
    noise = keyed_rng("segment-test").gumbel(size=(20_000, len(AMOUNTS)))
    paid = np.zeros(noise.shape)
    won = np.zeros(noise.shape)
    for row, draws in enumerate(noise):
        for ad_id, price in mechanism.draw(auction, draws).items():
            won[row, int(ad_id[1:])], paid[row, int(ad_id[1:])] = 1, price
    for i, (ad_id, chance) in enumerate(mechanism.choice_probs(auction).items()):
        error = paid[:, i].std() / math.sqrt(len(paid))
        assert abs(paid[:, i].mean() - chance * mechanism.expected_price(auction, ad_id)) < 5 * error
        assert abs(won[:, i].mean() - chance) < 5 * math.sqrt(chance * (1 - chance) / len(won))


def test_the_closed_form_holds_where_weights_differ_by_orders_of_magnitude() -> None:
    """A bidder with a tiny share pays half its bid on average: its critical bid is then uniform below the bid."""
    mechanism = segment(ctr_model=GivenCTR([1e-12, 0.9, 1e-300]))
    auction = make_auction([50.0, 1e9, 1.0])
    assert mechanism.expected_price(auction, "c0") == pytest.approx(25.0)
    assert mechanism.expected_price(auction, "c1") < 1e-3
    assert list(mechanism.choice_probs(auction)) == ["c0", "c1"]
    assert segment().expected_price(make_auction([50.0], reserve=3.0), "c0") == 3.0


@pytest.mark.parametrize("k", [1, 2, 3])
def test_every_winner_pays_the_least_bid_that_still_wins_under_the_same_noise(k: int) -> None:
    for index in range(20):
        _, auction = random_auction(5, index)
        auction = auction.model_copy(update={"max_ads": 3})
        noise = keyed_rng("critical", index).gumbel(size=len(auction.bids))
        prices = segment(ads_per_segment=k).draw(auction, noise, k)
        for ad_id, price in prices.items():
            assert ad_id in segment().draw(with_bid(auction, ad_id, max(price, 1e-9) * (1 + 1e-9)), noise, k)
            if price > 1e-9:
                assert ad_id not in segment().draw(with_bid(auction, ad_id, price * (1 - 1e-9)), noise, k)


def test_the_lottery_is_what_run_does_on_average() -> None:
    """400 runs, 4 shares within 5 standard errors: false alarm below 3e-6."""
    mechanism = segment(ctr_model=GivenCTR(Q))
    auction = make_auction(AMOUNTS)
    lottery = asyncio.run(mechanism.lottery(auction))
    assert sum(chance for chance, _ in lottery) == pytest.approx(1.0)
    runs = [asyncio.run(mechanism.run(auction, keyed_rng("lottery", i))) for i in range(400)]
    for chance, outcome in lottery:
        placed = outcome.placements[0]
        same = [r for r in runs if r.response == outcome.response]
        assert abs(len(same) / 400 - chance) < 5 * math.sqrt(chance * (1 - chance) / 400)
        assert placed.price == pytest.approx(mechanism.expected_price(auction, placed.ad_id))
        assert all(r.details["propensity"] == pytest.approx(chance) for r in same)
    nothing = asyncio.run(mechanism.lottery(make_auction([1.0, 2.0, 3.0, 4.0], reserve=9.0)))
    assert [(chance, outcome.placements) for chance, outcome in nothing] == [(1.0, ())]


def test_the_lottery_of_several_ads_is_refused() -> None:
    for options in ({"segments": 2}, {"ads_per_segment": 2}):
        with pytest.raises(InputError, match="one ad in one segment"):
            asyncio.run(segment(**options).lottery(make_auction(AMOUNTS)))


@pytest.mark.parametrize(
    "options",
    [
        {"ads_per_segment": 2},
        {"ads_per_segment": 3},
        {"segments": 3},
        {"segments": 2, "ads_per_segment": 2},
        {"segments": 3, "replacement": True},
    ],
)
def test_every_variant_keeps_its_claims(options) -> None:
    report = check_mechanism(segment(**options), auctions=8)
    assert ("truthful_um" in report.claims) == (options.get("segments", 1) == 1)


class FirstPriceSegment(Segment):
    """Charges the bid and claims truthfulness."""

    def draw(self, auction: Auction, noise, k: int = 1, barred=()) -> dict[str, float]:
        won = super().draw(auction, noise, k, barred)
        return {ad_id: auction.bid_of(ad_id).amount for ad_id in won}


class NoiselessPrice(Segment):
    """Charges the second weight without the noise that decided."""

    def draw(self, auction: Auction, noise, k: int = 1, barred=()) -> dict[str, float]:
        won = super().draw(auction, noise, k, barred)
        q = self.ctr_model.relevance(auction)
        weights = {bid.ad.id: bid.amount * q[i] for i, bid in enumerate(auction.bids)}
        rest = max([w for i, w in weights.items() if i not in won], default=0.0)
        return {
            i: min(auction.bid_of(i).amount, max(auction.reserve, rest * auction.bid_of(i).amount / weights[i]))
            for i in won
        }


class Overstated(Segment):
    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.claims = self.claims | {Claim.TRUTHFUL_UM}


class HalfTheBid(Segment):
    """Its draws are right, and it says that each ad pays half its bid on average."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options)
        self.claims = self.claims - {Claim.TRUTHFUL_UM}

    def expected_price(self, auction: Auction, ad_id: str) -> float:
        return max(auction.reserve, auction.bid_of(ad_id).amount / 2)


class BestFirst(Segment):
    """Shows the ads of one segment in the order of their bids."""

    def draw(self, auction: Auction, noise, k: int = 1, barred=()) -> dict[str, float]:
        won = super().draw(auction, noise, k, barred)
        return dict(sorted(won.items(), key=lambda item: -auction.bid_of(item[0]).amount))


@pytest.mark.parametrize(
    ("broken", "options"),
    [
        (FirstPriceSegment, {}),
        (NoiselessPrice, {}),
        (HalfTheBid, {}),
        (BestFirst, {"ads_per_segment": 3}),
        (Overstated, {"segments": 3}),
    ],
)
def test_wrong_variants_are_refused(broken, options) -> None:
    with pytest.raises(ClaimViolated, match="truthful_um"):
        check_mechanism(broken(ScriptedLLM(), encoder=FakeEncoder(), **options), auctions=60)


def test_losing_early_can_pay_in_several_segments() -> None:
    """Regret of bidding 40 for a value of 40 in two segments, over 300 common draws: positive, and some draws gain."""
    mechanism = segment(segments=2, ctr_model=GivenCTR(Q, discount=0.9))
    auction = make_auction(AMOUNTS)

    def utility(bid: float, draw: int) -> float:
        made = asyncio.run(mechanism.run(with_bid(auction, "c0", bid), keyed_rng("regret", draw)))
        rank = next((r for r, p in enumerate(made.placements) if p.ad_id == "c0"), None)
        return 0.0 if rank is None else Q[0] * 0.9**rank * (40.0 - made.placements[rank].price)

    gains = [utility(20.0, draw) - utility(40.0, draw) for draw in range(300)]
    assert max(gains) > 1.0


def texts(parts: int, **options) -> Segment:
    return Segment(
        ScriptedLLM(lambda request: "One is first. Two is second. Three is third."),
        encoder=FakeEncoder(),
        segments=parts,
        **options,
    )


def test_each_segment_is_followed_by_its_ad() -> None:
    auction = make_auction(AMOUNTS, max_ads=3, name="text")
    made = asyncio.run(run_mechanism(texts(3), auction))
    where = [made.response.index(part) for part in ("One is", "Two is", "Three is")]
    spans = [placement.span[0] for placement in made.placements]
    assert len(spans) == 3
    assert where[0] < spans[0] < where[1] < spans[1] < where[2] < spans[2]


def test_an_ad_that_wins_again_is_shown_once() -> None:
    auction = make_auction([1e9, 1e-9], max_ads=3, name="again")
    made = asyncio.run(run_mechanism(texts(3, replacement=True), auction))
    assert [p.ad_id for p in made.placements] == ["c0"]
    assert made.violations == ()
    once = asyncio.run(run_mechanism(texts(3), auction))
    assert [p.ad_id for p in once.placements] == ["c0", "c1"]


def test_the_organic_part_is_the_same_whatever_the_bids() -> None:
    mechanism = segment()
    organic = asyncio.run(mechanism._writer.answer(make_auction(AMOUNTS)))
    for amount in (0.0, 5.0, 500.0):
        made = asyncio.run(run_mechanism(mechanism, with_bid(make_auction(AMOUNTS), "c1", amount)))
        assert made.response.startswith(organic)


def test_relevance_in_context_is_that_of_query_and_text_together() -> None:
    auction = make_auction([1.0, 1.0], cosines=[0.9, 0.9])
    seen = in_context(auction, "See @Product 1@[c1].", FakeEncoder())
    vectors = FakeEncoder().encode([f"{auction.query.text} See Product 1.", *(bid.ad.text for bid in auction.bids)])
    assert [bid.relevance for bid in seen.bids] == pytest.approx((vectors[1:] @ vectors[0]).tolist())
    assert [bid.amount for bid in seen.bids] == [1.0, 1.0]
    assert seen.bids[1].relevance > seen.bids[0].relevance
    empty = make_auction([])
    assert in_context(empty, "Text.", FakeEncoder()) == empty


@pytest.mark.weights
def test_relevance_in_context_with_the_embedded_encoder() -> None:
    auction = make_auction([1.0], cosines=[0.0])
    assert -1 <= in_context(auction, "A product may help.").bids[0].relevance <= 1


@pytest.mark.parametrize("options", [{"segments": 0}, {"segments": 1.5}, {"ads_per_segment": True}])
def test_numbers_out_of_range_are_refused(options) -> None:
    with pytest.raises(InputError, match="must be 1 or more"):
        segment(**options)
