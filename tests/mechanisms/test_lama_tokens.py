"""LAMA token by token: the posterior follows Bayes' rule, and the winner comes with its probability at the root."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import numpy as np
import pytest

from mechanisms.lama import potential_price
from mechanisms.lama_tokens import LamaTokens, Latent
from simenv.errors import InputError
from simenv.llm import ScriptedLLM
from simenv.mechanism import run_mechanism
from tests.support.auctions import GivenCTR, make_auction

Q = [0.5, 0.4, 0.3]


def test_tokens_come_from_the_mixture_and_the_posterior_follows_bayes() -> None:
    """4,000 draws of a first token, each of three within five sd: false alarm below 1e-5."""
    probs = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])
    shares = np.array([0.25, 0.75])
    with np.errstate(divide="ignore"):
        logprobs = np.log(probs)
    counts: Counter[int] = Counter()
    for seed in range(4000):
        rule = Latent(tuple(shares))
        first = rule(logprobs, np.random.default_rng(seed))
        counts[first.token] += 1
        after = shares * probs[:, first.token]
        assert first.log == pytest.approx(tuple(after / after.sum()))
        assert first.logprob == pytest.approx(math.log(after.sum()))
        if seed < 50:
            second = rule(logprobs, np.random.default_rng(seed + 1))
            twice = after * probs[:, second.token]
            assert second.log == pytest.approx(tuple(twice / twice.sum()))
    for token, prob in enumerate(shares @ probs):
        assert abs(counts[token] - 4000 * prob) <= 5 * math.sqrt(4000 * prob * (1 - prob))


def test_rules_of_different_posteriors_have_different_names_and_keep_them() -> None:
    rule = Latent((0.5, 0.5))
    name = repr(rule)
    rule(np.log(np.array([[0.9, 0.1], [0.2, 0.8]])), np.random.default_rng(0))
    assert repr(rule) == name != repr(Latent((0.4, 0.6)))


def test_each_wins_with_its_probability_at_the_root_and_pays_its_potential_price() -> None:
    """150 auctions, each winner within five sd; the ad below the reserve takes no part."""
    mechanism = LamaTokens(ScriptedLLM(), GivenCTR(Q), kl_weight=8.0)
    logs = np.array([0.0, (50 - 5) * 0.5 / 8, (60 - 5) * 0.4 / 8])
    root = np.exp(logs) / np.exp(logs).sum()
    clicks = np.array([0.0, 0.5, 0.4])
    wins: Counter[str] = Counter()
    for index in range(150):
        auction = make_auction([50.0, 60.0, 4.0], reserve=5.0, name=f"root.{index}")
        made = asyncio.run(run_mechanism(mechanism, auction))
        winner = str(made.details["winner"])
        wins[winner] += 1
        assert [p.ad_id for p in made.placements] == ([winner] if winner else [])
        assert made.violations == ()
        if winner:
            place = 1 + int(winner[1:])
            net = auction.bid_of(winner).amount - 5
            price = potential_price(net, logs, clicks, np.arange(3) == place, 8.0)
            assert made.placements[0].price == pytest.approx(5 + price)
            assert 5 <= made.placements[0].price <= auction.bid_of(winner).amount
    for winner, prob in zip(("", "c0", "c1"), root, strict=True):
        assert abs(wins[winner] - 150 * prob) <= 5 * math.sqrt(150 * prob * (1 - prob))
    assert wins["c2"] == 0


def test_a_sentence_that_links_another_ad_becomes_the_winners_own_words() -> None:
    """The scripted models draw links at random, so that the winner at the end is often not the linked ad."""
    mechanism = LamaTokens(ScriptedLLM(), GivenCTR(Q), kl_weight=8.0)
    texts = []
    for index in range(40):
        auction = make_auction([50.0, 60.0, 70.0], name=f"words.{index}")
        made = asyncio.run(run_mechanism(mechanism, auction))
        if made.placements:
            winner = auction.bid_of(made.placements[0].ad_id).ad
            texts.append(made.response.endswith(f"One option worth a look is {winner.link}: {winner.body}"))
    assert {True, False} == set(texts)


def test_without_an_ad_above_the_reserve_the_answer_stays_alone() -> None:
    made = asyncio.run(run_mechanism(LamaTokens(ScriptedLLM()), make_auction([5.0, 3.0], reserve=5.0)))
    assert (made.placements, made.details) == ((), {"winner": ""})


@pytest.mark.parametrize("options", [{"kl_weight": 0}, {"tokens": 0}])
def test_options_that_cannot_be_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        LamaTokens(ScriptedLLM(), **options)  # type: ignore[arg-type]
