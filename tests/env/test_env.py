"""The Gymnasium environment, by Gymnasium's own rules and by ours."""

from __future__ import annotations

import asyncio
import math
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from simenv import Auction, Outcome, make_mechanism, outcome
from simenv.errors import InputError, OutcomeError
from simenv.llm import ScriptedLLM
from simenv.records import Click, Feedback
from simenv.testing import small_world


@pytest.fixture
def env() -> gymnasium.Env:
    return gymnasium.make("simenv/NativeAds-v0", world=small_world(horizon=3), render_mode="ansi")


class FirstAd:
    """Shows the first candidate and charges its bid; a plain `def run`."""

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        bid = auction.bids[0]
        return outcome(auction, f"Have a look at {bid.ad.link}.", {bid.ad.id: bid.amount})


def test_check_env_passes_without_warnings(env: gymnasium.Env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped)


def test_an_episode_is_one_personas_session(env: gymnasium.Env) -> None:
    auction, info = env.reset(seed=3)
    personas = set()
    for turn in range(3):
        assert info["turn"] == turn
        served = auction
        auction, reward, terminated, truncated, info = env.step(FirstAd())
        transition = info["transition"]
        assert transition.auction == served
        assert transition.mechanism == "FirstAd"
        assert reward == transition.reward
        assert (terminated, truncated) == (turn == 2, False)
        personas.add(transition.persona_id)
    assert len(personas) == 1
    with pytest.raises(InputError, match="is over"):
        env.step(FirstAd())
    env.reset()
    _, _, _, _, info = env.step(FirstAd())
    assert info["transition"].persona_id not in personas  # the next session is another persona's


def test_outcomes_and_mechanisms_are_both_actions(env: gymnasium.Env) -> None:
    auction, _ = env.reset(seed=0)
    by_mechanism = env.step(FirstAd())[4]["transition"]
    auction, _ = env.reset(seed=0)
    by_outcome = env.step(FirstAd().run(auction, np.random.default_rng()))[4]["transition"]
    assert by_outcome.feedback == by_mechanism.feedback
    assert by_outcome.payments == by_mechanism.payments
    for wrong in (42, "gsp", None):
        with pytest.raises(InputError, match="expected an Outcome or a Mechanism"):
            env.unwrapped.step(wrong)
    auction, _ = env.reset(seed=1)
    hidden = outcome(auction, "Nothing here.").model_copy(update={"response": f"See {auction.bids[0].ad.link}."})
    with pytest.raises(OutcomeError, match="do not match"):
        env.step(hidden)


def test_seed_names_the_run(env: gymnasium.Env) -> None:
    first, _ = env.reset(seed=5)
    again, _ = env.reset(seed=5)
    other, _ = env.reset(seed=6)
    assert first == again
    assert first != other


def test_options_choose_persona_and_session(env: gymnasium.Env) -> None:
    persona = env.unwrapped.world.personas[2]
    auction, _ = env.reset(seed=0, options={"persona": persona.id})
    assert auction.profile == persona.profile
    _, info = env.reset(seed=0, options={"session": 7})
    assert ".7." in info["session"]
    with pytest.raises(InputError, match="unknown persona"):
        env.reset(seed=0, options={"persona": "nobody"})
    with pytest.raises(InputError, match="unknown reset options"):
        env.reset(seed=0, options={"persno": "typo"})


def test_works_inside_a_running_event_loop(env: gymnasium.Env) -> None:
    async def notebook_cell() -> float:
        env.reset(seed=0)
        return env.step(make_mechanism("gsp", context={"llm": ScriptedLLM()}))[1]

    assert math.isfinite(asyncio.run(notebook_cell()))


def test_an_abstaining_judge_gives_nan_and_says_so() -> None:
    class FakeSilentJudge:
        name = "silent"

        async def judge(self, persona, auction, made) -> Feedback:
            return Feedback(clicks=tuple(Click(ad_id=p.ad_id, clicked=None) for p in made.placements))

    env = gymnasium.make("simenv/NativeAds-v0", world=small_world(judge=FakeSilentJudge()), disable_env_checker=True)
    env.reset(seed=0)
    _, reward, _, _, info = env.step(FirstAd())
    assert math.isnan(reward)
    assert info["transition"].reward is None
    assert info["transition"].abstentions == 1


def test_render_is_a_transcript(env: gymnasium.Env) -> None:
    env.reset(seed=0)
    assert env.render() == "(nothing answered yet)"
    env.step(FirstAd())
    text = env.render()
    assert "Assistant (FirstAd): Have a look at @" in text
    assert "price" in text


def test_bad_construction_is_refused() -> None:
    with pytest.raises(InputError, match="a world is given already"):
        gymnasium.make("simenv/NativeAds-v0", world=small_world(), horizon=2)
    with pytest.raises(InputError, match="horizon must be at least 1"):
        small_world(horizon=0)
