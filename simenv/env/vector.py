"""Vector environment: the calls of all mechanisms run together, so that language models answer in batches.

Gymnasium's default steps its environments one by one; `gymnasium.make_vec("simenv/NativeAds-v0", num_envs=32)` returns
this class instead. Each part equals a single environment with its seed, except for `transition.index`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from simenv.background_loop import gather, run_sync
from simenv.env.environment import NativeAdsEnv
from simenv.errors import InputError
from simenv.mechanism import Mechanism
from simenv.records import Auction, Outcome
from simenv.world import World

Observations = tuple[Auction, ...]
Array = npt.NDArray[Any]


class NativeAdsVectorEnv(VectorEnv[Observations, Sequence[Outcome | Mechanism], Array]):
    """`num_envs` sessions side by side in one world.

    Observations are a tuple of Auctions; rewards (float64), terminations and truncations (bool) are arrays of shape
    (num_envs,). `step` takes one Outcome or Mechanism for each part, or one Mechanism for all. Infos are dictionaries
    of object arrays with Gymnasium's masks: `infos["transition"][i]` where `infos["_transition"][i]`.

    Autoreset is Gymnasium's NEXT_STEP: the step after the end of a part's session starts its next session and ignores
    the action for that part. Its reward is then 0, its observation the new session's first auction, and there is no
    transition: `infos["_transition"][i]` is False, and both keys are missing where no part has one.

    `reset(seed=s)` seeds part i with s + i, as Gymnasium does; a list has one seed per part.

    Parts with different seeds have different auctions, so their indices differ: auction k of a single environment has
    the index k x num_envs + i in part i. `simenv.runs.summary.summarize` therefore accepts the transitions of all parts
    together.

    Args:
        num_envs: Number of parts.
        world, options: As for `NativeAdsEnv`; all parts share one world.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, world: World | None = None, **options: Any) -> None:
        if num_envs < 1:
            raise InputError(f"num_envs must be at least 1, got {num_envs}")
        self.num_envs = num_envs
        first = NativeAdsEnv(world, **options)
        self.envs = [first, *(NativeAdsEnv(first.world) for _ in range(num_envs - 1))]
        for i, env in enumerate(self.envs):
            env._part, env._parts = i, num_envs
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._over = np.zeros(num_envs, dtype=bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts a session in every part.

        Raises:
            InputError: the list of seeds does not have length num_envs, or the environment is closed.
        """
        if seed is None or isinstance(seed, int | np.integer):
            seeds = [None if seed is None else int(seed) + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        if len(seeds) != self.num_envs:
            raise InputError(f"got {len(seeds)} seeds for {self.num_envs} environments")
        results = run_sync(gather, [e.start(seed=s, options=options) for e, s in zip(self.envs, seeds, strict=True)])
        self._over[:] = False
        infos: dict[str, Any] = {}
        for i, (_, info) in enumerate(results):
            infos = self._add_info(infos, info, i)
        return tuple(auction for auction, _ in results), infos

    def step(
        self, actions: Sequence[Outcome | Mechanism] | Mechanism
    ) -> tuple[Observations, Array, Array, Array, dict[str, Any]]:
        """Answers all current auctions together.

        Raises:
            InputError: not one action for each part, or the environment is closed.
            OutcomeError: an outcome breaks the rules of its auction.
        """
        chosen = [actions] * self.num_envs if isinstance(actions, Mechanism) else list(actions)
        if len(chosen) != self.num_envs:
            raise InputError(f"got {len(chosen)} actions for {self.num_envs} environments")
        results = run_sync(gather, [self._advance(i, action) for i, action in enumerate(chosen)])
        infos: dict[str, Any] = {}
        for i, result in enumerate(results):
            infos = self._add_info(infos, result[4], i)
        self._over = np.array([result[2] for result in results], dtype=bool)
        rewards = np.array([result[1] for result in results], dtype=np.float64)
        truncations = np.array([result[3] for result in results], dtype=bool)
        return tuple(result[0] for result in results), rewards, self._over.copy(), truncations, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Closes all parts; called by `close`."""
        for env in self.envs:
            env.close()

    async def _advance(self, i: int, action: Outcome | Mechanism) -> tuple[Auction, float, bool, bool, dict[str, Any]]:
        if self._over[i]:
            auction, info = await self.envs[i].start()
            return auction, 0.0, False, False, info
        return await self.envs[i].advance(action)
