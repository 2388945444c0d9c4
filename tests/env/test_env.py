"""The Gymnasium environment, by Gymnasium's own rules and by ours."""

from __future__ import annotations

import asyncio
import gc
import math
import warnings
import weakref

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from simenv import Auction, Outcome, make_mechanism, outcome
from simenv.background_loop import run_sync
from simenv.env.environment import NativeAdsEnv, transcript
from simenv.env.vector import NativeAdsVectorEnv
from simenv.errors import InputError, MechanismFailed, OutcomeError, PlugInFailed, SimenvError, UnknownName
from simenv.llm import ScriptedLLM
from simenv.records import Click, Feedback, Persona, Transition
from simenv.runs.rollout import Finished, rollout
from simenv.runs.summary import summarize
from simenv.testing import ADS, PERSONAS, FakeEncoder, small_world


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


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_mechanism_or_judge_that_exits_leaves_the_environment_usable(error: type[BaseException]) -> None:
    class Exits(FirstAd):
        def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
            raise error(3)

    class FakeExitingJudge:
        name = "exits"

        async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
            raise error(3)

    world = small_world(horizon=3)
    env = NativeAdsEnv(world)
    auction, _ = env.reset(seed=0)
    with pytest.raises(MechanismFailed, match=rf"Exits raised {error.__name__}.* on auction {auction.id}"):
        env.step(Exits())
    judge, world.judge = world.judge, FakeExitingJudge()
    with pytest.raises(SimenvError, match=rf"judge \(.*test_env.py:\d+\) raised {error.__name__}"):
        env.step(FirstAd())
    both = NativeAdsVectorEnv(2, world)
    both.reset(seed=0)
    with pytest.raises(SimenvError, match=f"raised {error.__name__}"):
        both.step(FirstAd())
    world.judge = judge
    assert env.step(FirstAd())[4]["transition"].auction == auction, "the step was not taken"


def test_seed_names_the_run(env: gymnasium.Env) -> None:
    first, _ = env.reset(seed=5)
    again, _ = env.reset(seed=5)
    other, _ = env.reset(seed=6)
    assert first == again
    assert first != other


def walk(env: gymnasium.Env, steps: int, seed: int | None = None) -> list[Transition]:
    """`steps` answers, over as many sessions as they take."""
    env.reset(seed=seed)
    seen: list[Transition] = []
    over = False
    while len(seen) < steps:
        if over:
            env.reset()
        _, _, over, _, info = env.step(FirstAd())
        seen.append(info["transition"])
    return seen


def test_the_index_is_the_position_in_the_run_as_a_rollout_counts(env: gymnasium.Env) -> None:
    first = walk(env, 7, seed=2)
    assert [t.index for t in first] == list(range(7))
    assert [t.turn for t in first] == [0, 1, 2, 0, 1, 2, 0]
    assert [t.index for t in walk(env, 4)] == list(range(9, 13)), "a reset without a seed goes on to the next session"
    assert walk(env, 7, seed=2) == first, "a seed begins a run anew"
    assert {cell.auctions for cell in summarize(first).cells if cell.metric == "revenue"} == {7}
    rows: list[Transition] = []

    def keep(finished: Finished) -> None:
        rows.extend(finished.transitions)

    run_sync(lambda: rollout(env.unwrapped.world, {"FirstAd": FirstAd()}, n=7, seed=2, on_chunk=keep))
    assert first == rows


def test_a_session_that_is_met_twice_has_its_indices_both_times(env: gymnasium.Env) -> None:
    """So that mechanisms which take turns in each session are compared auction by auction."""
    rows: list[Transition] = []
    for session in (4, 1):
        for name in ("one", "other"):
            env.reset(seed=3, options={"session": session})
            for _ in range(3):
                rows.append(env.step(FirstAd())[4]["transition"].model_copy(update={"mechanism": name}))
    assert [row.index for row in rows] == [12, 13, 14] * 2 + [3, 4, 5] * 2
    (revenue,) = [c for c in summarize(rows).cells if (c.metric, c.mechanism) == ("revenue", "other")]
    assert revenue.auctions == 6
    assert revenue.difference is not None
    assert revenue.difference.value == 0


def test_an_answer_that_is_refused_takes_no_index(env: gymnasium.Env) -> None:
    auction, _ = env.reset(seed=1)
    hidden = outcome(auction, "Nothing.").model_copy(update={"response": f"See {auction.bids[0].ad.link}."})
    with pytest.raises(OutcomeError):
        env.step(hidden)
    assert env.step(FirstAd())[4]["transition"].index == 0


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


def test_a_judge_whose_clicks_are_not_of_the_ads_shown_is_named() -> None:
    class FakeJudgeOfNothing:
        name = "mine"

        async def judge(self, persona, auction, made) -> Feedback:
            return Feedback(clicks=())

    env = gymnasium.make("simenv/NativeAds-v0", world=small_world(judge=FakeJudgeOfNothing()), disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(
        PlugInFailed, match=r"judge 'mine' gives clicks of \[\] for an answer that shows \['.+'\]: expected"
    ):
        env.step(FirstAd())


def test_render_is_a_transcript(env: gymnasium.Env) -> None:
    env.reset(seed=0)
    assert env.render() == "(nothing answered yet)"
    env.step(FirstAd())
    text = env.render()
    assert "Assistant (FirstAd): Have a look at @" in text
    assert "price" in text


def test_a_closed_environment_says_so_and_leaves_the_callers_world_alone() -> None:
    world = small_world()
    env = gymnasium.make("simenv/NativeAds-v0", world=world)
    env.reset(seed=0)
    env.step(FirstAd())
    for _ in range(2):
        env.close()
    for call in (lambda: env.reset(seed=0), lambda: env.step(FirstAd()), lambda: env.unwrapped.world):
        with pytest.raises(InputError, match="the environment is closed"):
            call()
    again = NativeAdsEnv(world)
    again.reset(seed=0)
    assert again.step(FirstAd())[4]["transition"].index == 0


def test_a_closed_environment_lets_go_of_the_world_it_opened() -> None:
    encoder = FakeEncoder()
    env = NativeAdsEnv(encoder=encoder, catalog=ADS, personas=PERSONAS, horizon=3)
    env.reset(seed=0)
    env.step(FirstAd())
    opened = weakref.ref(env.world)
    env.close()
    gc.collect()
    assert opened() is None
    with NativeAdsEnv(encoder=encoder, catalog=ADS, personas=PERSONAS, horizon=3) as other:
        other.reset(seed=0)
    with pytest.raises(InputError, match="the environment is closed"):
        other.reset()


def test_bad_construction_is_refused() -> None:
    with pytest.raises(InputError, match="a world is given already"):
        gymnasium.make("simenv/NativeAds-v0", world=small_world(), horizon=2)
    with pytest.raises(InputError, match="horizon must be at least 1"):
        small_world(horizon=0)


def test_a_transcript_shows_what_ads_users_and_judges_wrote_and_obeys_none_of_it(env: gymnasium.Env) -> None:
    env.reset(seed=1)
    transition = env.step(FirstAd())[4]["transition"]
    click = transition.feedback.clicks[0].model_copy(update={"reason": "fine\n  [ad-1] bid 0\x1b[2J"})
    feedback = transition.feedback.model_copy(update={"clicks": (click,)})
    outcome = transition.outcome.model_copy(update={"response": f"{transition.outcome.response}\nNext\u202e line\x07"})
    shown = transcript(transition.model_copy(update={"feedback": feedback, "outcome": outcome}))
    assert not set(shown) & set("\x1b\x07\u202e")
    assert shown.endswith("(fine [ad-1] bid 0\\x1b[2J)")
    assert "\nNext\\u202e line\\x07\n" in shown


def test_bids_can_be_replaced_before_a_step(env: gymnasium.Env) -> None:
    auction, _ = env.reset(seed=0)
    plain = env.unwrapped
    assert isinstance(plain, NativeAdsEnv)
    ad_id = auction.bids[1].ad.id
    changed = plain.rebid({ad_id: 7})
    assert [bid.amount for bid in changed.bids] == [7.0 if bid.ad.id == ad_id else bid.amount for bid in auction.bids]
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="finite number of at least 0"):
            plain.rebid({ad_id: wrong})
    with pytest.raises(UnknownName, match="candidate ad"):
        plain.rebid({"nobody": 1.0})
    assert env.step(FirstAd())[4]["transition"].auction == changed
    for _ in range(2):
        env.step(FirstAd())
    with pytest.raises(InputError, match="is over"):
        plain.rebid({ad_id: 1.0})
