"""A step of many environments in which one fails: nothing of the others is lost, and every part can go on."""

from __future__ import annotations

import asyncio
import copy
import os
import signal
import threading
from typing import Any

import gymnasium
import numpy as np
import pytest

from simenv import Auction, Outcome, Transition, outcome
from simenv.env import NativeAdsEnv, NativeAdsVectorEnv
from simenv.errors import InputError, LLMUnavailable, MechanismFailed, OutcomeError, PartsFailed
from simenv.market.bidders import BidRequest, ShadedBidder
from simenv.testing import small_world
from tests.support.bidding import FirstPrice


class FakeFailing(FirstPrice):
    """Raises where it is told to, by the run of the auction."""

    def __init__(self, run: str, error: Exception) -> None:
        self._run, self._error = run, error

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        if auction.id.startswith(f"{self._run}."):
            raise self._error
        return super().run(auction, rng)


class FakeForgetful(FirstPrice):
    """Raises when it observes."""

    def observe(self, transition: Transition) -> None:
        raise ArithmeticError("cannot learn")


def made(num_envs: int = 3, **options: Any) -> NativeAdsVectorEnv:
    env = NativeAdsVectorEnv(num_envs, small_world(), **options)
    env.reset(seed=0)
    return env


def test_what_the_others_answered_is_kept_and_the_one_that_failed_goes_on() -> None:
    env, untouched = made(), made()
    before = env.get_attr("auction")
    with pytest.raises(PartsFailed, match=r"1 of 3 environments raised: 1: FakeFailing raised OSError: full") as raised:
        env.step(FakeFailing("1", OSError("full")))
    assert isinstance(raised.value.errors[1], MechanismFailed)
    assert raised.value.__cause__ is raised.value.errors[1]
    expected_observations, expected_rewards, *_, expected = untouched.step(FirstPrice())
    observations, rewards, terminations, truncations, infos = raised.value.result
    assert list(infos["_transition"]) == [True, False, True]
    for i in (0, 2):
        kept, wanted = (info["transition"][i].model_dump() for info in (infos, expected))
        assert kept == wanted | {"mechanism": "FakeFailing"}
        assert (observations[i], rewards[i]) == (expected_observations[i], expected_rewards[i])
    assert observations[1] == before[1]
    assert np.isnan(rewards[1])
    assert not terminations.any()
    assert not truncations.any()
    env.envs[1].step(FirstPrice())
    assert env.get_attr("auction") == expected_observations, "and all are where they would have been"


def test_every_error_is_told_and_retryable_only_if_all_are() -> None:
    down = LLMUnavailable("down")
    for error, retryable in ((down, True), (ValueError("no"), False)):
        env = made(2)
        with pytest.raises(PartsFailed) as raised:
            env.step([FakeFailing("0", down), FakeFailing("1", error)])
        assert sorted(raised.value.errors) == [0, 1]
        assert raised.value.retryable is retryable


def test_actions_are_checked_before_any_part_moves() -> None:
    env = made()
    before = env.get_attr("auction")
    ad = before[2].bids[0].ad
    foreign = Outcome(response=f"Look at {ad.link}.")
    for action, kind in (("gsp", InputError), (foreign, OutcomeError)):
        with pytest.raises(kind) as raised:
            env.step([FirstPrice(), FirstPrice(), action])  # type: ignore[list-item]
        assert raised.value.__notes__ == ["in environment 2 of 0 to 2; no environment has moved"]
        assert env.get_attr("auction") == before
        assert env.get_attr("last_transition") == (None, None, None)


@pytest.mark.timeout(30)
def test_after_an_interrupt_what_was_answered_is_there_and_the_rest_can_be_answered() -> None:
    env, begun = made(2), threading.Event()

    class Waits(FirstPrice):
        async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:  # type: ignore[override]
            begun.set()
            await asyncio.sleep(60)
            raise AssertionError

    def interrupt() -> None:
        begun.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        env.step([FirstPrice(), Waits()])
    first, second = env.get_attr("last_transition")
    assert (first.turn, second) == (0, None)
    *_, infos = env.step(FirstPrice())
    assert [t.turn for t in infos["transition"]] == [1, 0]


def test_a_step_that_fails_leaves_a_single_environment_as_it_was() -> None:
    env, untouched = NativeAdsEnv(small_world()), NativeAdsEnv(small_world())
    for one in (env, untouched):
        one.reset(seed=0)
    with pytest.raises(MechanismFailed):
        env.step(FakeFailing("0", OSError("full")))
    assert env.step(FirstPrice()) == untouched.step(FirstPrice())


def test_learners_that_raise_end_the_session_and_the_answer_counts() -> None:
    class FakeTired(ShadedBidder):
        def bid(self, request: BidRequest) -> float:
            return super().bid(request) if request.turn == 0 else float("nan")

    for bidder, mechanism, error in (
        (ShadedBidder(), FakeForgetful(), ArithmeticError),
        (FakeTired(), FirstPrice(), InputError),
    ):
        env = NativeAdsEnv(small_world(bidder=bidder))
        env.reset(seed=0)
        with pytest.raises(error):
            env.step(mechanism)
        assert env.last_transition is not None
        with pytest.raises(InputError, match="no session: call reset first"):
            env.step(FirstPrice())
        env.reset()


def test_a_part_alone_is_reset() -> None:
    env = made()
    env.step(FirstPrice())
    before = env.get_attr("auction")
    observations, infos = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert [auction.turn for auction in observations] == [1, 0, 1]
    assert (observations[0], observations[2]) == (before[0], before[2])
    assert list(infos["_session"]) == [False, True, False]


@pytest.mark.parametrize("mask", [[True, False], np.array([1, 0]), np.array([True]), np.array([False, False])])
def test_masks_that_say_nothing_are_refused(mask: Any) -> None:
    with pytest.raises(InputError, match="reset_mask must be"):
        made(2).reset(options={"reset_mask": mask})


def test_a_mask_before_the_first_reset_is_refused() -> None:
    with pytest.raises(InputError, match=r"environments \[1\] have no session yet"):
        NativeAdsVectorEnv(2, small_world()).reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize("mode", [gymnasium.vector.AutoresetMode.SAME_STEP, "SameStep"])
def test_the_last_step_may_reset_too(mode: Any) -> None:
    env, plain = (
        gymnasium.make_vec("simenv/NativeAds-v0", 2, world=small_world(), autoreset_mode=chosen)
        for chosen in (mode, "NextStep")
    )
    assert env.metadata["autoreset_mode"] == gymnasium.vector.AutoresetMode.SAME_STEP
    for one in (env, plain):
        one.reset(seed=0)
    for _ in range(2):
        env.step(FirstPrice()), plain.step(FirstPrice())
    observations, rewards, terminations, _, infos = env.step(FirstPrice())
    last, last_rewards, _, _, last_infos = plain.step(FirstPrice())
    assert terminations.all()
    assert list(rewards) == list(last_rewards)
    assert tuple(infos["final_obs"]) == last
    assert list(infos["final_info"]["transition"]) == list(infos["transition"]) == list(last_infos["transition"])
    assert observations == plain.step(FirstPrice())[0], "the next session, which the other mode starts a step later"
    assert list(infos["turn"]) == [0, 0]
    assert not env.step(FirstPrice())[2].any()


def test_without_autoreset_the_caller_resets() -> None:
    env = made(2, autoreset_mode="Disabled")
    for _ in range(3):
        env.step(FirstPrice())
    with pytest.raises(InputError, match=r"session 0\.0\.\w+ is over: call reset"):
        env.step(FirstPrice())
    env.reset(options={"reset_mask": np.array([True, True])})
    assert len(env.step(FirstPrice())[0]) == 2


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(InputError, match="unknown autoreset_mode 'never': known are NextStep, SameStep, Disabled"):
        made(autoreset_mode="never")


def test_attributes_and_methods_of_the_parts() -> None:
    env = made(2)
    assert env.get_attr("over") == (False, False)
    env.set_attr("render_mode", "ansi")
    assert env.call("render") == ("(nothing answered yet)",) * 2
    assert env.call("render_mode") == ("ansi", "ansi")
    env.set_attr("render_mode", ["ansi", None])
    assert env.get_attr("render_mode") == ("ansi", None)
    with pytest.raises(InputError, match="got 1 values for 2 environments"):
        env.set_attr("render_mode", ["ansi"])
    with pytest.raises(AttributeError, match="no_such"):
        env.get_attr("no_such")


@pytest.mark.parametrize("seed", [True, -1, 2.0, "3", np.array([1])])
def test_seeds_that_are_no_whole_number_are_refused(seed: Any) -> None:
    with pytest.raises(InputError, match="seed must be a whole number of at least 0, or None, got"):
        NativeAdsEnv(small_world()).reset(seed=seed)
    with pytest.raises(InputError, match="seed must be a whole number of at least 0, or None, got"):
        made(2).reset(seed=[0, seed])


def test_numpys_integers_are_seeds_and_sessions() -> None:
    env = NativeAdsEnv(small_world())
    assert env.reset(seed=np.int64(3)) == env.reset(seed=3)
    asked = env.reset(options={"session": np.int32(2)})
    assert asked == env.reset(options={"session": 2})
    assert made(2).reset(seed=np.int64(3))[0] == made(2).reset(seed=[3, np.uint8(4)])[0]


@pytest.mark.parametrize("session", ["q", -1, 2.7, True, None])
def test_sessions_that_are_no_whole_number_are_refused_and_the_session_goes_on(session: Any) -> None:
    env = NativeAdsEnv(small_world())
    before, _ = env.reset(seed=1)
    with pytest.raises(InputError, match="the reset option session must be a whole number of at least 0, got"):
        env.reset(seed=2, options={"session": session})
    assert env.auction == before
    assert env.step(FirstPrice())[4]["session"].startswith("1.0.")


def test_a_world_without_candidates() -> None:
    env = NativeAdsEnv(small_world(candidates=0))
    auction, _ = env.reset(seed=0)
    assert auction.bids == ()
    assert env.step(FirstPrice())[4]["transition"].payments == {}
    assert env.step(outcome(auction, "Fine."))[1] == 0.0


def test_specifications_are_json_if_their_options_are() -> None:
    env = gymnasium.make("simenv/NativeAds-v0", world=small_world())
    assert env.spec is not None
    with pytest.raises(TypeError, match="World is not JSON serializable"):
        env.spec.to_json()
    spec = copy.deepcopy(gymnasium.spec("simenv/NativeAds-v0"))
    spec.kwargs = {"horizon": 2, "bidder": "shaded:0.5", "candidates": 4}
    assert gymnasium.envs.registration.EnvSpec.from_json(spec.to_json()) == spec
