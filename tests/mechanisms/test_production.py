"""Production: no bid gains, per click or per view; prices are the smallest bids that keep the card; planted errors."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import numpy as np
import pytest

from mechanisms.fixed_slots import FixedSlots
from mechanisms.production import Production
from simenv import Claim, check_mechanism, mechanism_names
from simenv.auditing.records import AuditOptions
from simenv.auditing.run import audit
from simenv.background_loop import run_sync
from simenv.charges import overcharges
from simenv.check import random_auction, with_bid
from simenv.check.cases import with_views
from simenv.ctr.models import Floats
from simenv.errors import ClaimViolated, InputError, UnknownName
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism, find_mechanism, run_mechanism
from simenv.records import Auction, Outcome
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder, small_world
from tests.support.auctions import GivenCTR, make_auction


def production(**options: object) -> Production:
    return Production(ScriptedLLM(), **options)  # type: ignore[arg-type]


def run(mechanism: Mechanism, auction: Auction) -> Outcome:
    return run_sync(lambda: run_mechanism(mechanism, auction))


def cases(n: int) -> Iterator[tuple[Production, Auction]]:
    """Random auctions with bids of both kinds, each with a mechanism of random options."""
    for index in range(n):
        rng = keyed_rng("production", index)
        options = {
            "view_reserve": float(rng.choice([0.0, 1.0, 5.0])),
            "relevance_power": float(rng.choice([0.0, 1.0, 6.0])),
        }
        yield production(**options), with_views(random_auction(17, index)[1])


def utility(mechanism: Production, auction: Auction, ad_id: str, amount: float, value: float) -> float:
    """Predicted utility of one advertiser that bids `amount`, in currency per answer."""
    price = mechanism.allocate(with_bid(auction, ad_id, amount)).get(ad_id)
    if price is None:
        return 0.0
    place = [bid.ad.id for bid in auction.bids].index(ad_id)
    return (value - price) * auction.bids[place].units(float(mechanism.ctr_model.relevance(auction)[place]))


def largest_gain(n: int) -> tuple[float, int]:
    """The largest gain of any bid over the value, in `n` auctions, relative to the value; and the number of bids."""
    worst, tried = 0.0, 0
    for mechanism, auction in cases(n):
        rng = keyed_rng("production bidder", auction.id)
        own = auction.bids[int(rng.integers(len(auction.bids)))]
        truth = utility(mechanism, auction, own.ad.id, own.amount, own.amount)
        assert truth >= 0
        others = [0.0, *own.amount * rng.uniform(0, 3, 6), *rng.uniform(0, 100, 2)]
        for amount in others:
            gain = utility(mechanism, auction, own.ad.id, float(amount), own.amount) - truth
            worst, tried = max(worst, gain / max(1.0, own.amount)), tried + 1
    return worst, tried


def test_no_bid_gains_in_mixed_auctions() -> None:
    assert largest_gain(200)[0] <= 1e-9


@pytest.mark.slow  # pytest -m slow tests/mechanisms/test_production.py
def test_no_bid_gains_in_many_mixed_auctions() -> None:
    worst, tried = largest_gain(5000)
    assert tried == 45_000
    assert worst <= 1e-9


def test_the_price_is_the_smallest_bid_that_keeps_the_card() -> None:
    """Found by halving the distance between a bid that wins and one that does not."""
    sold = {"click": 0, "view": 0}
    for mechanism, auction in cases(60):
        for ad_id, price in mechanism.allocate(auction).items():
            low, high = 0.0, auction.bid_of(ad_id).amount
            for _ in range(45):
                middle = (low + high) / 2
                wins = ad_id in mechanism.allocate(with_bid(auction, ad_id, middle))
                low, high = (low, middle) if wins else (middle, high)
            assert price == pytest.approx(high, rel=1e-9, abs=1e-9)
            sold[auction.bid_of(ad_id).unit] += 1
    assert min(sold.values()) > 10


def test_the_formula_by_hand() -> None:
    """Weights 0.75 and 0.5, q = 0.2; a bids 50 per click, b bids 12 per view."""
    per_view = make_auction([50.0, 12.0], [0.5, 0.0], per_view={1})
    mechanism = production(ctr_model=GivenCTR(0.2))
    assert mechanism.allocate(per_view) == {"c0": pytest.approx(0.5 * 12 / (0.75 * 0.2))}
    assert mechanism.allocate(with_bid(per_view, "c1", 16.0)) == {"c1": pytest.approx(0.75 * 50 * 0.2 / 0.5)}
    alone = production(ctr_model=GivenCTR(0.2), view_reserve=4.0)
    assert alone.allocate(with_bid(per_view, "c1", 0.0)) == {"c0": pytest.approx(4 / 0.2)}
    assert alone.allocate(with_bid(per_view, "c0", 0.0)) == {"c1": pytest.approx(4.0)}
    assert production(ctr_model=GivenCTR(0.2), view_reserve=13.0).allocate(per_view) == {}
    reserved = per_view.model_copy(update={"reserve": 40.0})
    assert mechanism.allocate(with_bid(reserved, "c0", 39.0)) == {"c1": pytest.approx(40 * 0.2)}


def test_equal_weights_and_clicks_alone_are_fixed_slots_with_one_slot() -> None:
    plain, slots = production(relevance_power=0.0), FixedSlots(ScriptedLLM(), slots=1)
    for index in range(40):
        auction = random_auction(5, index)[1]
        assert run(plain, auction) == run(slots, auction)


def test_a_view_is_paid_by_a_transfer_below_the_answer_without_ads() -> None:
    auction = make_auction([50.0, 12.0, 11.0], per_view={1, 2})
    made = run(production(ctr_model=GivenCTR(0.2)), auction)
    assert [(placement.ad_id, placement.price) for placement in made.placements] == [("c1", 0.0)]
    assert made.transfers == {"c1": pytest.approx(11.0)}
    assert overcharges(auction, made) == ()
    answer, card = made.response.rsplit("\n", 1)
    assert "@" not in answer
    assert card == "Sponsored: @Product 1@[c1] It is good at 1."


def test_relevance_may_be_to_the_answer_too() -> None:
    encoder = FakeEncoder()
    mechanism = production(relevance_to="answer", encoder=encoder)
    check_mechanism(mechanism, auctions=2)
    auction = random_auction(0, 3)[1]
    assert run(mechanism, auction).response.splitlines()[0] == run(production(), auction).response.splitlines()[0]


def test_more_cards_claim_no_truth() -> None:
    assert production().claims - production(slots=2).claims == {Claim.TRUTHFUL_UM}
    check_mechanism(production(slots=2), auctions=2)


@pytest.mark.parametrize("options", [{"view_reserve": -1.0}, {"relevance_power": float("nan")}, {"slots": -1}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"must be .*got"):
        production(**options)


def test_no_mechanism_has_an_option_that_make_mechanism_cannot_pass_on() -> None:
    for name in mechanism_names():
        assert not {"name", "context"} & set(inspect.signature(find_mechanism(name).factory).parameters), name


def test_relevance_to_something_else_is_refused() -> None:
    with pytest.raises(UnknownName, match="known are answer, query"):
        production(relevance_to="page")


class Wrong(Production):
    """Prices of one kind of bid are multiplied by a factor."""

    def __init__(self, unit: str, factor: float) -> None:
        super().__init__(ScriptedLLM())
        self.unit, self.factor = unit, factor

    def allocate(self, auction: Auction, weights: Floats | None = None) -> dict[str, float]:
        prices = super().allocate(auction, weights)
        wrong = {i: self.factor * p for i, p in prices.items() if auction.bid_of(i).unit == self.unit}
        limits = {bid.ad.id: (bid.amount, auction.reserve if bid.unit == "click" else 0.0) for bid in auction.bids}
        return prices | {i: max(limits[i][1], min(limits[i][0], price)) for i, price in wrong.items()}


@pytest.mark.parametrize("factor", [0.95, 1.05])
@pytest.mark.parametrize("unit", ["click", "view"])
def test_a_payment_5_percent_off_is_caught(unit: str, factor: float) -> None:
    with pytest.raises(ClaimViolated, match="not truthful_um"):
        check_mechanism(Wrong(unit, factor), auctions=6)


AUDIT = AuditOptions(n=4, advertisers=4, bids=9, curve_bids=11, collusion=1, wrong_ctr=0, play=0)


def test_an_audit_of_both_kinds_of_bid() -> None:
    """It passes, and finds a payment that is 5% off for either kind."""
    world = small_world(horizon=1, view_bids=0.5, clicks_per_view=0.3)
    audited = run_sync(
        lambda: audit(
            world,
            {"right": production(), **{unit: Wrong(unit, 0.95) for unit in ("click", "view")}},
            AUDIT,
        )
    ).mechanisms
    right = audited["right"]
    assert {claim: verdict.verdict for claim, verdict in right.verdicts.items()} == {
        "bid_free_candidates": "not measured",
        "individually_rational": "passed",
        "monotone": "passed",
        "truthful_um": "passed",
    }
    assert right.largest_regret_um_own == pytest.approx(0, abs=1e-9)
    assert right.regret_um_own.value == pytest.approx(0, abs=1e-9)
    assert 0 < right.revenue.value < right.welfare.value
    assert [audited[unit].verdicts["truthful_um"].verdict for unit in ("click", "view")] == ["failed", "failed"]


def test_the_world_of_an_audit_sells_views() -> None:
    """All bid per view and nobody clicks: welfare and revenue are what views are worth, and truth is best."""
    world = small_world(horizon=1, view_bids=1.0, clicks_per_view=0.3)
    made = run_sync(lambda: audit(world, {"production": production()}, AUDIT)).mechanisms["production"]
    best = [max(world.auction(run_sync(world.session, 0, k), 0).bids, key=lambda b: b.amount).amount for k in range(4)]
    assert made.welfare.value <= np.mean(best) + 1e-9
    assert made.regret_um_world.value == pytest.approx(0, abs=1e-9)  # no click matters, so the world is its own model
    assert made.curve == ()  # curves are of bids per click
