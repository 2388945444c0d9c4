"""Token auction: payments per token against their closed forms, sampling, and the sentence they add up over."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from mechanisms.token_auction import Linear, LogLinear, TokenAuction
from simenv import markup
from simenv.ctr.models import Floats
from simenv.errors import InputError, MissingCapability
from simenv.llm import Capability, ScriptedLLM
from simenv.llm.local import LocalLLM
from simenv.mechanism import run_mechanism
from simenv.records import Auction, Outcome
from tests.support.auctions import small_auction

BIDS = (3.0, 5.0, 1.5)
RULES = {"linear": Linear, "log_linear": LogLinear}


def distributions(seed: int = 0, n: int = 3, vocab: int = 6) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.full(vocab, 0.7), n)


def mix(rule: str, probs: Floats, bids: Floats) -> Floats:
    """The aggregated distribution by its definition."""
    share = np.array(bids) / np.sum(bids)
    mixed = share @ probs if rule == "linear" else np.prod(probs ** share[:, None], axis=0)
    return mixed / mixed.sum()


def total_variation(p: Floats, q: Floats) -> float:
    return float(np.abs(p - q).sum() / 2)


def area(rule: str, probs: Floats, i: int, steps: int = 4000) -> float:
    """integral_0^b_i TV(q(z, b_-i), q(b)) dz by the midpoint rule."""
    bids = np.array(BIDS)
    whole = mix(rule, probs, bids)
    lower = []
    for z in (np.arange(steps) + 0.5) / steps * bids[i]:
        other = bids.copy()
        other[i] = z
        lower.append(total_variation(mix(rule, probs, other), whole))
    return float(np.mean(lower) * bids[i])


class FixedNoise:
    """A generator that gives these numbers in turn."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def random(self) -> float:
        return self.values.pop(0)


def expected_payments(rule: str, probs: Floats, steps: int) -> Floats:
    """Over the token and the coupling's noise, on a grid of the latter: one token at a time, by its probability."""
    combine = RULES[rule](weights=BIDS)
    whole = mix(rule, probs, np.array(BIDS))
    starts = np.cumsum(whole) - whole
    total = np.zeros(len(BIDS))
    for token, (start, prob) in enumerate(zip(starts, whole, strict=True)):
        for noise in (np.arange(steps) + 0.5) / steps:
            made = combine(np.log(probs), FixedNoise(start + prob / 2, noise))
            assert made.token == token
            assert made.logprob == pytest.approx(math.log(prob))
            total += prob / steps * np.array(made.log)
    return total


@pytest.mark.parametrize("seed", range(3))
def test_the_linear_rules_expected_payment_is_its_closed_form(seed: int) -> None:
    """TV(p_i, q_without_i) W (ln(1 + t) - t / (1 + t)), which is also the area under TV(q_z, q)."""
    probs = distributions(seed)
    paid = expected_payments("linear", probs, steps=400)
    for i, bid in enumerate(BIDS):
        others = np.array([b for j, b in enumerate(BIDS) if j != i])
        without = mix("linear", np.delete(probs, i, 0), others)
        t = bid / others.sum()
        closed = total_variation(probs[i], without) * others.sum() * (math.log1p(t) - t / (1 + t))
        assert area("linear", probs, i) == pytest.approx(closed, rel=1e-4)
        assert paid[i] == pytest.approx(closed, rel=2e-3)


def test_the_log_linear_rules_expected_payment_is_the_area_under_tv() -> None:
    """Up to its grid of sixteen bids."""
    probs = distributions(4)
    paid = expected_payments("log_linear", probs, steps=200)
    assert paid == pytest.approx([area("log_linear", probs, i) for i in range(3)], rel=0.02)


@pytest.mark.parametrize("rule", ["linear", "log_linear"])
def test_a_payment_is_the_measure_of_bids_that_lose_the_token(rule: str) -> None:
    """By the definition of the coupling: at the bid z the token stays while v <= q_z(t) / q(t)."""
    probs = distributions(1)
    bids = np.array(BIDS)
    whole = mix(rule, probs, bids)
    rng = np.random.default_rng(0)
    for _ in range(12):
        uniform, noise = rng.random(2)
        made = RULES[rule](weights=BIDS)(np.log(probs), FixedNoise(uniform, noise))
        for i, bid in enumerate(BIDS):
            grid = (np.arange(800) + 0.5) / 800 * bid
            lost = 0
            for z in grid:
                other = bids.copy()
                other[i] = z
                lost += noise > mix(rule, probs, other)[made.token] / whole[made.token]
            assert made.log[i] == pytest.approx(lost / 800 * bid, abs=bid / (700 if rule == "linear" else 15))


@pytest.mark.parametrize("rule", ["linear", "log_linear"])
def test_tokens_follow_the_combined_distribution(rule: str) -> None:
    """5,000 draws, each of six tokens within five sd: false alarm below 1e-5 for fresh draws."""
    probs = distributions(2)
    whole = mix(rule, probs, np.array(BIDS))
    combine = RULES[rule](weights=BIDS)
    rng = np.random.default_rng(1)
    counts = np.bincount([combine(np.log(probs), rng).token for _ in range(5000)], minlength=6)
    assert (np.abs(counts - 5000 * whole) < 5 * np.sqrt(5000 * whole * (1 - whole))).all()


def test_independent_gumbel_noise_overcharges() -> None:
    """With argmax of ln q_z + G, one Gumbel draw a token, the token moves more often than TV: why a coupling is needed.

    40,000 noise draws; for each advertiser the mean exceeds the closed form by more than five of its standard errors
    (by 7 to 21 in fact). By chance, were the expectations equal: below 1e-6.
    """
    probs = distributions(0)
    bids = np.array(BIDS)
    noise = np.random.default_rng(3).gumbel(size=(40_000, probs.shape[1]))
    drawn = np.argmax(np.log(mix("linear", probs, bids)) + noise, axis=1)
    for i, bid in enumerate(BIDS):
        lost = []
        for z in (np.arange(60) + 0.5) / 60 * bid:
            other = bids.copy()
            other[i] = z
            lost.append(np.argmax(np.log(mix("linear", probs, other)) + noise, axis=1) != drawn)
        paid = np.mean(lost, axis=0) * bid
        assert paid.mean() - area("linear", probs, i) > 5 * paid.std() / math.sqrt(len(paid))


def test_the_linear_rule_is_monotone_and_the_log_linear_one_is_not() -> None:
    """Monotone: a higher bid moves the probability of no token away from what its advertiser gives it."""
    broken = dict.fromkeys(RULES, 0)
    more = np.array(BIDS) * np.array([1.3, 1, 1])
    for seed in range(200):
        probs = distributions(seed, vocab=4)
        for rule in RULES:
            before, after = mix(rule, probs, np.array(BIDS)), mix(rule, probs, more)
            broken[rule] += bool((np.abs(after - probs[0]) > np.abs(before - probs[0]) + 1e-12).any())
    assert broken["linear"] == 0
    assert broken["log_linear"] > 20


@pytest.mark.parametrize("rule", ["linear", "log_linear"])
def test_who_changes_nothing_pays_nothing(rule: str) -> None:
    rng = np.random.default_rng(0)
    alone = np.log(distributions(3)[:1])
    assert RULES[rule](weights=(4.0,))(alone, rng).log == (0.0,)
    for _ in range(20):
        assert RULES[rule](weights=BIDS)(np.repeat(alone, 3, axis=0), rng).log == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("rule", ["linear", "log_linear"])
def test_tokens_that_nobody_may_draw_are_never_drawn(rule: str) -> None:
    logs = np.log(distributions(3) + 0.1)
    logs[:, [0, 3]] = -np.inf
    rng = np.random.default_rng(0)
    assert {RULES[rule](weights=BIDS)(logs, rng).token for _ in range(300)} == {1, 2, 4, 5}


def answer(auction: Auction, **options: object) -> Outcome:
    return asyncio.run(run_mechanism(TokenAuction(ScriptedLLM(), **options), auction))


@pytest.mark.parametrize("rule", ["linear", "log_linear"])
@pytest.mark.parametrize("reserve", [0.0, 25.0])
def test_a_sentence_shows_one_ad_and_charges_transfers(rule: str, reserve: float) -> None:
    auction = small_auction(4, reserve=reserve)
    made = answer(auction, rule=rule, tokens=12)
    markup.verify(made, auction)
    above = [bid for bid in auction.bids if bid.amount > reserve]
    q = dict(
        zip([b.ad.id for b in auction.bids], TokenAuction(ScriptedLLM()).ctr_model.relevance(auction), strict=True)
    )
    assert [p.price for p in made.placements] == [reserve]
    assert made.placements[0].ad_id in {bid.ad.id for bid in above}
    assert made.transfers.keys() == {bid.ad.id for bid in above}
    assert sum(made.transfers.values()) > 0
    for bid in above:
        assert 0 <= made.transfers[bid.ad.id] <= (bid.amount - reserve) * q[bid.ad.id]
    assert made.usage.calls == 1 + 2 * len(above), "each advertiser reads its own prompts"


def test_nobody_above_the_reserve_or_no_free_ad_means_no_sentence() -> None:
    for auction in (small_auction(4, reserve=60.0), small_auction(4, max_ads=0), small_auction(0)):
        made = answer(auction)
        assert (made.placements, made.transfers, made.usage.calls) == ((), {}, 1)


def test_options_that_cannot_be_are_refused() -> None:
    for wrong in ({"rule": "mean"}, {"tokens": 0}, {"tokens": 1.5}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            TokenAuction(ScriptedLLM(), **wrong)
    with pytest.raises(MissingCapability, match="ensemble"):
        TokenAuction(ScriptedLLM(capabilities=frozenset(Capability) - {Capability.ENSEMBLE}))


@pytest.mark.weights
def test_on_the_embedded_model_the_text_is_valid_and_paid_for(embedded: LocalLLM) -> None:
    auction = small_auction(2)
    made = asyncio.run(run_mechanism(TokenAuction(embedded, tokens=4), auction))
    markup.verify(made, auction)
    assert len(made.placements) == 1
    assert made.violations == ()
    assert sum(made.transfers.values()) > 0
    assert made.usage.calls == 5
