"""Every mechanism is held to its claims; formulas are held to closed forms; `check_mechanism` to broken mechanisms."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simenv import Auction, Claim, Objective, Outcome, check_mechanism, make_mechanism, mechanism_names, outcome
from simenv.check import random_auction, with_bid
from simenv.ctr.models import CosineCTR
from simenv.errors import ClaimViolated, InputError, MissingCapability, UnknownName
from simenv.llm import Capability, ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.objective import LinearPenalty
from simenv.testing import FakeEncoder

CONTEXT = {"llm": ScriptedLLM(), "encoder": FakeEncoder()}


@pytest.mark.parametrize("name", mechanism_names())
def test_every_registered_mechanism_keeps_its_claims(name: str) -> None:
    report = check_mechanism(make_mechanism(name, context=CONTEXT), auctions=15)
    assert report.runs > report.auctions
    assert set(report.claims) == set(make_mechanism(name, context={"llm": ScriptedLLM()}).claims)


NEEDS = {
    "lama": Capability.LOGPROBS,
    "lama_tokens": Capability.ENSEMBLE,
    "mosaic": Capability.LOGPROBS,
    "tilted_optimum": Capability.LOGPROBS,
    "token_auction": Capability.ENSEMBLE,
}


@pytest.mark.parametrize("name", mechanism_names())
def test_every_registered_mechanism_works_on_a_model_that_cannot_be_constrained_or_says_so(name: str) -> None:
    context = CONTEXT | {"llm": ScriptedLLM(follows_formats=True, capabilities=frozenset())}
    if name in NEEDS:
        with pytest.raises(MissingCapability, match=f"lacks '{NEEDS[name]}'"):
            make_mechanism(name, context=context)
    else:
        check_mechanism(make_mechanism(name, context=context), auctions=3)


def test_gsp_charges_the_next_score_divided_by_own_relevance() -> None:
    _, auction = random_auction(0, 7)
    auction = auction.model_copy(update={"max_ads": 3, "reserve": 2.0})
    prices = make_mechanism("gsp", context={"llm": ScriptedLLM()}).allocate(auction)
    q = CosineCTR().relevance(auction)
    scores = sorted((bid.amount * q[i], bid.ad.id) for i, bid in enumerate(auction.bids) if bid.amount >= 2.0)[::-1]
    assert list(prices) == [ad_id for _, ad_id in scores[:3]]
    for place, ad_id in enumerate(prices):
        index = next(i for i, bid in enumerate(auction.bids) if bid.ad.id == ad_id)
        following = scores[place + 1][0] if place + 1 < len(scores) else 0.0
        assert prices[ad_id] == pytest.approx(max(following / q[index], 2.0))
        assert 2.0 <= prices[ad_id] <= auction.bids[index].amount


def test_gsp_is_second_price_with_one_slot_and_equal_relevance() -> None:
    _, auction = random_auction(0, 3)
    bids = tuple(bid.model_copy(update={"relevance": 0.5}) for bid in auction.bids)
    auction = auction.model_copy(update={"bids": bids, "max_ads": 1, "reserve": 0.0})
    prices = make_mechanism("gsp", context={"llm": ScriptedLLM()}).allocate(auction)
    assert list(prices.values()) == pytest.approx([sorted(bid.amount for bid in bids)[-2]])


def test_best_of_n_charges_what_the_others_lose() -> None:
    """With one ad per candidate VCG is a second-price auction in expected value."""
    _, auction = random_auction(0, 3)
    auction = auction.model_copy(update={"reserve": 0.0, "max_ads": 1})
    mechanism = make_mechanism("best_of_n", context={"llm": ScriptedLLM()}, n=40)  # 40 draws: most ads are candidates
    made = asyncio.run(run_mechanism(mechanism, auction))
    shown = made.placements[0]
    q = CosineCTR().relevance(auction)
    score = {bid.ad.id: bid.amount * q[i] for i, bid in enumerate(auction.bids)}
    offered = sorted(set(made.details["candidate_scores"]))  # candidates with the same ad have the same score
    assert score[shown.ad_id] == pytest.approx(offered[-1])
    own_q = score[shown.ad_id] / auction.bid_of(shown.ad_id).amount
    assert shown.price == pytest.approx(max(0.0, offered[-2]) / own_q)


def test_best_of_n_never_pays_for_violations() -> None:
    """A candidate whose penalty exceeds its gain loses to the answer without ads."""
    mechanism = make_mechanism(
        "best_of_n", context={"llm": ScriptedLLM(), "objective": Objective(rule=LinearPenalty(per_extra_ad=1e6))}
    )
    _, auction = random_auction(0, 3)
    made = asyncio.run(run_mechanism(mechanism, auction.model_copy(update={"max_ads": 0})))
    assert made.placements == ()


class Charges:
    """First candidate at a price of its own making; claims are given by the test."""

    def __init__(self, price, claims) -> None:
        self.price = price
        self.claims = frozenset(claims)
        self.ctr_model = CosineCTR()

    def pick(self, auction: Auction):
        eligible = [bid for bid in auction.bids if bid.amount > 0 and bid.amount >= auction.reserve]
        return max(eligible, key=lambda bid: bid.amount, default=None)

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        bid = self.pick(auction)
        if bid is None:
            return outcome(auction, "Nothing to show.")
        return outcome(auction, f"See {bid.ad.link}.", {bid.ad.id: max(self.price(bid, auction), auction.reserve)})


class LowestWins(Charges):
    def pick(self, auction: Auction):
        eligible = [bid for bid in auction.bids if bid.amount > 0 and bid.amount >= auction.reserve]
        return min(eligible, key=lambda bid: bid.amount, default=None)


class Moody(Charges):
    def __init__(self) -> None:
        super().__init__(lambda bid, auction: bid.amount, ())
        self.calls = 0

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        self.calls += 1
        return outcome(auction, f"Answer number {self.calls}.")


class BelowReserve(Charges):
    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        bids = auction.bids[:1]
        return outcome(auction, " ".join(bid.ad.link for bid in bids), {bid.ad.id: bid.amount for bid in bids})


class Crashes(Charges):
    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return outcome(auction, f"See {auction.bids[0].ad.link}.", {auction.bids[0].ad.id: 1e9})


class ReturnsText(Charges):
    def run(self, auction: Auction, rng: np.random.Generator) -> str:
        return "See nothing."


class LooksAtBids:
    """Lets the bids into the prompt although it claims not to."""

    claims = frozenset({Claim.BID_FREE_CANDIDATES})
    ctr_model = CosineCTR()

    def __init__(self) -> None:
        self.llm = ScriptedLLM()

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        reply = await self.llm.complete(f"Bids: {[bid.amount for bid in auction.bids]}", key=(auction.id, "answer"))
        return outcome(auction, reply.text)


def own_bid(bid, auction) -> float:
    return bid.amount


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (Charges(lambda bid, auction: 2 * bid.amount, {Claim.INDIVIDUALLY_RATIONAL}), "individually_rational"),
        (Charges(own_bid, {Claim.TRUTHFUL_UM}), "truthful_um"),
        (LowestWins(own_bid, {Claim.MONOTONE}), "monotone"),
        (LooksAtBids(), "bid_free_candidates"),
        (Moody(), "deterministic"),
        (BelowReserve(own_bid, ()), "below the reserve"),
        (Crashes(own_bid, ()), "IndexError"),
        (ReturnsText(own_bid, ()), "expected an Outcome"),
    ],
)
def test_check_mechanism_finds_broken_mechanisms(broken, said: str) -> None:
    with pytest.raises(ClaimViolated, match=said):
        check_mechanism(broken)


def test_a_claim_about_clicks_without_a_ctr_model_says_what_to_add() -> None:
    broken = Charges(own_bid, {Claim.MONOTONE})
    broken.ctr_model = None
    with pytest.raises(
        ClaimViolated, match=r"has no ctr_model to check them in \(give its constructor a parameter ctr_model"
    ):
        check_mechanism(broken, auctions=2)


@pytest.mark.parametrize("claims", [{"truthfull_um"}, "truthful_um", 7, [Claim.MONOTONE, None]])
def test_a_claim_that_does_not_exist_is_refused(claims) -> None:
    broken = Charges(own_bid, ())
    broken.claims = claims
    with pytest.raises(ClaimViolated, match="must be a set of simenv"):
        check_mechanism(broken)


def test_check_mechanism_holds_to_no_claim_that_is_not_made() -> None:
    assert check_mechanism(Charges(own_bid, ())).claims == ()
    assert check_mechanism(Charges(own_bid, {Claim.INDIVIDUALLY_RATIONAL})).claims == ("individually_rational",)


def test_a_true_claim_passes() -> None:
    """Second price over raw bids is truthful where relevance plays no part in who wins."""

    def second(bid, auction) -> float:
        others = [other.amount for other in auction.bids if other.ad.id != bid.ad.id]
        return max([0.0, *others])

    check_mechanism(Charges(second, {Claim.INDIVIDUALLY_RATIONAL, Claim.TRUTHFUL_UM, Claim.MONOTONE}))


def test_with_bid_changes_one_bid() -> None:
    _, auction = random_auction(0, 3)
    changed = with_bid(auction, "c1", 7.0)
    assert changed.bid_of("c1").amount == 7.0
    assert [b for b in changed.bids if b.ad.id != "c1"] == [b for b in auction.bids if b.ad.id != "c1"]


def test_unknown_names_and_options_list_what_there_is() -> None:
    with pytest.raises(UnknownName, match="did you mean gsp"):
        make_mechanism("gps", context={"llm": ScriptedLLM()})
    with pytest.raises(InputError, match=r"has no option m; its options are .*n"):
        make_mechanism("best_of_n", context={"llm": ScriptedLLM()}, m=3)
    with pytest.raises(UnknownName, match="Missing"):
        make_mechanism("tests.mechanisms.test_mechanisms:Missing")


def test_a_mechanism_of_ones_own_is_found_by_module_and_by_file(tmp_path: Path) -> None:
    assert isinstance(make_mechanism("tests.mechanisms.test_mechanisms:LooksAtBids"), LooksAtBids)
    file = tmp_path / "mine.py"
    file.write_text(
        "import simenv\n\nclass Mine:\n"
        "    def run(self, auction, rng):\n        return simenv.outcome(auction, 'Hi.')\n"
    )
    mine = make_mechanism(f"{file}:Mine")
    assert mine.name == "Mine"
    assert check_mechanism(mine).claims == ()


def test_a_mechanisms_folder_of_the_users_own_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "mechanisms").mkdir()
    (tmp_path / "mechanisms" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "mechanisms" / "gsp.py").write_text("raise RuntimeError('the wrong gsp')\n")
    script = (
        "import mechanisms; assert mechanisms.MINE\n"
        "import numpy, simenv; from simenv.llm import ScriptedLLM\n"
        "class Lengths:\n"
        "    def encode(self, texts): return numpy.eye(4)[[len(text) % 4 for text in texts]]\n"
        "context = {'llm': ScriptedLLM(), 'encoder': Lengths()}\n"
        "for name in simenv.mechanism_names():\n"
        "    simenv.check_mechanism(simenv.make_mechanism(name, context=context), auctions=1)\n"
        "print('fine')\n"
    )
    (tmp_path / "study.py").write_text(script)
    done = subprocess.run([sys.executable, "study.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def test_capabilities_are_declared() -> None:
    assert Capability.CONSTRAINT in ScriptedLLM().capabilities
