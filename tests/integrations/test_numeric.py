"""The environments of numbers, by Gymnasium's rules and against the environment of records."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from simenv import make_mechanism
from simenv.env.environment import NativeAdsEnv
from simenv.errors import InputError, UnknownName
from simenv.integrations.numeric import AllocationEnv, BiddingEnv
from simenv.llm import ScriptedLLM
from simenv.testing import small_world
from tests.support.fakes import ConstantJudge


@pytest.mark.parametrize(
    ("name", "options"),
    [("simenv/Allocation-v0", {}), ("simenv/Allocation-v0", {"action": "scores"}), ("simenv/Bidding-v0", {})],
)
def test_check_env_passes_without_warnings(name: str, options: dict[str, Any]) -> None:
    env = gymnasium.make(name, world=small_world(), **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_the_chosen_ads_are_shown_in_order_and_pay_their_bids() -> None:
    env = AllocationEnv(small_world(max_ads=3))
    seen, _ = env.reset(seed=0)
    _, reward, _, _, info = env.step(np.array([4, 0, 2]))
    transition = env.last_transition
    assert transition is not None
    bids = transition.auction.bids
    assert [(p.ad_id, p.price) for p in transition.outcome.placements] == [
        (bids[3].ad.id, bids[3].amount),
        (bids[1].ad.id, bids[1].amount),
    ]
    assert reward == transition.expected_reward
    assert info["known"]
    assert seen["candidates"][:, 0] * 100 == pytest.approx([bid.amount for bid in bids])
    assert seen["candidates"][:, 1] == pytest.approx([bid.relevance for bid in bids])
    encode = env.world.retriever.encoder.encode
    assert np.allclose(seen["query"], encode([transition.auction.query.text])[0])
    assert np.allclose(seen["profile"], encode([transition.auction.profile])[0])
    assert seen["turn"] == 0
    env.step(np.array([4, 4, 4]))
    assert env.last_transition is not None
    assert len(env.last_transition.outcome.placements) == 1
    env.step(np.array([0, 0, 0]))
    assert not env.last_transition.outcome.placements


def test_an_ad_below_the_reserve_is_masked_and_never_shown() -> None:
    env = AllocationEnv(small_world(reserve=50.0), reward="realised")
    seen, _ = env.reset(seed=0)
    below = [number for number, allowed in enumerate(seen["mask"], start=1) if not allowed]
    assert 0 < len(below) < 6
    assert env.action_masks().tolist() == [True, *seen["mask"].astype(bool).tolist()] * 2
    allowed = seen["mask"].astype(bool).tolist().index(True) + 1
    _, reward, *_ = env.step(np.array([below[0], allowed]))
    transition = env.last_transition
    assert transition is not None
    assert [p.ad_id for p in transition.outcome.placements] == [transition.auction.bids[allowed - 1].ad.id]
    assert reward == transition.reward


def test_a_small_catalog_has_as_many_places_as_ads() -> None:
    world = small_world(candidates=50)
    env = AllocationEnv(world)
    assert env.observation_space["candidates"].shape == (12, 2)


def test_the_highest_positive_scores_are_shown() -> None:
    env = AllocationEnv(small_world(), action="scores")
    env.reset(seed=0)
    env.step(np.array([0.1, -1, 0.9, 0.5, 0, 0.2], np.float32))
    transition = env.last_transition
    assert transition is not None
    bids = transition.auction.bids
    assert [p.ad_id for p in transition.outcome.placements] == [bids[2].ad.id, bids[3].ad.id]


def test_an_agent_that_bids_its_value_changes_nothing() -> None:
    world = small_world()
    env = BiddingEnv(world, mechanism=make_mechanism("gsp", llm=ScriptedLLM()))
    records = NativeAdsEnv(world)
    auction, _ = records.reset(seed=5)
    env.reset(seed=5)
    assert env.last_transition is None
    env.step(np.array([0], np.float32))
    assert env.last_transition is not None
    assert env.last_transition.auction == auction


@pytest.mark.parametrize("reward", ["expected", "realised"])
def test_a_bid_is_a_share_of_the_value_and_the_reward_is_the_utility(reward: str) -> None:
    env = BiddingEnv(small_world(), reward=reward)
    env.reset(seed=2)
    rewards = []
    for action in (-1.0, -0.5, 1.0):
        before = env._env.auction
        seen, got, *_ = env.step(np.array([action], np.float32))
        transition = env.last_transition
        assert transition is not None
        assert before is not None
        moved = [
            (bid.ad.id, bid.amount)
            for bid, old in zip(transition.auction.bids, before.bids, strict=True)
            if bid.amount != old.amount
        ]
        ((ad_id, amount),) = moved
        value = transition.values[ad_id]
        assert amount == pytest.approx((1 + action) * value)
        click = next((click for click in transition.feedback.clicks if click.ad_id == ad_id), None)
        if click is None:
            assert got == 0
        elif reward == "expected":
            assert click.click_prob is not None
            assert got == pytest.approx((value - amount) * click.click_prob)
        else:
            assert got == pytest.approx((value - amount) * bool(click.clicked))
        rewards.append(got)
    assert rewards[-1] != 0 or reward == "realised"
    assert seen["own"].shape == (4,)


@pytest.mark.parametrize(
    ("make", "action"),
    [(AllocationEnv, np.array([1, 2])), (lambda world: BiddingEnv(world), np.array([1], np.float32))],
)
def test_a_step_without_a_verdict_is_told(make: Callable[..., Any], action: Any) -> None:
    env = make(small_world(judge=ConstantJudge(prob=None, clicked=None)))
    env.reset(seed=0)
    known, rewards = [], []
    for _ in range(3):
        _, reward, _, _, info = env.step(action)
        known.append(info["known"])
        rewards.append(reward)
    assert False in known
    assert rewards == [0.0] * 3


def test_a_run_of_few_sessions_begins_again() -> None:
    env = BiddingEnv(small_world(), sessions=2)
    told = [env.reset(seed=7)[1]["session"]] + [env.reset()[1]["session"] for _ in range(3)]
    assert told[:2] == told[2:]
    assert told[0] != told[1]
    assert env.reset(options={"session": 3})[1]["session"] not in told
    assert env.reset()[1]["session"] == told[0], "session 4 is session 0"


def test_what_is_wrong_is_refused() -> None:
    world = small_world()
    with pytest.raises(UnknownName, match="reward"):
        AllocationEnv(world, reward="regret")
    with pytest.raises(UnknownName, match="action"):
        AllocationEnv(world, action="bids")
    with pytest.raises(InputError, match="candidates must be at least 1"):
        BiddingEnv(small_world(candidates=0))
    with pytest.raises(InputError, match="max_ads must be at least 1"):
        AllocationEnv(small_world(max_ads=0))
    with pytest.raises(InputError, match="sessions"):
        BiddingEnv(world, sessions=0)
    env = BiddingEnv(world)
    with pytest.raises(InputError, match="call reset first"):
        env.step(np.array([0], np.float32))
    env.reset(seed=0)
    with pytest.raises(InputError, match="expected an element of Box"):
        env.step(np.array([2], np.float32))
    for wrong in (np.array([0.5, 0.5]), np.array([np.nan]), "much", None):
        with pytest.raises(InputError, match="expected an element of Box"):
            env.step(wrong)  # type: ignore[arg-type]
    env.step(np.array([0.5]))  # of another width
    allocation = AllocationEnv(world)
    allocation.reset(seed=0)
    with pytest.raises(InputError, match="expected an element of MultiDiscrete"):
        allocation.step(np.array([7, 0]))
