"""The vector environment is its single environments side by side, and their calls to a model come together."""

from __future__ import annotations

import asyncio
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from simenv import Auction, Outcome, Transition, make_mechanism, outcome
from simenv.env.environment import NativeAdsEnv
from simenv.env.vector import NativeAdsVectorEnv
from simenv.errors import InputError, OutcomeError
from simenv.llm import Request, ScriptedLLM
from simenv.llm.base import Completion
from simenv.market.bidders import Exp3Bidder
from simenv.mechanism import Mechanism
from simenv.runs.summary import summarize
from simenv.testing import small_world
from simenv.world import World

ENVS = 8


class InFlight(ScriptedLLM):
    """Scripted, and slow enough for calls to meet: `most` says how many were in flight at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0

    async def _generate(self, request: Request) -> Completion:
        self._now += 1
        self.most = max(self.most, self._now)
        for _ in range(50):  # turns of the event loop: whoever can ask by now does
            await asyncio.sleep(0)
        self._now -= 1
        return await super()._generate(request)


class Learns:
    """Shows the first candidate, at a price that grows with the transitions that it was given."""

    def __init__(self) -> None:
        self.seen = 0

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        bid = auction.bids[0]
        return outcome(auction, f"Have a look at {bid.ad.link}.", {bid.ad.id: min(bid.amount, self.seen)})

    def observe(self, transition: Transition) -> None:
        self.seen += 1


def made(world: World | None = None, num_envs: int = ENVS) -> NativeAdsVectorEnv:
    env = gymnasium.make_vec("simenv/NativeAds-v0", num_envs=num_envs, world=world or small_world())
    assert isinstance(env, NativeAdsVectorEnv)
    return env


def gsp(llm: ScriptedLLM | None = None) -> Mechanism:
    return make_mechanism("gsp", context={"llm": llm or ScriptedLLM()})


class Single:
    """A single environment that is reset in the step after a session's end, as Gymnasium's NEXT_STEP says."""

    def __init__(self, world: World, seed: int) -> None:
        self.env = NativeAdsEnv(world)
        self.first = self.env.reset(seed=seed)
        self.over = False

    def step(self, action: Mechanism) -> tuple[Auction, float, bool, bool, dict[str, Any]]:
        if self.over:
            self.over = False
            auction, info = self.env.reset()
            return auction, 0.0, False, False, info
        result = self.env.step(action)
        self.over = result[2]
        return result


def test_make_vec_gives_it() -> None:
    env = made()
    assert env.num_envs == ENVS
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    observations, infos = env.reset(seed=0)
    assert observations in env.observation_space
    assert len(observations) == ENVS
    assert infos["_session"].all()
    assert list(infos["turn"]) == [0] * ENVS


@pytest.mark.parametrize("seeds", [5, [9, 2, 7, 2]])
@pytest.mark.parametrize("learning", [False, True])
def test_each_part_is_a_single_environment(seeds: int | list[int], learning: bool) -> None:
    """Over four sessions a part, with bidders that learn and without."""
    world = small_world(bidder=Exp3Bidder(rate=0.5)) if learning else small_world()
    own = [seeds + i for i in range(4)] if isinstance(seeds, int) else seeds
    singles = [Single(world, seed) for seed in own]
    vector = made(world, 4)
    observations, infos = vector.reset(seed=seeds)
    assert list(observations) == [single.first[0] for single in singles]
    assert list(infos["session"]) == [single.first[1]["session"] for single in singles]
    paid, ends = 0.0, 0
    for step in range(4 * (world.horizon + 1)):
        observations, rewards, terminations, truncations, infos = vector.step(gsp())
        expected = [single.step(gsp()) for single in singles]
        assert list(observations) == [result[0] for result in expected]
        assert rewards.dtype == np.float64
        assert list(rewards) == [result[1] for result in expected]
        assert list(terminations) == [result[2] for result in expected]
        assert list(truncations) == [result[3] for result in expected]
        for i, (*_, info) in enumerate(expected):
            assert infos["session"][i] == info["session"]
            given = "_transition" in infos and bool(infos["_transition"][i])
            assert given == ("transition" in info) == ((step + 1) % (world.horizon + 1) != 0)
            if given:
                transition = infos["transition"][i]
                assert transition.index == 4 * info["transition"].index + i
                assert transition.model_copy(update={"index": 0}) == info["transition"].model_copy(update={"index": 0})
                paid += sum(info["transition"].payments.values())
        ends += int(terminations.sum())
    assert ends == 4 * 4
    assert paid > 0


def test_the_transitions_of_all_parts_are_the_answers_of_one_table() -> None:
    """Over several sessions of each part, and over a reset that goes on."""
    env = made(num_envs=3)
    rows: list[Transition] = []

    def step(times: int) -> None:
        for _ in range(times):
            *_, infos = env.step(gsp())
            rows.extend(row for row in infos.get("transition", ()) if row is not None)

    env.reset(seed=0)
    step(6)  # three turns, a reset, two turns
    env.reset()  # goes on, in the middle of a session
    step(2)
    assert sorted(row.index for row in rows) == [
        3 * place + part for place in (0, 1, 2, 3, 4, 6, 7) for part in range(3)
    ]
    (revenue,) = [cell for cell in summarize(rows).cells if cell.metric == "revenue"]
    assert revenue.auctions == len({row.auction.id for row in rows}) == 3 * 7


def test_the_step_after_the_end_ignores_its_action() -> None:
    env = made(num_envs=2)
    env.reset(seed=1)
    for _ in range(3):
        last, _, terminations, _, _ = env.step(gsp())
    assert terminations.all()
    nonsense = outcome(last[0], "Fine.")
    observations, rewards, terminations, _, infos = env.step([nonsense, nonsense])
    assert "transition" not in infos
    assert (rewards.tolist(), terminations.tolist(), list(infos["turn"])) == ([0, 0], [False, False], [0, 0])
    assert all(".1." in auction.id for auction in observations), "the next session"


def test_a_reset_without_a_seed_goes_on_and_with_one_begins_anew() -> None:
    env = made(num_envs=3)
    first, _ = env.reset(seed=4)
    second, _ = env.reset()
    assert [a.id.split(".")[:2] for a in second] == [[str(4 + i), "1"] for i in range(3)]
    assert env.reset(seed=4)[0] == first
    cooks, _ = env.reset(options={"persona": "cook"})
    (profile,) = {auction.profile for auction in cooks}
    assert "nurse of 35" in profile


def test_one_action_for_all_or_one_for_each() -> None:
    env = made(num_envs=3)
    env.reset(seed=0)
    *_, infos = env.step(gsp())
    assert [t.mechanism for t in infos["transition"]] == ["gsp"] * 3
    auctions, _ = env.reset(seed=0)
    organic = make_mechanism("organic", context={"llm": ScriptedLLM()})
    *_, mixed = env.step([gsp(), organic, outcome(auctions[2], "Just this.")])
    assert [t.mechanism for t in mixed["transition"]] == ["gsp", "organic", "outcome"]
    assert mixed["transition"][0] == infos["transition"][0]
    assert mixed["transition"][2].outcome.response == "Just this."


def test_a_mechanism_for_all_is_given_every_transition() -> None:
    env, learner = made(num_envs=3), Learns()
    env.reset(seed=0)
    for _ in range(5):  # three turns, a reset, one turn
        env.step(learner)
    assert learner.seen == 3 * 4


def test_wrong_numbers_are_refused() -> None:
    env = made(num_envs=3)
    env.reset(seed=0)
    for actions in ([], [gsp()] * 2, [gsp()] * 4):
        with pytest.raises(InputError, match=f"got {len(actions)} actions for 3 environments"):
            env.step(actions)
    with pytest.raises(InputError, match="got 2 seeds for 3 environments"):
        env.reset(seed=[1, 2])
    with pytest.raises(InputError, match="expected an Outcome or a Mechanism"):
        env.step([gsp(), "gsp", gsp()])
    with pytest.raises(InputError, match="num_envs must be at least 1, got 0"):
        NativeAdsVectorEnv(0, small_world())
    with pytest.raises(InputError, match="a world is given already, so horizon cannot be set here"):
        NativeAdsVectorEnv(2, small_world(), horizon=2)
    with pytest.raises(InputError, match="no session: call reset first"):
        made(num_envs=2).step(gsp())


def test_a_closed_vector_environment_says_so() -> None:
    world = small_world()
    env = made(world, num_envs=2)
    env.reset(seed=0)
    for _ in range(2):
        env.close()
    assert env.closed
    for call in (lambda: env.reset(seed=0), lambda: env.step(gsp())):
        with pytest.raises(InputError, match="the environment is closed"):
            call()
    assert len(made(world, num_envs=2).reset(seed=0)[0]) == 2, "the caller's world is not closed"


def test_an_outcome_for_another_part_is_refused() -> None:
    env = made(num_envs=2)
    auctions, _ = env.reset(seed=0)
    ad = next(bid.ad for bid in auctions[0].bids if bid.ad not in [other.ad for other in auctions[1].bids])
    shown = outcome(auctions[0], f"Look at {ad.link}.", {ad.id: 0.0})
    with pytest.raises(OutcomeError):
        env.step([shown, shown])


def test_calls_are_in_flight_together() -> None:
    """So that a local model answers them in one batch."""
    alone, together = InFlight(), InFlight()
    env = NativeAdsEnv(small_world())
    env.reset(seed=0)
    env.step(gsp(alone))
    assert alone.most == 1
    vector = made()
    vector.reset(seed=0)
    vector.step(gsp(together))
    assert together.most == ENVS
    assert len(together.requests) == ENVS * len(alone.requests)
