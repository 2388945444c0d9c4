"""simenv as an environment of verifiers (version 1): a task is a session of one simulated user, the model answers it.

verifiers finds an environment by the name of a top-level module, so a project that uses this has a file such as

    # simenv_ads.py
    from simenv.integrations.verifiers import SimenvEnv, SimenvTaskset

    __all__ = ["SimenvEnv", "SimenvTaskset"]

and `vf-eval simenv-ads -m MODEL -n 10 --env.player.runtime.type subprocess --no-push` plays ten sessions. The model
gets the query, the user's public profile and the candidates with their bids, and writes the answer with its ads. Each
ad pays its bid per click.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from simenv.datasets.training_data import ad_prompt
from simenv.env.environment import NativeAdsEnv
from simenv.integrations.missing import missing
from simenv.integrations.turns import session_sums
from simenv.markup import outcome
from simenv.records import Auction, Outcome, Transition
from simenv.world import World
from simenv.world_factory import make_world

try:
    import verifiers.v1 as vf
except ModuleNotFoundError as error:
    raise missing(error, "verifiers", "verifiers") from None

__all__ = ["SimenvEnv", "SimenvEnvConfig", "SimenvTaskset", "SimenvTasksetConfig", "first_price"]
REWARD = "simenv"
"""Name of the reward: the platform's objective over the session, in currency."""


class SimenvTasksetConfig(vf.TasksetConfig):
    """Which sessions are played."""

    seed: int = 0
    """Seed of the run: it determines personas, values, bids and clicks."""
    sessions: int | None = 100
    """Number of sessions; None: without end."""


class SessionData(vf.TaskData):
    """Names a session."""

    seed: int
    session: int


class SimenvTaskset(vf.Taskset[vf.Task[SessionData, vf.State, vf.TaskConfig], SimenvTasksetConfig]):
    """The sessions of a run."""

    def __init__(self, config: SimenvTasksetConfig) -> None:
        super().__init__(config)
        self.INFINITE = config.sessions is None

    def load(self) -> Iterator[Any]:
        number = 0
        while self.config.sessions is None or number < self.config.sessions:
            data = SessionData(seed=self.config.seed, session=number, name=f"seed {self.config.seed}, session {number}")
            yield vf.Task[SessionData, vf.State, vf.TaskConfig](data, self.config.task)
            number += 1


class SimenvEnvConfig(vf.EnvConfig):
    """Who plays, and in which world."""

    player: vf.AgentConfig = vf.AgentConfig(harness={"id": "null"})
    """The assistant."""
    catalog: str = "everyday"
    """A pack's name, or a file; as in `simenv.make_world`."""
    personas: str = "everyday"
    judge: str = "click"
    horizon: int = 5
    """Queries per session."""
    candidates: int = 8
    max_ads: int = 2
    reserve: float = 0.0


class SimenvEnv(vf.Env[SimenvEnvConfig]):
    """Plays a session, and records the sums of its turns.

    The reward is the sum of the turns' rewards, in expectation over clicks where the judge gives probabilities. The
    metrics are the other sums of `simenv.integrations.turns.session_sums`. Turns whose reward is unknown, because the
    judge abstained, count in the metric `unknown` alone.
    """

    async def run(self, task: Any, agents: Any) -> None:
        env = NativeAdsEnv(_world(self.config))
        data: SessionData = task.data
        auction, _ = await env.start(seed=data.seed, options={"session": data.session})
        turns: list[Transition] = []
        system, _user = ad_prompt(auction)
        task = task.with_system_prompt(system["content"])
        async with agents.player.interaction(task) as talk:
            over = False
            while not over:
                segment = await talk.turn(ad_prompt(auction)[1]["content"])
                if segment.terminated:
                    break
                auction, _, over, _, info = await env.advance(first_price(auction, segment.last_reply))
                turns.append(info["transition"])
            _record(talk.trace, turns)


def first_price(auction: Auction, response: str) -> Outcome:
    """The outcome of an answer whose ads pay their bids, and at least the reserve per click."""
    prices = {b.ad.id: b.amount if auction.admits(b) else auction.reserve for b in auction.bids}
    return outcome(auction, response, prices)


def _record(trace: Any, turns: list[Transition]) -> None:
    known = [turn for turn in turns if not math.isnan(session_sums([turn])["reward"])]
    sums = session_sums(known)
    trace.record_reward(REWARD, sums.pop("reward"))
    trace.record_metrics({name: number for name, number in sums.items() if not math.isnan(number)})
    trace.record_metrics({"turns": len(turns), "unknown": len(turns) - len(known)})


_WORLD = ("catalog", "personas", "judge", "horizon", "candidates", "max_ads", "reserve")


def _world(config: SimenvEnvConfig) -> World:
    return _built(*((name, getattr(config, name)) for name in _WORLD))


@cache
def _built(*options: tuple[str, Any]) -> World:
    return make_world(**dict(options))
