"""LERA: two hurdles and one price, held to the bid at which an ad stops being shown."""

from __future__ import annotations

import asyncio
import re

import pytest

from mechanisms.lera import LERA
from mechanisms.vcg import VCG
from simenv import check_mechanism
from simenv.check import random_auction, with_bid
from simenv.errors import ClaimViolated, InputError
from simenv.llm import ScriptedLLM
from simenv.llm.base import Request
from simenv.llm.local import LocalLLM
from simenv.mechanism import run_mechanism
from simenv.seeding import keyed_rng
from tests.support.auctions import GivenCTR, make_auction


def rater(score=lambda product: int(keyed_rng("rating", product).integers(5, 101))) -> ScriptedLLM:
    """A capable model without log-probabilities that scores each product by its text."""

    def reply(request: Request) -> str:
        if request.key[1] != "relevance":
            return "No link here."
        listed = re.findall(r"^(\d+)\. (.+)$", request.prompt.user, re.MULTILINE)
        return "\n".join(f"{number}: {score(product)}" for number, product in listed)

    return ScriptedLLM(reply, follows_formats=True, capabilities=frozenset())


def run(mechanism, auction):
    return asyncio.run(run_mechanism(mechanism, auction))


def shown(mechanism, auction, ad_id: str) -> bool:
    return ad_id in {p.ad_id for p in run(mechanism, auction).placements}


@pytest.mark.parametrize("shortlist", [1, 2, 4])
def test_with_one_place_the_price_is_the_least_bid_that_is_shown(shortlist: int) -> None:
    priced_by = set()
    for index in range(12):
        _, auction = random_auction(7, index)
        auction = auction.model_copy(update={"reserve": 3.0})
        mechanism = LERA(rater(), slots=1, shortlist=shortlist)
        made = run(mechanism, auction)
        for placement in made.placements:
            assert shown(mechanism, with_bid(auction, placement.ad_id, placement.price * (1 + 1e-9)), placement.ad_id)
            assert not shown(
                mechanism, with_bid(auction, placement.ad_id, placement.price * (1 - 1e-9)), placement.ad_id
            )
            hurdle = mechanism.hurdle(mechanism.rank(auction), auction.bid_of(placement.ad_id))
            priced_by.add("list" if placement.price == hurdle else "rank")
    assert shortlist != 2 or priced_by == {"list", "rank"}  # both hurdles have been met


def test_both_stages_by_hand() -> None:
    """q = .5 each: c0 and c1 make the list (bids 60, 50 against 40). l = .2 and .8: c1 wins 40 to 12 and pays
    12 / .8 = 15 for its place, but 40 for the list."""
    llm = rater(lambda product: {"Product 0": 20, "Product 1": 80, "Product 2": 90}[product[:9]])
    auction = make_auction([60.0, 50.0, 40.0], max_ads=1)
    made = run(LERA(llm, ctr_model=GivenCTR(0.5), shortlist=2), auction)
    assert [(p.ad_id, p.price) for p in made.placements] == [("c1", pytest.approx(40.0))]
    assert made.details["relevance"] == {"c0": 0.2, "c1": 0.8}
    made = run(LERA(llm, ctr_model=GivenCTR(0.5), shortlist=3), auction)  # all are listed, and 36 comes second
    assert [(p.ad_id, p.price) for p in made.placements] == [("c1", pytest.approx(36 / 0.8))]


def test_with_one_judgement_for_all_it_is_vcg_but_for_the_list() -> None:
    """Equal relevance at both stages and a list of everybody: the ranking and the prices are those of VCG."""
    for index in range(5):
        _, auction = random_auction(8, index)
        made = run(LERA(rater(lambda product: 50), ctr_model=GivenCTR(0.5), shortlist=64), auction)
        prices = VCG(ScriptedLLM(), ctr_model=GivenCTR(0.5)).allocate(auction)
        assert {p.ad_id: p.price for p in made.placements} == pytest.approx(prices)


def test_log_probabilities_are_the_relevance() -> None:
    """The scripted model finds all options equally likely."""
    made = run(LERA(ScriptedLLM(), shortlist=3), make_auction([10.0, 20.0, 30.0, 40.0]))
    assert made.details["relevance"] == pytest.approx({"c1": 1 / 3, "c2": 1 / 3, "c3": 1 / 3})
    assert made.details["judge"] == "language model"


@pytest.mark.weights
def test_the_embedded_model_judges_a_list(embedded: LocalLLM) -> None:
    auction = make_auction([10.0, 20.0, 30.0])
    judged = asyncio.run(LERA(embedded).judge(auction, [bid.ad for bid in auction.bids]))
    assert sum(judged) == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("reply", ["I cannot say.", "1: 50", "1: 50\n2: 900", "1: 50\n2: 60\n3: 70"])
def test_where_the_scores_cannot_be_read_the_retriever_ranks(reply: str) -> None:
    llm = ScriptedLLM(lambda request: reply, follows_formats=True, capabilities=frozenset())
    made = run(LERA(llm, ctr_model=GivenCTR([0.5, 0.4])), make_auction([10.0, 20.0]))
    assert made.details == {"relevance": {"c0": 0.5, "c1": 0.4}, "judge": "retriever"}


def test_the_prompt_does_not_show_who_bids_more() -> None:
    llm = rater()
    for amounts in ([10.0, 20.0, 30.0], [30.0, 20.0, 10.0]):
        run(LERA(llm, shortlist=3), make_auction(amounts, max_ads=1))
    asked = {request.prompt.user for request in llm.requests if request.key[1] == "relevance"}
    assert len(asked) == 1


@pytest.mark.parametrize("options", [{}, {"shortlist": 1}, {"shortlist": 2, "slots": 3}])
def test_claims_hold(options) -> None:
    assert "truthful_um" in check_mechanism(LERA(rater(), **options), auctions=10).claims
    assert "truthful_um" in check_mechanism(LERA(ScriptedLLM(), **options), auctions=5).claims


class IgnoresTheList(LERA):
    """Charges for the ranking alone."""

    def hurdle(self, coarse, bid) -> float:
        return 0.0


class SecondStageOnly(LERA):
    """Charges the first hurdle alone."""

    def bid_to_beat(self, winner, score: float) -> float:
        return 0.0


@pytest.mark.parametrize("broken", [IgnoresTheList, SecondStageOnly])
def test_a_price_that_forgets_a_hurdle_is_refused(broken) -> None:
    with pytest.raises(ClaimViolated, match="truthful_um"):
        check_mechanism(broken(rater(), shortlist=2), auctions=40)


@pytest.mark.parametrize("shortlist", [0, 1.5, True])
def test_a_short_list_of_no_ads_is_refused(shortlist) -> None:
    with pytest.raises(InputError, match="shortlist must be"):
        LERA(ScriptedLLM(), shortlist=shortlist)
