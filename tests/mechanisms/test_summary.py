"""Summary auction: prominence, its payment against numerical integration and VCG, and word budgets."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize

from mechanisms.summary import Summary, SummaryCTR, cut
from simenv import check_mechanism
from simenv.check import random_auction, with_bid
from simenv.errors import ClaimViolated, InputError
from simenv.llm import ScriptedLLM
from simenv.markup import strip_markup
from simenv.mechanism import run_mechanism
from simenv.records import Auction
from simenv.seeding import keyed_rng
from tests.support.auctions import GivenCTR, make_auction


def clicks(mechanism: Summary, auction: Auction, ad_id: str) -> float:
    return mechanism.ctr_model.click_probs(auction, "", list(mechanism.allocate(auction))).get(ad_id, 0.0)


@pytest.mark.parametrize("discount", [1.0, 0.8, 0.5])
@pytest.mark.parametrize("beta", [1 / 2, 1 / 3, 1 / 4, 0.9])
def test_shares_sum_to_one_and_maximise_welfare(beta: float, discount: float) -> None:
    auction = make_auction([40.0, 25.0, 60.0], max_ads=3)
    q, order = np.array([0.5, 0.7, 0.2]), ["c0", "c1", "c2"]
    ctr = SummaryCTR(GivenCTR(q, discount), beta)
    shares = ctr.shares(auction, order)
    assert sum(shares.values()) == pytest.approx(1.0)
    value = q * [40.0, 25.0, 60.0] * discount ** np.arange(3)
    found = minimize(
        lambda prom: -(value * np.abs(prom) ** beta).sum(),
        np.full(3, 1 / 3),
        bounds=[(1e-9, 1)] * 3,
        constraints={"type": "eq", "fun": lambda prom: prom.sum() - 1},
        tol=1e-10,
    )
    assert list(shares.values()) == pytest.approx(found.x, abs=3e-3)
    reached = sum(auction.bid_of(i).amount * prob for i, prob in ctr.click_probs(auction, "", order).items())
    assert reached == pytest.approx(-found.fun, rel=1e-6)


@pytest.mark.parametrize("beta", [1 / 2, 1 / 4])
@pytest.mark.parametrize("reserve", [0.0, 12.0])
def test_payment_is_the_myerson_integral_of_the_allocation_curve(beta: float, reserve: float) -> None:
    """The curve is the mechanism's own, integrated between the bids at which the ad passes a rival."""
    q, amounts = [0.5, 0.7, 0.2, 0.4], [40.0, 25.0, 60.0, 30.0]
    mechanism = Summary(ScriptedLLM(), ctr_model=GivenCTR(q, discount=0.7), beta=beta, slots=2)
    auction = make_auction(amounts, reserve=reserve)
    for ad_id, price in mechanism.allocate(auction).items():
        i, bid = int(ad_id[1:]), auction.bid_of(ad_id).amount

        def curve(z: float, ad_id: str = ad_id) -> float:
            return clicks(mechanism, with_bid(auction, ad_id, z), ad_id)

        steps = {reserve, *(amounts[j] * q[j] / q[i] for j in range(4) if j != i)}
        area = quad(curve, 0.0, bid, points=sorted(step for step in steps if 0 < step < bid), limit=200)[0]
        assert price * curve(bid) == pytest.approx(bid * curve(bid) - area, rel=1e-6)
        assert reserve <= price <= bid


def best_welfare(values: np.ndarray, places: int, discount: float, beta: float) -> float:
    """W by brute force: over every order of the ads on the places, with the best shares for that order."""
    a = 1 / (1 - beta)
    orders = itertools.permutations(range(len(values)), min(places, len(values)))
    return max(sum((values[i] * discount**rank) ** a for rank, i in enumerate(order)) ** (1 / a) for order in orders)


def vcg_errors(cases: int) -> list[float]:
    """Errors of payments and of welfare against W by brute force, as shares of welfare, in random auctions.

    p_i x_i = b_i x_i - (W(b) - W(z, b_-i)) with z the reserve, 0 without one: then it is VCG's payment.
    """
    errors = []
    for case in range(cases):
        rng = keyed_rng("summary-vcg", case)
        n, places, reserve = int(rng.integers(1, 6)), int(rng.integers(1, 5)), float(rng.choice([0.0, 0.0, 20.0]))
        q, amounts = rng.uniform(0.02, 0.9, n), rng.uniform(max(reserve, 1.0), 100.0, n)
        discount, beta = float(rng.choice([1.0, 0.9, 0.6, 0.2])), float(rng.choice([0.5, 1 / 3, 0.25, 0.8]))
        mechanism = Summary(ScriptedLLM(), ctr_model=GivenCTR(q, discount), beta=beta, slots=places)
        prices = mechanism.allocate(auction := make_auction(amounts.tolist(), reserve=reserve))
        probs = mechanism.ctr_model.click_probs(auction, "", list(prices))
        total = best_welfare(q * amounts, places, discount, beta)
        errors.append(abs(sum(amounts[int(i[1:])] * prob for i, prob in probs.items()) / total - 1))
        for ad_id, price in prices.items():
            i, clicks = int(ad_id[1:]), probs[ad_id]
            least = best_welfare(q * np.where(np.arange(n) == i, reserve, amounts), places, discount, beta)
            errors.append(abs(price * clicks - (amounts[i] * clicks - (total - least))) / total)
            assert reserve - 1e-12 <= price <= amounts[i]
    return errors


def test_payment_is_vcg_for_every_number_of_places_and_every_decay() -> None:
    """With 20,000 cases, 59,898 comparisons, the largest error is 1.3e-15 of welfare."""
    errors = vcg_errors(300)
    assert len(errors) > 600
    assert max(errors) < 1e-12


def test_a_share_too_small_for_a_number_breaks_nothing() -> None:
    mechanism = Summary(ScriptedLLM(), ctr_model=GivenCTR([0.5, 1e-300]), beta=0.9)
    assert mechanism.allocate(make_auction([1e9, 1e-9])) == pytest.approx({"c0": 1e-9 * 1e-300 / 0.5, "c1": 1e-9})


def test_a_lone_bidder_pays_the_reserve() -> None:
    mechanism = Summary(ScriptedLLM())
    assert mechanism.allocate(make_auction([40.0])) == pytest.approx({"c0": 0.0})
    assert mechanism.allocate(make_auction([40.0], reserve=7.0)) == pytest.approx({"c0": 7.0})


@pytest.mark.parametrize("options", [{}, {"beta": 0.25, "slots": 4}, {"beta": 0.9}])
def test_claims_hold(options) -> None:
    assert "truthful_um" in check_mechanism(Summary(ScriptedLLM(), **options), auctions=15).claims


class NextScore(Summary):
    """Charges as GSP does."""

    def price(self, auction: Auction, ranked, place: int) -> float:
        rival = ranked[place + 1].score if place + 1 < len(ranked) else 0.0
        return max(rival / ranked[place].q, auction.reserve)


class ForgetsProminence(Summary):
    """Takes the position effect into account and not that prominence grows with the bid."""

    def _area(self, low: float, high: float, others: float) -> float:
        return high - low


class Shaded(Summary):
    """Charges 5% too little."""

    def price(self, auction: Auction, ranked, place: int) -> float:
        return max(auction.reserve, 0.95 * super().price(auction, ranked, place))


class PositionOutside(Summary):
    """Takes the others' prominence as if it did not depend on their places."""

    def _others(self, scores: list[float], rank: int) -> float:
        return sum(score ** (1 / (1 - self.summary_ctr.beta)) for score in scores)


@pytest.mark.parametrize("broken", [NextScore, ForgetsProminence, Shaded, PositionOutside])
def test_wrong_payments_are_refused(broken) -> None:
    with pytest.raises(ClaimViolated, match="truthful_um"):
        check_mechanism(broken(ScriptedLLM()), auctions=20)


LONG = "a tent for two people with a roof, which keeps out rain and wind, and it folds into a bag that fits a bicycle."


def test_more_prominent_ads_get_more_words() -> None:
    _, auction = random_auction(0, 3)
    bids = tuple(
        bid.model_copy(update={"relevance": 0.5, "amount": 90.0 if i == 4 else 20.0})
        for i, bid in enumerate(auction.bids)
    )
    auction = auction.model_copy(update={"bids": bids, "max_ads": 2, "reserve": 0.0})
    llm = ScriptedLLM(lambda request: LONG if request.key[1] == "ad-sentence" else "Take your time.")
    mechanism = Summary(llm, words=40)
    made = asyncio.run(run_mechanism(mechanism, auction))
    first, second = made.placements
    assert made.details["prominence"] == pytest.approx(
        {
            first.ad_id: 90**2 / (90**2 + 16**2),
            second.ad_id: 16**2 / (90**2 + 16**2),
        }  # 16: 20 at a position factor of 0.8
    )
    cut_at = second.span[0]
    words = [len(strip_markup(part).split()) for part in (made.response[:cut_at], made.response[cut_at:])]
    assert words[0] > words[1] + 10
    assert words[1] <= mechanism.budget(made.details["prominence"][second.ad_id]) == 8


def test_a_capable_model_is_told_its_budget() -> None:
    def reply(request) -> str:
        if request.key[1] == "answer":
            return "Take your time."
        return request.prompt.user.partition("Its link: ")[2].splitlines()[0] + " is one."

    llm = ScriptedLLM(reply, follows_formats=True, capabilities=frozenset())
    made = asyncio.run(run_mechanism(Summary(llm, words=50, slots=1), make_auction([40.0])))
    assert made.response == "Take your time. @Product 0@[c0] is one."
    assert "about 50 words" in llm.requests[-1].prompt.user
    spoilt = ScriptedLLM("No link here.".format, follows_formats=True, capabilities=frozenset())
    made = asyncio.run(run_mechanism(Summary(spoilt, slots=1), make_auction([40.0])))
    assert [p.ad_id for p in made.placements] == ["c0"]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (99, f"See @Tent@[a], {LONG}"),
        (8, "See @Tent@[a]."),
        (10, "See @Tent@[a], a tent for two people with a roof."),
        (1, "See @Tent@[a]."),
    ],
)
def test_sentences_are_cut_at_a_clause(words: int, kept: str) -> None:
    assert cut(f"See @Tent@[a], {LONG}", words) == kept


def test_a_cut_leaves_no_word_that_needs_another() -> None:
    assert cut("See @Tent@[a]: a model and, after a week, a tent", 5) == "See @Tent@[a]: a model."


@pytest.mark.parametrize("rest", ["from $1,400 a month", "no fee, except on Sundays and Mondays"])
def test_a_cut_changes_no_price_and_no_condition(rest: str) -> None:
    assert cut(f"See @Tent@[a]: {rest}", 4) == "See @Tent@[a]."


@pytest.mark.parametrize("options", [{"beta": 0}, {"beta": 1.0}, {"beta": "half"}, {"words": 0}, {"words": 2.5}])
def test_numbers_out_of_range_are_refused(options) -> None:
    with pytest.raises(InputError, match="must be"):
        Summary(ScriptedLLM(), **options)
