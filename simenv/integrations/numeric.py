"""Gymnasium environments of numbers: boxes, masks and discrete choices, for libraries that know no records.

    env = gymnasium.make("simenv/Allocation-v0")   # the platform chooses the ads of an answer
    env = gymnasium.make("simenv/Bidding-v0")      # an advertiser chooses its bid

Both play the sessions of `simenv/NativeAds-v0`. A step is one auction, an episode one persona's session. Money in
observations is in units of `simenv.market.values.HIGHEST`, the highest bid of the paper; rewards are in currency.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from simenv.env.environment import NativeAdsEnv
from simenv.errors import InputError, UnknownName
from simenv.integrations.views import (
    BID,
    LARGEST,
    OWN,
    Numbers,
    bid_of,
    element,
    money,
    own_numbers,
    refuse_linked,
    seller,
    utility,
    vector,
)
from simenv.llm import LLM, make_llm
from simenv.markup import outcome
from simenv.mechanism import Mechanism
from simenv.records import Auction, Outcome, Transition, Unit
from simenv.seeding import keyed_rng
from simenv.world import World
from simenv.writer.writer import Writer

A = TypeVar("A")


class _NumericEnv(gymnasium.Env[dict[str, Any], A], Generic[A]):
    """What both environments share: sessions, the vectors of texts, and the way a reward is read.

    Rewards are expectations over the judge's click probabilities where it gives them for all ads of an answer, else
    what happened. Where the judge abstained the reward is 0 and `info["known"]` is False: leave such a step out.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(
        self,
        world: World | None,
        reward: str,
        sessions: int | None,
        render_mode: str | None,
        options: dict[str, Any],
    ) -> None:
        if reward not in ("expected", "realised"):
            raise UnknownName("reward", reward, ["expected", "realised"])
        if sessions is not None and (isinstance(sessions, bool) or not isinstance(sessions, int) or sessions < 1):
            raise InputError(f"sessions must be a whole number of at least 1, or None, got {sessions!r}")
        self._sessions, self._next = sessions, 0
        self._env = NativeAdsEnv(world, render_mode=render_mode, **options)
        self.render_mode = render_mode
        self._expected = reward == "expected"
        if not self.world.retriever.n:
            raise InputError("there are no candidates: candidates must be at least 1")
        self._width = vector(self.world, "").shape[0]

    @property
    def world(self) -> World:
        """Personas, market and judge."""
        return self._env.world

    @property
    def last_transition(self) -> Transition | None:
        """The last turn of this session, with everything that the numbers leave out."""
        return self._env.last_transition

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Numbers, dict[str, Any]]:
        """Starts a session; arguments and errors are those of `NativeAdsEnv.reset`."""
        super().reset(seed=seed)
        if self._sessions is not None:
            following = 0 if seed is not None else self._next % self._sessions
            options = {"session": following, **(options or {})}
        auction, info = self._env.reset(seed=seed, options=options)
        self._next = (options or {}).get("session", 0) + 1
        return self._view(auction), info

    def step(self, action: A) -> tuple[Numbers, float, bool, bool, dict[str, Any]]:
        """Answers the current auction; `info` has the session, the turn and whether the reward is `known`."""
        mechanism = self._act(element(self.action_space, action))
        auction, _, terminated, truncated, info = self._env.step(mechanism)
        transition = info.pop("transition")
        reward = self._reward(transition)
        info["known"] = reward is not None
        return self._view(auction), 0.0 if reward is None else float(reward), terminated, truncated, info

    def render(self) -> str | None:
        return self._env.render()

    def close(self) -> None:
        self._env.close()
        super().close()

    def _texts(self, auction: Auction) -> Numbers:
        return {
            "query": vector(self.world, auction.query.text),
            "turn": np.array([auction.turn / self.world.horizon], dtype=np.float32),
        }

    def _text_spaces(self) -> dict[str, spaces.Space[Any]]:
        return {"query": spaces.Box(-1, 1, (self._width,)), "turn": spaces.Box(0, 1, (1,))}

    @abstractmethod
    def _act(self, action: A) -> Mechanism:
        """What answers the current auction."""

    @abstractmethod
    def _view(self, auction: Auction) -> Numbers:
        """The observation."""

    @abstractmethod
    def _reward(self, transition: Transition) -> float | None:
        """Currency; None: unknown."""


class AllocationEnv(_NumericEnv[npt.NDArray[Any]]):
    """The platform's choice of ads: `gymnasium.make("simenv/Allocation-v0", ...)`.

    The chosen ads are written below the answer in the order of the choice, and each pays its bid per click. With k
    candidates, s = `max_ads` and d the dimension of the encoder:

    - Observation: `candidates` (k, 2), bid and relevance, most relevant first; `mask` (k,), 1 where an ad may be shown;
      `query` (d,) and `profile` (d,), unit vectors of the texts; `turn` (1,), the share of the session that is over.
    - Action "slots": `MultiDiscrete([k + 1] * s)`, for each place 0 = no ad or the number of a candidate from 1 on. An
      ad chosen twice is shown once; one whose mask is 0 is not shown. `action_masks()` is what MaskablePPO of
      sb3-contrib reads.
    - Action "scores": `Box(-1, 1, (k,))`; at most s ads with positive scores are shown, the highest first.
    - Reward: the platform's objective, sum of bid x click - penalty.

    Args:
        world: A world; the options are then not allowed.
        llm: Writes the texts, or its name. The scripted model writes hundreds of answers per second.
        action: "slots" or "scores".
        reward: "expected" over click probabilities where the judge gives them, or "realised".
        sessions: After this many sessions a run begins again: a fixed set of auctions, whose texts are known from the
            second time on. None: a run has no end.
        render_mode: "ansi" or None.
        **options: Passed to `simenv.make_world`.

    Raises:
        InputError: an option is unknown or wrong, or there is nothing to choose.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        llm: str | LLM = "scripted",
        action: str = "slots",
        reward: str = "expected",
        sessions: int | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(world, reward, sessions, render_mode, options)
        self._writer = Writer(make_llm(llm) if isinstance(llm, str) else llm)
        self.slots, count = self.world.max_ads, self.world.retriever.n
        if not self.slots:
            raise InputError("there is nothing to choose: max_ads must be at least 1")
        self.observation_space = spaces.Dict(
            {
                "candidates": spaces.Box(
                    np.tile(np.array([0, -1.001], np.float32), (count, 1)),
                    np.tile(np.array([LARGEST, 1.001], np.float32), (count, 1)),
                ),
                "mask": spaces.Box(0, 1, (count,)),
                "profile": spaces.Box(-1, 1, (self._width,)),
                **self._text_spaces(),
            }
        )
        if action == "slots":
            self.action_space = spaces.MultiDiscrete([count + 1] * self.slots)
        elif action == "scores":
            self.action_space = spaces.Box(-1, 1, (count,))
        else:
            raise UnknownName("action", action, ["slots", "scores"])

    def action_masks(self) -> npt.NDArray[np.bool_]:
        """Which number may be chosen for each place: shape (slots x (k + 1),). No ad is always allowed."""
        allowed = np.concatenate([[True], self._mask(self._current()).astype(bool)])
        return np.tile(allowed, self.slots)

    def _current(self) -> Auction:
        if self._env.auction is None:
            raise InputError("no session: call reset first")
        return self._env.auction

    def _mask(self, auction: Auction) -> npt.NDArray[np.float32]:
        mask = np.zeros(self.world.retriever.n, np.float32)
        for place, bid in enumerate(auction.bids):
            mask[place] = auction.admits(bid)
        return mask

    def _view(self, auction: Auction) -> Numbers:
        candidates = np.zeros((self.world.retriever.n, 2), np.float32)
        for place, bid in enumerate(auction.bids):
            candidates[place] = money(bid.amount), bid.relevance
        profile = vector(self.world, auction.profile)
        return {"candidates": candidates, "mask": self._mask(auction), "profile": profile, **self._texts(auction)}

    def _act(self, action: npt.NDArray[Any]) -> Mechanism:
        if isinstance(self.action_space, spaces.Box):
            order = np.argsort(-action, kind="stable")
            wished = [int(place) for place in order if action[place] > 0]
        else:
            wished = [int(number) - 1 for number in action if number]
        mask = self._mask(self._current())
        return _Chosen(self._writer, [place for place in dict.fromkeys(wished) if mask[place]][: self.slots])

    def _reward(self, transition: Transition) -> float | None:
        if self._expected and transition.expected_reward is not None:
            return transition.expected_reward
        return transition.reward


class _Chosen:
    """Shows the candidates at these places; each pays its bid."""

    name = "allocation"
    units: frozenset[Unit] = frozenset({"click", "view"})

    def __init__(self, writer: Writer, places: Sequence[int]) -> None:
        self._writer = writer
        self._places = places

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        bids = [auction.bids[place] for place in self._places]
        text = await self._writer.with_ads(auction, [bid.ad for bid in bids])
        return outcome(auction, text, {bid.ad.id: bid.amount for bid in bids})


class BiddingEnv(_NumericEnv[npt.NDArray[np.float32]]):
    """An advertiser's bid: `gymnasium.make("simenv/Bidding-v0", ...)`.

    In each auction the agent bids for one of the candidates, drawn by a key of the auction, so what it learns is a rule
    for any advertiser. The others bid as the world's `bidder` does. It sees no bid of another and nothing of the user.

    - Observation: `own` (4,), the value per click, the relevance of the own ad to the query, its place among the
      candidates and their number, both as shares of the largest number; `query` (d,), its unit vector; `turn` (1,).
    - Action: `Box(-1, 1, (1,))`; the bid is (1 + action) x value, so 0 bids the value.
    - Reward: the advertiser's utility, value x click - payment.

    Args:
        world: A world; the options are then not allowed.
        mechanism: The mechanism that sells, or its name.
        llm: Writes its texts if it is given by name.
        reward: "expected" over click probabilities where the judge gives them, or "realised".
        sessions: After this many sessions a run begins again: a fixed set of auctions, whose texts are known from the
            second time on. None: a run has no end.
        render_mode: "ansi" or None.
        **options: Passed to `simenv.make_world`.

    Raises:
        InputError: an option is unknown or wrong, or there are no candidates.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        mechanism: str | Mechanism = "first_price",
        llm: str | LLM = "scripted",
        reward: str = "expected",
        sessions: int | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(world, reward, sessions, render_mode, options)
        refuse_linked(self.world, "the agent bids at each turn")
        self._mechanism = seller(mechanism, llm)
        self.observation_space = spaces.Dict({"own": OWN, **self._text_spaces()})
        self.action_space = copy.deepcopy(BID)  # a space has a generator of its own

    def _ad_id(self, auction: Auction) -> str:
        return auction.bids[int(keyed_rng("numeric bidder", auction.id).integers(len(auction.bids)))].ad.id

    def _view(self, auction: Auction) -> Numbers:
        return {"own": own_numbers(self.world, auction, self._ad_id(auction)), **self._texts(auction)}

    def _act(self, action: npt.NDArray[np.float32]) -> Mechanism:
        auction = self._env.auction
        if auction is None:
            raise InputError("no session: call reset first")
        ad_id = self._ad_id(auction)
        self._env.rebid({ad_id: bid_of(self.world, auction, ad_id, action)})
        return self._mechanism

    def _reward(self, transition: Transition) -> float | None:
        return utility(transition, self._ad_id(transition.auction), self._expected)
