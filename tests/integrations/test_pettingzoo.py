"""Bidders of PettingZoo, by PettingZoo's own tests and against the auctions they bid in."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from simenv.errors import InputError, UnknownName
from simenv.integrations.pettingzoo import BiddersEnv
from simenv.testing import ADS, small_world
from tests.support.examples import example
from tests.support.fakes import ConstantJudge


def bids(env: BiddersEnv, action: float) -> dict[str, np.ndarray]:
    return {agent: np.array([action], np.float32) for agent in env.agents}


def test_the_tests_of_pettingzoo_pass_without_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        parallel_api_test(BiddersEnv(small_world()), num_cycles=20)
        parallel_seed_test(lambda: BiddersEnv(small_world()), num_cycles=20)
    assert "Passed Parallel API test" in capsys.readouterr().out


def test_every_advertiser_is_an_agent_and_the_candidates_are_in() -> None:
    env = BiddersEnv(small_world())
    seen, infos = env.reset(seed=1)
    assert env.agents == env.possible_agents == [ad.id for ad in ADS]
    assert all(env.observation_space(agent).contains(view) for agent, view in seen.items())
    assert {info["turn"] for info in infos.values()} == {0}
    _, rewards, *_ = env.step(bids(env, -0.5))
    transition = env.last_transition
    assert transition is not None
    candidates = {bid.ad.id: bid for bid in transition.auction.bids}
    assert {agent for agent, view in seen.items() if view["in"]} == set(candidates)
    for ad_id, bid in candidates.items():
        assert bid.amount == transition.values[ad_id] / 2
        assert seen[ad_id]["own"][0] * 100 == pytest.approx(transition.values[ad_id])
        assert seen[ad_id]["own"][1] == pytest.approx(bid.relevance)
    shown = {click.ad_id: click.click_prob for click in transition.feedback.clicks}
    assert len(shown) == 2
    for agent, reward in rewards.items():
        if agent in shown:
            price = candidates[agent].amount
            assert reward == pytest.approx((transition.values[agent] - price) * (shown[agent] or 0))
        else:
            assert reward == 0


def test_all_agents_end_with_the_session() -> None:
    env = BiddersEnv(small_world())
    first = env.reset(seed=1)[1]["ad-1"]["session"]
    ended = [env.step(bids(env, 0))[2]["ad-1"] for _ in range(3)]
    assert ended == [False, False, True]
    assert env.agents == []
    with pytest.raises(InputError, match="call reset"):
        env.step({})
    assert env.reset()[1]["ad-1"]["session"] != first


def test_the_others_bid_as_the_world_does() -> None:
    env = BiddersEnv(small_world(), advertisers=["ad-1", "ad-5"], reward="realised")
    env.reset(seed=0, options={"persona": "walker"})
    env.step(bids(env, -1))
    transition = env.last_transition
    assert transition is not None
    assert transition.persona_id == "walker"
    amounts = {bid.ad.id: bid.amount for bid in transition.auction.bids}
    assert amounts.pop("ad-1") == 0
    amounts.pop("ad-5", None)
    assert amounts
    assert amounts == {ad_id: transition.values[ad_id] for ad_id in amounts}


def test_a_reward_without_a_verdict_is_told() -> None:
    env = BiddersEnv(small_world(judge=ConstantJudge(prob=None, clicked=None)))
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step(bids(env, 0))
    assert set(rewards.values()) == {0.0}
    assert sum(not info["known"] for info in infos.values()) == 2, "the ads that are shown"


def test_what_is_wrong_is_refused() -> None:
    world = small_world()
    with pytest.raises(UnknownName, match="nobody"):
        BiddersEnv(world, advertisers=["ad-1", "nobody"])
    for wrong in ([], ["ad-1", "ad-1"]):
        with pytest.raises(InputError, match="each once"):
            BiddersEnv(world, advertisers=wrong)
    with pytest.raises(UnknownName, match="reward"):
        BiddersEnv(world, reward="regret")
    env = BiddersEnv(world)
    env.reset(seed=0)
    with pytest.raises(InputError, match="got no action for ad-2"):
        env.step({"ad-1": np.array([0], np.float32)})
    with pytest.raises(InputError, match="for ad-1: expected an element of Box"):
        env.step(bids(env, 3))


def test_the_example_plays_a_session() -> None:
    totals = example("pettingzoo_bidders").main(world=small_world())
    assert len(totals) == len(ADS)
    assert any(totals.values())
