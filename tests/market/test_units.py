"""Who bids per view, what of, and that what takes clicks alone is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mechanisms.first_price import FirstPrice
from mechanisms.production import Production
from mechanisms.vcg import VCG
from simenv.background_loop import run_sync
from simenv.conversions import Conversions
from simenv.errors import InputError
from simenv.llm import ScriptedLLM
from simenv.market.bidders import Budgeted, Exp3Bidder, ShadedBidder, UniformBidder
from simenv.market.units import unit_of
from simenv.mechanism import run_mechanism, units_of
from simenv.records import Auction, Bid
from simenv.runs.build import build, plan
from simenv.runs.options import BenchOptions
from simenv.testing import ADS, small_world
from simenv.world import World
from tests.support.auctions import make_auction
from tests.support.bidding import run
from tests.support.fakes import FormulaJudge

AUCTION = make_auction([5.0, 4.0], per_view={0, 1})


def auction_of(world: World) -> Auction:
    return world.auction(run_sync(world.session, 0, 0), 0)


def test_a_share_of_the_advertisers_bids_per_view_the_same_in_every_world() -> None:
    assert {unit_of(ad, 0.0) for ad in ADS} == {"click"}
    assert {unit_of(ad, 1.0) for ad in ADS} == {"view"}
    some = [{ad.id for ad in ADS if unit_of(ad, share) == "view"} for share in (0.2, 0.5, 0.8)]
    assert some[0] < some[1] < some[2]
    many = [unit_of(ADS[0].model_copy(update={"id": f"ad-{k}"}), 0.3) == "view" for k in range(2000)]
    assert np.mean(many) == pytest.approx(0.3, abs=0.05)  # 5 standard deviations


def test_values_and_bids_per_view_are_those_per_click_times_the_clicks_of_a_view() -> None:
    clicks = auction_of(small_world())
    mixed = auction_of(small_world(view_bids=0.5, clicks_per_view=0.25))
    assert {bid.unit for bid in mixed.bids} == {"click", "view"}
    for bid, per_click in zip(mixed.bids, clicks.bids, strict=True):
        assert bid.amount == per_click.amount * (0.25 if bid.unit == "view" else 1)
    uniform = auction_of(small_world(view_bids=1.0, bidder=UniformBidder()))
    assert [bid.amount for bid in uniform.bids] == [
        0.2 * bid.amount for bid in auction_of(small_world(bidder=UniformBidder())).bids
    ]


def test_a_bid_per_click_is_written_as_it_always_was() -> None:
    click, view = make_auction([5.0]).bids[0], AUCTION.bids[0]
    assert "unit" not in json.loads(click.model_dump_json())
    assert json.loads(view.model_dump_json())["unit"] == "view"
    assert [Bid.model_validate_json(bid.model_dump_json()) for bid in (click, view)] == [click, view]


@pytest.mark.parametrize(
    "options", [{"view_bids": 1.5}, {"view_bids": -0.1}, {"clicks_per_view": 0.0}, {"clicks_per_view": 1.5}]
)
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(InputError, match=f"{name} must be .*, got"):
        small_world(**options)
    with pytest.raises(InputError, match=f"{name} must be .*, got"):
        plan(BenchOptions(mechanisms=("gsp",), llm="scripted", **options))


def test_a_mechanism_of_clicks_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"vcg takes bids per click only, and in auction given c0, c1 bid per view"):
        run_sync(lambda: run_mechanism(VCG(ScriptedLLM()), AUCTION))
    assert units_of(Production(ScriptedLLM())) == {"click", "view"}
    planned = plan(BenchOptions(mechanisms=("production", "vcg", "segment"), llm="scripted", view_bids=0.1))
    with pytest.raises(InputError, match="view_bids: vcg, segment take bids per click only"):
        build(planned)


def test_first_price_charges_the_bid_per_view() -> None:
    made = run_sync(lambda: run_mechanism(FirstPrice(ScriptedLLM()), AUCTION))
    assert made.transfers == {"c0": 5.0, "c1": 4.0}
    assert [placement.price for placement in made.placements] == [0.0, 0.0]


class ShowsAll(FirstPrice):
    """First price that shows every candidate."""

    def __init__(self) -> None:
        super().__init__(ScriptedLLM(), slots=12)


def test_a_budget_is_spent_by_views_and_never_exceeded() -> None:
    rows = run(Budgeted(ShadedBidder(), 30.0), {"it": ShowsAll()}, n=24, view_bids=1.0)
    spent: dict[str, float] = {}
    for row in rows:
        for ad_id, amount in row.payments.items():
            spent[ad_id] = spent.get(ad_id, 0.0) + amount
    assert max(spent.values()) == pytest.approx(30.0)
    assert all(amount <= 30.0 + 1e-9 for amount in spent.values())


def test_learning_counts_a_view_as_a_view() -> None:
    """A shown ad that nobody clicks keeps value - bid; counted by clicks it would have lost its bid."""
    learner = Exp3Bidder(grid=(0.5, 1.0))
    world = small_world(view_bids=1.0, bidder=learner, judge=FormulaJudge(lambda *_: 0.0))
    session = run_sync(world.session, 0, 0)
    auction = world.auction(session, 0)
    made = run_sync(lambda: world.step(session, 0, ShowsAll(), auction=auction))
    learner.observe(made)
    for bid in auction.bids:
        factor = bid.amount / made.values[bid.ad.id]
        arm = learner.grid.index(pytest.approx(factor))
        gain = (1 + 1 - factor) / 2
        risen = np.exp(learner.rate * gain / (0.5 * 2))  # both shares were as likely
        share = risen / (1 + risen)
        assert learner.strategy(bid.ad.id)[arm] == pytest.approx((1 - learner.rate) * share + learner.rate / 2)


def test_a_conversion_is_worth_the_same_whatever_the_advertiser_bids_for() -> None:
    """Its worth follows from the value per click, not from the smaller value of a view."""
    worth = []
    for view_bids in (0.0, 1.0):
        world = small_world(view_bids=view_bids, conversions=Conversions(0.5))
        session = run_sync(world.session, 0, 0)
        made = run_sync(lambda w=world, s=session: w.step(s, 0, ShowsAll()))
        worth.append({click.ad_id: click.conversion_value for click in made.feedback.clicks})
    assert worth[0].keys() == worth[1].keys() != set()
    assert worth[1] == pytest.approx(worth[0])
