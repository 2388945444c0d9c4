"""MOSAIC: its payments against their closed form, its choice against the optimum it converges to."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import numpy as np
import pytest

from mechanisms.menu import Item, log_value, scores
from mechanisms.mosaic import Mosaic
from mechanisms.tilted_optimum import TiltedOptimum
from simenv import Auction, check_mechanism
from simenv.check import expectation, random_auction, with_bid
from simenv.ctr.models import Floats
from simenv.errors import InputError, MissingCapability
from simenv.llm import Capability, ScriptedLLM, metered
from simenv.llm.local import LocalLLM
from simenv.mechanism import Lottery, lottery_of, run_mechanism
from simenv.records import Outcome
from simenv.seeding import keyed_rng
from simenv.writer.writer import Writer
from tests.support.auctions import small_auction
from tests.support.fakes import FakeChooser

LLM = FakeChooser()


def lottery(mechanism: Mosaic | TiltedOptimum, auction: Auction) -> Lottery:
    return asyncio.run(lottery_of(mechanism, auction))


def candidates(mechanism: Mosaic, auction: Auction) -> list[Item]:
    return asyncio.run(mechanism.candidates(auction))


def choice(items: list[Item], worth: Floats, tilt: float) -> Floats:
    """pi by the textbook: w_j exp(sum_i r_i(y_j) / tilt), normalised."""
    weights = np.exp([item.log_weight for item in items]) * np.exp(worth / tilt)
    return weights / weights.sum()


@pytest.mark.parametrize("reserve", [0.0, 15.0])
@pytest.mark.parametrize("tilt", [3.0, 10.0, 100.0])
def test_payments_are_tilt_times_kl(tilt: float, reserve: float) -> None:
    """p_i = tilt KL(pi || pi_without_i), to 1e-9: the oracle of the specification."""
    auction = small_auction(reserve=reserve)
    mechanism = Mosaic(LLM, tilt=tilt)
    items = candidates(mechanism, auction)
    worth = scores(auction, items, click_cost=reserve)
    pi = choice(items, worth, tilt)
    payments = mechanism.payments(auction, items)
    assert payments.keys() == {bid.ad.id for bid in auction.bids if bid.amount >= reserve}
    for ad_id, (paid, _) in payments.items():
        bid = auction.bid_of(ad_id)
        gains = np.array([(bid.amount - reserve) * item.click_probs.get(ad_id, 0.0) for item in items])
        without = choice(items, worth - gains, tilt)
        seen = pi > 0
        kl = float(np.sum(pi[seen] * np.log(pi[seen] / without[seen])))
        assert kl > 0
        assert paid == pytest.approx(tilt * kl, abs=1e-9)


def payment_errors(cases: int) -> tuple[float, float]:
    """In random menus: the largest error of p_i against its formula, and the largest gain from another bid."""
    worst, gain = 0.0, -math.inf
    for case in range(cases):
        rng = keyed_rng("mosaic-payments", case)
        tilt, auction = float(rng.choice([0.5, 5.0, 50.0])), small_auction(int(rng.integers(1, 6)))
        ids, mechanism = [bid.ad.id for bid in auction.bids], Mosaic(LLM, tilt=tilt)
        items = [
            Item("", {i: float(rng.uniform(0.01, 0.6)) for i in ids if rng.random() < 0.5}, 0.0, float(rng.normal()))
            for _ in range(int(rng.integers(1, 8)))
        ]
        q = np.array([[item.click_probs.get(i, 0.0) for item in items] for i in ids])
        logs = np.array([item.log_weight for item in items])

        def value(bids: Floats, q: Floats = q, logs: Floats = logs, tilt: float = tilt) -> float:
            return tilt * float(np.logaddexp.reduce(logs + bids @ q / tilt))

        def utility(worth: float, auction: Auction, i: int, mechanism=mechanism, items=items, q: Floats = q) -> float:
            paid = mechanism.payments(auction, items).get(auction.bids[i].ad.id, (0.0, 0.0))[0]
            return worth * float(mechanism.choice_probs(auction, items) @ q[i]) - paid

        bids = np.array([bid.amount for bid in auction.bids])
        pi = choice(items, bids @ q, tilt)
        paid = mechanism.payments(auction, items)
        for i, bid in enumerate(auction.bids):
            own = bid.amount * float(pi @ q[i])
            due = own - value(bids) + value(np.where(np.arange(len(bids)) == i, 0.0, bids))
            worst = max(worst, abs(paid.get(bid.ad.id, (0.0, 0.0))[0] - due))
            other = utility(bid.amount, with_bid(auction, bid.ad.id, float(rng.uniform(0, 120))), i)
            gain = max(gain, other - utility(bid.amount, auction, i))
    return worst, gain


def test_payments_have_the_offset_and_truth_is_best_in_random_menus() -> None:
    """In 3,000 cases: p_i is off by up to 1.1e-13, gain up to 2.4e-14. An ad in no candidate pays 0."""
    worst, gain = payment_errors(150)
    assert worst < 1e-11
    assert gain < 1e-11


def test_expected_utility_is_the_contribution_to_the_others() -> None:
    """E[u_i] = V(all) - V(all but i) >= 0, by either charge; realised, it is that for every draw."""
    auction = small_auction(reserve=10.0)
    for charge in ("expected", "realised"):
        mechanism = Mosaic(LLM, charge=charge)
        items = candidates(mechanism, auction)
        worth = scores(auction, items, click_cost=10.0)
        made = lottery(mechanism, auction)
        for bid in auction.bids:
            gains = np.array([(bid.amount - 10) * item.click_probs.get(bid.ad.id, 0.0) for item in items])
            contribution = log_value(items, worth, 10.0) - log_value(items, worth - gains, 10.0)
            shown = bid.amount >= 10 and gains.any()
            utility = expectation(made, mechanism.ctr_model, auction, bid.ad.id).utility(bid.amount)
            assert utility == pytest.approx(contribution if shown else 0.0, abs=1e-9)
            assert utility > -1e-12
            if charge == "realised" and shown:
                for _, outcome in made:
                    own = expectation([(1.0, outcome)], mechanism.ctr_model, auction, bid.ad.id)
                    assert own.utility(bid.amount) == pytest.approx(contribution, abs=1e-9)


@pytest.mark.parametrize("options", [{"charge": "realised", "samples": 4}, {"samples": 1, "tilt": 0.5}])
def test_claims_hold_with_choices_that_depend_on_the_prompt(options: dict[str, object]) -> None:
    check_mechanism(Mosaic(FakeChooser(), **options), auctions=4, seed=3)


def test_the_choice_converges_to_the_tilted_optimum() -> None:
    """Total variation to pi* as M grows, mean of eight auctions.

    The candidates are keyed, hence the same in every run. At M = 1600 thirty sets of fresh auctions gave 0.033 on
    average with an sd of 0.008: the bound is six sd above.
    """
    distance = dict.fromkeys((4, 25, 1600), 0.0)
    for index in range(8):
        _, auction = random_auction(5, index)
        auction = auction.model_copy(update={"bids": auction.bids[:3], "max_ads": 2, "reserve": 0.0})
        exact = {made.response: prob for prob, made in lottery(TiltedOptimum(LLM, shortlist=3), auction)}
        for samples in distance:
            shown: Counter[str] = Counter()
            for prob, made in lottery(Mosaic(LLM, samples=samples), auction):
                shown[made.response] += prob
            assert set(shown) <= set(exact), "the same sentences: only the choices differ"
            distance[samples] += sum(abs(shown[text] - prob) for text, prob in exact.items()) / 2 / 8
    assert distance[4] > distance[25] > distance[1600]
    assert distance[1600] < 0.08


def test_weights_are_reference_over_generator() -> None:
    """Recomputed from the two prompts' own probabilities, one sample at a time."""
    auction = small_auction(4)
    items = candidates(Mosaic(LLM, samples=6), auction)
    writer = Writer(LLM)

    def log_prob(ids: list[str], in_context: bool) -> float:
        total = 0.0
        for place, step in enumerate([*ids, ""][:2]):
            total += asyncio.run(writer.choice_logprobs(auction, ids[:place], in_context=in_context))[step]
        return total

    weights = [math.exp(item.log_weight) for item in items]
    ratios = [math.exp(log_prob(list(i.click_probs), False) - log_prob(list(i.click_probs), True)) for i in items]
    counts = [weight / ratio for weight, ratio in zip(weights, ratios, strict=True)]
    assert counts == pytest.approx([round(count) for count in counts])
    assert sum(counts) == pytest.approx(6)


def test_candidates_depend_on_neither_bids_nor_reserve() -> None:
    auction = small_auction(4)
    mechanism = Mosaic(LLM)
    other = with_bid(auction, "ad-2", 0.0).model_copy(update={"reserve": 50.0})
    assert candidates(mechanism, other) == candidates(mechanism, auction)


def test_nobody_above_the_reserve_means_no_ad_and_no_charge() -> None:
    auction = small_auction(reserve=1e4)
    for _, made in lottery(Mosaic(LLM), auction):
        assert (made.placements, made.transfers) == ((), {})
    always = Mosaic(FakeAlwaysAds(), samples=3)
    ((prob, made),) = lottery(always, auction)
    assert (prob, made.placements, made.transfers) == (1.0, (), {})
    assert asyncio.run(run_mechanism(always, auction)).response == made.response


class FakeAlwaysAds(FakeChooser):
    """Never chooses "none", the last option: then every candidate may be below the reserve."""

    def probs(self, prompt, options):
        probs = super().probs(prompt, options)
        probs[-1] = 1e-12
        return probs / probs.sum()


def test_runs_are_drawn_from_the_lottery() -> None:
    """500 draws of the generator; every answer within five sd: fresh draws would fail with probability below 1e-4."""
    auction = small_auction(4)
    mechanism = Mosaic(LLM)

    async def draw() -> list[Outcome]:
        return [await mechanism.run(auction, np.random.default_rng(i)) for i in range(500)]

    runs = asyncio.run(draw())
    counts = Counter(made.response for made in runs)
    assert len({tuple(made.transfers.items()) for made in runs}) == 1, "the expected payment, whatever is drawn"
    for prob, made in lottery(mechanism, auction):
        assert abs(counts[made.response] - 500 * prob) <= 5 * math.sqrt(500 * prob * (1 - prob)) + 1


def test_calls_do_not_grow_with_the_number_of_samples() -> None:
    """One ad: the answer, two distributions, and a sentence for each ad that was drawn at all."""
    auction = small_auction(5, max_ads=1)

    def calls(samples: int) -> tuple[int, int]:
        mechanism = Mosaic(LLM, samples=samples)
        with metered() as meter:
            made = lottery(mechanism, auction)
        return meter.usage.calls, len([1 for _, outcome in made if outcome.placements])

    for samples in (5, 500):
        used, ads = calls(samples)
        assert used == 1 + 2 + ads


def test_options_that_cannot_be_are_refused() -> None:
    for wrong in ({"samples": 0}, {"samples": 2.5}, {"tilt": 0}, {"tilt": math.nan}, {"charge": "both"}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            Mosaic(LLM, **wrong)
    with pytest.raises(MissingCapability, match="logprobs"):
        Mosaic(ScriptedLLM(capabilities=frozenset(Capability) - {Capability.LOGPROBS}))


@pytest.mark.weights
def test_on_the_embedded_model_context_moves_the_choice(embedded: LocalLLM) -> None:
    """Both distributions are the model's own, sum to 1, and differ."""
    auction = small_auction(3, max_ads=1)
    writer = Writer(embedded)
    plain, context = (asyncio.run(writer.choice_logprobs(auction, in_context=known)) for known in (False, True))
    for table in (plain, context):
        assert list(table) == ["ad-1", "ad-2", "ad-3", ""]
        assert sum(math.exp(value) for value in table.values()) == pytest.approx(1, abs=0.02)  # bfloat16
    assert max(abs(plain[i] - context[i]) for i in plain) > 0.05
