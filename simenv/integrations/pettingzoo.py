"""Advertisers as the agents of a parallel environment of PettingZoo."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from simenv.env.environment import NativeAdsEnv
from simenv.errors import InputError, UnknownName
from simenv.integrations.missing import missing
from simenv.integrations.views import (
    BID,
    OWN,
    Numbers,
    bid_of,
    element,
    own_numbers,
    refuse_linked,
    seller,
    utility,
    vector,
)
from simenv.llm import LLM
from simenv.mechanism import Mechanism
from simenv.records import Auction, Transition
from simenv.world import World

try:
    from pettingzoo import ParallelEnv
except ModuleNotFoundError as error:
    raise missing(error, "pettingzoo", "pettingzoo") from None

__all__ = ["BiddersEnv"]

Action = npt.NDArray[np.float32]


class BiddersEnv(ParallelEnv[str, Numbers, Action]):
    """Advertisers bid in the auctions of one mechanism: an agent is an advertiser, by the id of its ad.

    A step is one auction, an episode one persona's session. Every agent acts in every step, also where retrieval did
    not make its ad a candidate: `in` is then 0, its action is ignored and its reward is 0. Advertisers that are no
    agents bid as the world's `bidder` does.

    - Observation of an agent: `in` (1,), 1 if its ad is a candidate; `own` (4,), see `simenv.integrations.views.OWN`,
      zeros if it is none; `query` (d,), the unit vector of the query; `turn` (1,), the share of the session that is
      over. It sees no bid of another and nothing of the user.
    - Action: `Box(-1, 1, (1,))`; the bid is (1 + action) x value, so 0 bids the value.
    - Reward: the advertiser's utility, value x click - payment, in currency. Where the judge abstained on its ad the
      reward is 0 and `infos[agent]["known"]` is False.

    All agents end together, with the session's last query; `reset()` then starts the run's next session. `reset`
    ignores options that it does not know, as PettingZoo expects; it knows those of `NativeAdsEnv`.

    Args:
        world: A world; the options are then not allowed.
        mechanism: The mechanism that sells, or its name.
        llm: Writes its texts if it is given by name.
        advertisers: Ids of the ads whose advertisers are agents; None: all of the catalog.
        reward: "expected" over click probabilities where the judge gives them, or "realised".
        render_mode: "ansi" or None.
        **options: Passed to `simenv.make_world`.

    Raises:
        UnknownName: an advertiser is not in the catalog.
        InputError: an option is unknown or wrong, or there are no advertisers, or one twice.
    """

    metadata = {"name": "simenv_bidders_v0", "render_modes": ["ansi"]}  # noqa: RUF012 (PettingZoo declares it so)

    def __init__(
        self,
        world: World | None = None,
        *,
        mechanism: str | Mechanism = "first_price",
        llm: str | LLM = "scripted",
        advertisers: Sequence[str] | None = None,
        reward: str = "expected",
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        if reward not in ("expected", "realised"):
            raise UnknownName("reward", reward, ["expected", "realised"])
        self._env = NativeAdsEnv(world, render_mode=render_mode, **options)
        refuse_linked(self._env.world, "agents bid at each turn")
        self._mechanism = seller(mechanism, llm)
        self._expected = reward == "expected"
        self.render_mode = render_mode
        known = [ad.id for ad in self.world.retriever.catalog]
        self.possible_agents = known if advertisers is None else list(advertisers)
        if unknown := sorted(set(self.possible_agents) - set(known)):
            raise UnknownName("ad", unknown[0], known)
        if not self.possible_agents or len(set(self.possible_agents)) < len(self.possible_agents):
            raise InputError(f"expected advertisers, each once, got {self.possible_agents}")
        self.agents: list[str] = []
        space = spaces.Dict(
            {
                "in": spaces.Box(0, 1, (1,)),
                "own": OWN,
                "query": spaces.Box(-1, 1, vector(self.world, "").shape),
                "turn": spaces.Box(0, 1, (1,)),
            }
        )
        self.observation_spaces = {agent: copy.deepcopy(space) for agent in self.possible_agents}
        self.action_spaces = {agent: copy.deepcopy(BID) for agent in self.possible_agents}

    @property
    def world(self) -> World:
        """Personas, market and judge."""
        return self._env.world

    @property
    def last_transition(self) -> Transition | None:
        """The last turn of this session, with everything that the numbers leave out."""
        return self._env.last_transition

    def observation_space(self, agent: str) -> spaces.Space[Any]:
        """The same object at each call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> spaces.Space[Any]:
        """The same object at each call."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Numbers], dict[str, dict[str, Any]]]:
        """Starts a session.

        Args:
            seed: Seed of the run; None: continue this run.
            options: {"persona": id}, {"session": number}; others are ignored.
        """
        ours = {name: option for name, option in (options or {}).items() if name in ("persona", "session")}
        auction, info = self._env.reset(seed=seed, options=ours)
        self.agents = list(self.possible_agents)
        return self._views(auction), {agent: dict(info) for agent in self.agents}

    def step(
        self, actions: dict[str, Action]
    ) -> tuple[dict[str, Numbers], dict[str, float], dict[str, bool], dict[str, bool], dict[str, dict[str, Any]]]:
        """Answers the current auction with the agents' bids.

        Raises:
            InputError: an agent has no action, or one outside its space, or the session is over.
        """
        auction = self._env.auction
        if not self.agents or auction is None:
            raise InputError("no session, or it is over: call reset")
        if lacking := [agent for agent in self.agents if agent not in actions]:
            raise InputError(f"got no action for {', '.join(lacking[:8])}: expected one for each of {len(self.agents)}")
        taken = {agent: element(self.action_spaces[agent], actions[agent], f" for {agent}") for agent in self.agents}
        bidders = self._bidders(auction)
        self._env.rebid({agent: bid_of(self.world, auction, agent, taken[agent]) for agent in bidders})
        following, _, terminated, truncated, info = self._env.step(self._mechanism)
        transition = info.pop("transition")
        utilities = {agent: utility(transition, agent, self._expected) for agent in bidders}
        acted = self.agents
        if terminated or truncated:
            self.agents = []
        gains = {agent: utilities.get(agent, 0.0) for agent in acted}
        return (
            self._views(following, acted),
            {agent: 0.0 if gain is None else float(gain) for agent, gain in gains.items()},
            dict.fromkeys(acted, terminated),
            dict.fromkeys(acted, truncated),
            {agent: {**info, "known": gain is not None} for agent, gain in gains.items()},
        )

    def render(self) -> str | None:
        """The last turn as text if render_mode is "ansi"."""
        return self._env.render()

    def close(self) -> None:
        """Releases the world."""
        self.agents = []
        self._env.close()

    def _bidders(self, auction: Auction) -> list[str]:
        candidates = {bid.ad.id for bid in auction.bids}
        return [agent for agent in self.possible_agents if agent in candidates]

    def _views(self, auction: Auction, agents: Sequence[str] | None = None) -> dict[str, Numbers]:
        """The observations; arrays that are equal for several agents are one array each, which is read-only."""
        bidders = set(self._bidders(auction))
        common = {
            "query": vector(self.world, auction.query.text),
            "turn": np.array([auction.turn / self.world.horizon], dtype=np.float32),
        }
        outside: Numbers = {"in": np.zeros(1, np.float32), "own": np.zeros(OWN.shape, np.float32), **common}
        for array in outside.values():
            array.flags.writeable = False
        inside = np.ones(1, np.float32)
        return {
            agent: {"in": inside, "own": own_numbers(self.world, auction, agent), **common}
            if agent in bidders
            else dict(outside)
            for agent in (self.agents if agents is None else agents)
        }
