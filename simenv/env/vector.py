"""Vector environment: the calls of all mechanisms run together, so that language models answer in batches.

Gymnasium's default steps its environments one by one; `gymnasium.make_vec("simenv/NativeAds-v0", num_envs=32)` returns
this class instead. Each part equals a single environment with its seed, except for `transition.index`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from simenv.background_loop import gather, run_sync
from simenv.env.environment import NativeAdsEnv, seed_of
from simenv.errors import InputError, PartsFailed
from simenv.mechanism import Mechanism
from simenv.records import Auction, Outcome
from simenv.world import World

Observations = tuple[Auction, ...]
Array = npt.NDArray[Any]
T = TypeVar("T")


class NativeAdsVectorEnv(VectorEnv[Observations, Sequence[Outcome | Mechanism], Array]):
    """`num_envs` sessions side by side in one world.

    Observations are a tuple of Auctions; rewards (float64), terminations and truncations (bool) are arrays of shape
    (num_envs,). `step` takes one Outcome or Mechanism for each part, or one Mechanism for all. Infos are dictionaries
    of object arrays with Gymnasium's masks: `infos["transition"][i]` where `infos["_transition"][i]`.

    `autoreset_mode` is one of Gymnasium's:

    - NEXT_STEP (default): the step after the end of a part's session starts its next session and ignores the action for
      that part. Its reward is then 0, its observation the new session's first auction, and there is no transition:
      `infos["_transition"][i]` is False, and both keys are missing where no part has one.
    - SAME_STEP: the step that ends a session starts the next one too. Its observation is the new session's first
      auction; the last one is in `infos["final_obs"]`, and the step's own infos are in `infos["final_info"]`.
      `infos["transition"]` has the step's transition.
    - DISABLED: the caller resets with `options={"reset_mask": mask}`, a bool array that is True for the parts to reset.

    All actions are checked before any part moves. If a part raises later, the others move on, and `step` raises
    `simenv.errors.PartsFailed`, whose `result` is what `step` would have returned; a part that raised stays where it
    was. After an interrupt (Ctrl-C) `get_attr("last_transition")` has what each part answered last.

    `reset(seed=s)` seeds part i with s + i, as Gymnasium does; a list has one seed per part.

    Parts with different seeds have different auctions, so their indices differ: auction k of a single environment has
    the index k x num_envs + i in part i. `simenv.runs.summary.summarize` therefore accepts the transitions of all parts
    together.

    Args:
        num_envs: Number of parts.
        world, options: As for `NativeAdsEnv`; all parts share one world.
        autoreset_mode: What happens to a part whose session is over.
    """

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int = 1,
        world: World | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **options: Any,
    ) -> None:
        if num_envs < 1:
            raise InputError(f"num_envs must be at least 1, got {num_envs}")
        try:
            self._mode = AutoresetMode(autoreset_mode)
        except ValueError:
            known = ", ".join(mode.value for mode in AutoresetMode)
            raise InputError(f"unknown autoreset_mode {autoreset_mode!r}: known are {known}") from None
        self.metadata = {**self.metadata, "autoreset_mode": self._mode}
        self.num_envs = num_envs
        first = NativeAdsEnv(world, **options)
        self.envs = [first, *(NativeAdsEnv(first.world) for _ in range(num_envs - 1))]
        for i, env in enumerate(self.envs):
            env._part, env._parts = i, num_envs
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, dict[str, Any]]:
        """Starts a session in every part, or in those of `options["reset_mask"]`.

        Args:
            seed: Part i gets seed + i; a list has one seed for each part.
            options: Those of a single environment, and "reset_mask": bool array of shape (num_envs,).

        Raises:
            InputError: a list of seeds or a mask that does not have length num_envs, an option that a single
                environment refuses, or the environment is closed.
        """
        options = dict(options or {})
        chosen = self._mask(options.pop("reset_mask", None))
        if seed is None or isinstance(seed, int | np.integer):
            first = seed_of(seed)
            seeds: list[int | None] = [None if first is None else first + i for i in range(self.num_envs)]
        else:
            seeds = [seed_of(one) for one in seed]
        if len(seeds) != self.num_envs:
            raise InputError(f"got {len(seeds)} seeds for {self.num_envs} environments")
        jobs = [self.envs[i].start(seed=seeds[i], options=options) for i in chosen]
        results = self._waiting(partial(gather, jobs))
        infos: dict[str, Any] = {}
        for i, (_, info) in zip(chosen, results, strict=True):
            infos = self._add_info(infos, info, i)
        return self._observations(), infos

    def step(
        self, actions: Sequence[Outcome | Mechanism] | Mechanism
    ) -> tuple[Observations, Array, Array, Array, dict[str, Any]]:
        """Answers all current auctions together.

        Raises:
            InputError: not one action for each part, an action that is neither an Outcome nor a Mechanism, a session
                that is over (autoreset disabled), or the environment is closed. No part has moved.
            OutcomeError: an outcome breaks the rules of its auction. No part has moved.
            PartsFailed: mechanisms or the judge raised for some parts. The others have moved.
        """
        chosen = [actions] * self.num_envs if isinstance(actions, Mechanism) else list(actions)
        if len(chosen) != self.num_envs:
            raise InputError(f"got {len(chosen)} actions for {self.num_envs} environments")
        for i, action in enumerate(chosen):
            self._check(i, action)
        done: dict[int, _Done] = {}
        errors: dict[int, Exception] = {}
        try:
            self._waiting(partial(gather, [self._advance(i, action, done, errors) for i, action in enumerate(chosen)]))
        except Exception as error:  # code that does not await was late, so that the parts after it did not end
            errors |= {i: error for i in range(self.num_envs) if i not in done and i not in errors}
        result = self._collected(done)
        if errors:
            raise PartsFailed(dict(sorted(errors.items())), result) from errors[min(errors)]
        return result

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Calls a method of every part, or reads an attribute: one result for each part."""
        found = [getattr(env, name) for env in self.envs]
        return tuple(it(*args, **kwargs) if callable(it) else it for it in found)

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """Reads an attribute of every part."""
        return tuple(getattr(env, name) for env in self.envs)

    def set_attr(self, name: str, values: list[Any] | tuple[Any, ...] | Any) -> None:
        """Sets an attribute of every part: one value for all, or a list or tuple with one for each.

        Raises:
            InputError: the list does not have length num_envs.
        """
        each = list(values) if isinstance(values, list | tuple) else [values] * self.num_envs
        if len(each) != self.num_envs:
            raise InputError(f"got {len(each)} values for {self.num_envs} environments")
        for env, value in zip(self.envs, each, strict=True):
            setattr(env, name, value)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes all parts; called by `close`."""
        for env in self.envs:
            env.close()

    def _mask(self, mask: Any) -> list[int]:
        """The numbers of the parts to reset."""
        if mask is None:
            return list(range(self.num_envs))
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise InputError(f"reset_mask must be a bool array of shape ({self.num_envs},), got {mask!r}")
        if not mask.any():
            raise InputError("reset_mask must be True for at least one environment")
        if missing := [i for i in np.flatnonzero(~mask).tolist() if self.envs[i].auction is None]:
            raise InputError(f"environments {missing} have no session yet: call reset without reset_mask first")
        return [int(i) for i in np.flatnonzero(mask)]

    def _check(self, i: int, action: Outcome | Mechanism) -> None:
        if self.envs[i].over and self._mode == AutoresetMode.NEXT_STEP:
            return  # it is ignored
        try:
            self.envs[i].check(action)
        except InputError as error:
            error.add_note(f"in environment {i} of 0 to {self.num_envs - 1}; no environment has moved")
            raise

    async def _advance(
        self, i: int, action: Outcome | Mechanism, done: dict[int, _Done], errors: dict[int, Exception]
    ) -> None:
        env = self.envs[i]
        try:
            if env.over:
                _, info = await env.start()
                done[i] = _Done(0.0, False, info)
                return
            auction, reward, terminated, _, info = await env.advance(action)
            done[i] = _Done(reward, terminated, info)
            if terminated and self._mode == AutoresetMode.SAME_STEP:
                final = {"final_obs": auction, "final_info": info}
                _, first = await env.start()
                done[i] = _Done(reward, True, {**first, **final, "transition": info["transition"]})
        except Exception as error:
            errors[i] = error

    def _collected(self, done: Mapping[int, _Done]) -> tuple[Observations, Array, Array, Array, dict[str, Any]]:
        """What `step` returns. Parts that are not done keep their auction, and their reward is NaN."""
        rewards = np.full(self.num_envs, np.nan)
        terminations = np.zeros(self.num_envs, dtype=bool)
        infos: dict[str, Any] = {}
        for i, part in sorted(done.items()):
            rewards[i], terminations[i] = part.reward, part.terminated
            infos = self._add_info(infos, part.info, i)
        return self._observations(), rewards, terminations, np.zeros(self.num_envs, dtype=bool), infos

    def _observations(self) -> Observations:
        return tuple(env.auction for env in self.envs if env.auction is not None)

    def _waiting(self, function: Callable[[], Awaitable[T]]) -> T:
        try:
            return run_sync(function)
        except BaseException:
            for env in self.envs:
                env.forget()
            raise


class _Done(NamedTuple):
    """The step of one part."""

    reward: float
    terminated: bool
    info: dict[str, Any]
