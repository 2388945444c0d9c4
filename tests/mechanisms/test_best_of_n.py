"""best_of_n with a click-intent evaluator: its VCG price is the Myerson payment, for any click predictions."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mechanisms.best_of_n import BestOfN, Candidate
from simenv import Outcome, check_mechanism, make_mechanism, mechanism_names
from simenv.check import random_auction
from simenv.errors import ClaimViolated, InputError
from simenv.llm import ScriptedLLM
from simenv.markup import verify
from simenv.mechanism import run_mechanism
from simenv.records import Auction
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder
from tests.support.evaluators import random_evaluator

EVALUATOR = random_evaluator()


def random_case(index: int) -> tuple[Auction, list[Candidate]]:
    """An auction, and answers with up to three of its ads; the click probabilities are the evaluator's, or random."""
    _, auction = random_auction(11, index)
    rng = keyed_rng("best of n case", index)
    auction = auction.model_copy(update={"bids": auction.bids[:5], "reserve": float(rng.choice([0.0, 3.0]))})
    candidates = [Candidate("No ads.", {}, 0.0)]
    for j in range(int(rng.integers(1, 7))):
        order = rng.permutation(len(auction.bids))[: int(rng.integers(1, 4))]
        ads = [auction.bids[i].ad for i in order]
        text = f"Answer {j}. " + " ".join(f"{rng.choice(['Try', 'See', 'Consider'])} {ad.link}." for ad in ads)
        shown = [ad.id for ad in ads]
        if index % 4 == 0:
            probs = EVALUATOR.click_probs(auction, text, shown)
        else:
            probs = dict(zip(shown, rng.uniform(0.01, 0.9, len(shown)).tolist(), strict=True))
        candidates.append(Candidate(text, probs, float(rng.exponential(2))))
    return auction, candidates


def clicks_of(auction: Auction, candidates: list[Candidate], ad_id: str, bid: float) -> float:
    """x_i(bid): expected clicks of the ad in the answer that maximises sum (b - r) q - cost, found by trying all."""
    bids = {b.ad.id: b.amount for b in auction.bids} | {ad_id: bid}

    def score(candidate: Candidate) -> float:
        if any(bids[i] < auction.reserve for i in candidate.click_probs):
            return -np.inf
        return sum((bids[i] - auction.reserve) * q for i, q in candidate.click_probs.items()) - candidate.cost

    return max(candidates, key=score).click_probs.get(ad_id, 0.0)


def myerson(auction: Auction, candidates: list[Candidate], ad_id: str) -> float:
    """b x(b) - the integral of x from 0 to b. x is a step function: it changes only where two answers' scores cross."""
    others = {b.ad.id: b.amount for b in auction.bids}
    bid, reserve = others[ad_id], auction.reserve

    def line(candidate: Candidate) -> tuple[float, float]:
        rest = sum((others[i] - reserve) * q for i, q in candidate.click_probs.items() if i != ad_id)
        q = candidate.click_probs.get(ad_id, 0.0)
        return rest - candidate.cost - reserve * q, q

    lines = [line(candidate) for candidate in candidates]
    crossings = [(a - c) / (q - p) for a, p in lines for c, q in lines if p != q]
    steps = np.unique([0.0, min(reserve, bid), bid, *(z for z in crossings if 0 < z < bid)])
    middles = (steps[1:] + steps[:-1]) / 2
    integral = sum(
        width * clicks_of(auction, candidates, ad_id, z) for width, z in zip(np.diff(steps), middles, strict=True)
    )
    return bid * clicks_of(auction, candidates, ad_id, bid) - integral


def differences(cases: range, factor: float = 1.0) -> list[tuple[float, float]]:
    """(expected payment, payment less Myerson's) of every ad that is charged."""
    mechanism = BestOfN(ScriptedLLM(), EVALUATOR)
    found = []
    for index in cases:
        auction, candidates = random_case(index)
        made = mechanism.choose(auction, candidates)
        probs = next(c.click_probs for c in candidates if c.response == made.response)
        for placement in made.placements:
            paid = factor * placement.price * probs[placement.ad_id]
            found.append((paid, paid - myerson(auction, candidates, placement.ad_id)))
    return found


def test_the_price_is_the_integral_of_the_allocation() -> None:
    found = differences(range(300))
    assert len(found) > 200
    assert max(abs(gap) for _, gap in found) < 1e-9
    assert sum(paid > 0.01 for paid, _ in found) > 100


def test_a_payment_that_is_five_percent_off_is_not_the_integral() -> None:
    for factor in (0.95, 1.05):
        gaps = [gap for paid, gap in differences(range(40), factor) if paid > 0.01]
        assert min(abs(gap) for gap in gaps) > 1e-4


class Shaded(BestOfN):
    """Charges 5% too little."""

    def choose(self, auction: Auction, candidates: list[Candidate]) -> Outcome:
        made = super().choose(auction, candidates)
        cheaper = (p.model_copy(update={"price": max(auction.reserve, 0.95 * p.price)}) for p in made.placements)
        return made.model_copy(update={"placements": tuple(cheaper)})


def test_check_keeps_best_of_n_to_its_claims_with_an_evaluator() -> None:
    assert check_mechanism(BestOfN(ScriptedLLM(), EVALUATOR), auctions=2).runs > 2
    with pytest.raises(ClaimViolated, match="truthful"):
        check_mechanism(Shaded(ScriptedLLM(), EVALUATOR), auctions=2)


def test_a_negative_number_of_answers_is_refused() -> None:
    with pytest.raises(InputError, match="0 or more, got -1"):
        BestOfN(ScriptedLLM(), n=-1)


@pytest.mark.parametrize("name", mechanism_names())
def test_every_mechanism_runs_with_an_evaluator(name: str) -> None:
    """Claims that need click probabilities of the form q_i d^rank are not checked: this model reads the text."""
    context = {"llm": ScriptedLLM(), "encoder": FakeEncoder(), "ctr_model": EVALUATOR}
    mechanism = make_mechanism(name, context=context)
    _, auction = random_auction(5, 3)
    made = asyncio.run(run_mechanism(mechanism, auction))
    verify(made, auction)
