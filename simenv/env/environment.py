"""The Gymnasium environment: one episode is one persona's session, one step is one auction."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import gymnasium
import numpy as np

from simenv.abilities import Observer
from simenv.background_loop import run_sync
from simenv.conversation import Conversation
from simenv.env.spaces import AuctionSpace, OutcomeSpace
from simenv.errors import InputError
from simenv.mechanism import Mechanism
from simenv.records import Auction, Outcome, Transition
from simenv.text import printable
from simenv.world import World
from simenv.world_factory import WORLD_OPTIONS, make_world

T = TypeVar("T")


class NativeAdsEnv(gymnasium.Env[Auction, Outcome | Mechanism]):
    """Environment of ads in the answers of an assistant: `gymnasium.make("simenv/NativeAds-v0", ...)`.

    Observation: the `Auction` to answer. Action: an `Outcome`, or a `Mechanism` that is run on the auction. Reward:
    the platform's objective with the clicks that happened, in currency; NaN if the judge abstained on a shown ad
    (`info["transition"].reward` is then None). `terminated` when the session's last query is answered; the last
    auction is then observed again. `truncated` is always False.

    A mechanism or bidder with `observe` receives each transition. If one of them raises there, or a bidder raises at
    the next auction, the answer counts (`last_transition`) and the session ends: call `reset`. A step that fails before
    leaves everything as it was.

    `reset(seed=s)` starts run s at session 0; `reset()` starts the next session. `transition.index` is the position
    of the auction in run s, as `simenv.runs.rollout` counts: session x horizon + turn. Two mechanisms that are stepped
    through the same sessions of a run can be compared auction by auction with `simenv.runs.summary.summarize`.

    Args:
        world: A world; the options are then not allowed.
        render_mode: "ansi" for a readable transcript of the last turn.
        **options: Passed to `simenv.make_world`: catalog, personas, user_llm, judge, candidates, horizon, ...
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (Gymnasium declares it so)

    def __init__(self, world: World | None = None, render_mode: str | None = None, **options: Any) -> None:
        if world is not None and options:
            raise InputError(f"a world is given already, so {', '.join(options)} cannot be set here")
        if render_mode not in (None, "ansi"):
            raise InputError(f"render_mode {render_mode!r} is not known: expected None or 'ansi'")
        if unknown := sorted(set(options) - set(WORLD_OPTIONS)):
            raise InputError(f"unknown option {', '.join(unknown)}: known are {', '.join(WORLD_OPTIONS)}, world")
        self._world: World | None = world or make_world(**options)
        self.render_mode = render_mode
        self.observation_space = AuctionSpace()
        self.action_space = OutcomeSpace()
        self._bidder = copy.deepcopy(self.world.bidder)
        self._part, self._parts = 0, 1
        """Number of this environment and number of all, in a vector environment: part of the transition index."""
        self._seed: int | None = None
        self._next_session = 0
        self._number = 0
        self._conversation: Conversation | None = None
        self._turn = 0
        self._auction: Auction | None = None
        self._last: Transition | None = None
        self._attempt: object | None = None
        """The step or reset under way."""

    @property
    def world(self) -> World:
        """Personas, market and judge.

        Raises:
            InputError: the environment is closed.
        """
        if self._world is None:
            raise InputError("the environment is closed: make another one")
        return self._world

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Auction, dict[str, Any]]:
        """Starts a session.

        Args:
            seed: Seed of the run; it determines personas' order, values, bids and clicks. None: continue this run.
            options: {"persona": id} to choose the persona, {"session": number} to choose the session.

        Raises:
            InputError: an unknown option or persona, a seed or session that is no whole number of at least 0, or the
                environment is closed. The session under way then goes on.
        """
        return self._waiting(partial(self.start, seed=seed, options=options))

    async def start(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Auction, dict[str, Any]]:
        """`reset` for asynchronous callers."""
        world, attempt = self.world, self._begin()
        seed, options = seed_of(seed), dict(options or {})
        if unknown := set(options) - {"persona", "session"}:
            raise InputError(f"unknown reset options {sorted(unknown)}: known are persona, session")
        super().reset(seed=seed)
        if seed is not None or self._seed is None:
            run, following = (seed if seed is not None else int(self.np_random.integers(2**31))), 0
            bidder = copy.deepcopy(world.bidder)  # a new run: learning bidders are reset
        else:
            run, following, bidder = self._seed, self._next_session, self._bidder
        number = _session_number(options.get("session", following))
        session = await world.session(run, number, options.get("persona"))
        conversation = Conversation(world, session, bidder)
        auction = conversation.auction(0)
        self._end(attempt)
        self._seed, self._bidder = run, bidder
        self._conversation, self._number, self._next_session = conversation, number, number + 1
        self._turn, self._last, self._auction = 0, None, auction
        return auction, {"session": session.id, "turn": 0}

    def step(self, action: Outcome | Mechanism) -> tuple[Auction, float, bool, bool, dict[str, Any]]:
        """Answers the current auction.

        Returns:
            The next auction, the reward, terminated, truncated, and info with the full `transition`.

        Raises:
            OutcomeError: the outcome breaks the rules of the auction.
            InputError: the action is neither an Outcome nor a Mechanism, the session is over, or `close` was called.
            SimenvError: the mechanism or the judge raised it. The auction can then be answered again.
        """
        return self._waiting(partial(self.advance, action))

    async def advance(self, action: Outcome | Mechanism) -> tuple[Auction, float, bool, bool, dict[str, Any]]:
        """`step` for asynchronous callers."""
        conversation, auction = self.check(action)
        world, session, attempt = self.world, conversation.session, self._begin()
        place = self._number * world.horizon + self._turn
        index = place * self._parts + self._part
        answering = await conversation.answering(action, self._turn)
        transition = await world.step(session, self._turn, answering, index=index, auction=auction)
        self._end(attempt)
        conversation.add(transition)
        self._last = transition
        self._turn += 1
        terminated = self._turn >= len(session.questions)
        try:
            for learner in (self._bidder, action):
                if isinstance(learner, Observer):
                    learner.observe(transition)
            if not terminated:
                self._auction = auction = conversation.auction(self._turn)
        except BaseException:
            self._conversation = None  # some have learned from it, some have not: it cannot be answered again
            raise
        reward = float("nan") if transition.reward is None else transition.reward
        info = {"transition": transition, "session": session.id, "turn": self._turn}
        return auction, reward, terminated, False, info

    def rebid(self, amounts: Mapping[str, float]) -> Auction:
        """Replaces bids on the auction that the next `step` answers, for bidders outside the world.

        Args:
            amounts: A candidate's ad id -> currency per click, or per view as it bids. The other candidates keep their
                bids. Where turns are linked the bids hold for the session, and any ad that is a candidate in it may be
                named.

        Returns:
            The auction with these bids.

        Raises:
            UnknownName: an ad is no candidate.
            InputError: a bid is negative or not finite, there is no auction to answer, or turns are linked and the
                session's first turn is answered.
        """
        conversation, auction = self._open()
        for ad_id, amount in amounts.items():
            if not 0 <= amount < math.inf:
                raise InputError(f"a bid must be a finite number of at least 0, got {amount} for {ad_id}")
        if conversation.start is not None:
            conversation.rebid(amounts)
            self._auction = conversation.auction(self._turn)
            return self._auction
        for ad_id in amounts:
            auction.bid_of(ad_id)
        bids = [bid.model_copy(update={"amount": float(amounts.get(bid.ad.id, bid.amount))}) for bid in auction.bids]
        self._auction = auction.model_copy(update={"bids": tuple(bids)})
        return self._auction

    def check(self, action: Outcome | Mechanism) -> tuple[Conversation, Auction]:
        """Whether `step` can take the action now. Returns the conversation and the auction to answer.

        Raises:
            OutcomeError, InputError: as `step`.
        """
        conversation, auction = self._open()
        if not self.action_space.contains(action):
            hint = "await it first" if inspect.isawaitable(action) else None
            raise InputError(f"cannot step with {type(action).__name__}: expected an Outcome or a Mechanism", hint=hint)
        if isinstance(action, Outcome):
            self.world.verify(action, auction)
        return conversation, auction

    def _open(self) -> tuple[Conversation, Auction]:
        """The conversation and the auction to answer."""
        _ = self.world  # raises if the environment is closed
        if self._conversation is None or self._auction is None:
            raise InputError("no session: call reset first")
        if self.over:
            raise InputError(f"session {self._conversation.session.id} is over: call reset")
        return self._conversation, self._auction

    @property
    def auction(self) -> Auction | None:
        """The last observation; None before the first reset."""
        return self._auction

    @property
    def over(self) -> bool:
        """Whether the session's last query is answered."""
        conversation = self._conversation
        return conversation is not None and self._turn >= len(conversation.session.questions)

    @property
    def last_transition(self) -> Transition | None:
        """The last turn of this session, for instance after an interrupted step of a vector environment."""
        return self._last

    def forget(self) -> None:
        """Drops what a step or reset that was interrupted may still come to: it does not move the environment."""
        self._attempt = None

    def _waiting(self, function: Callable[[], Awaitable[T]]) -> T:
        try:
            return run_sync(function)
        except BaseException:
            self.forget()
            raise

    def _begin(self) -> object:
        self._attempt = attempt = object()
        return attempt

    def _end(self, attempt: object) -> None:
        if self._attempt is not attempt:
            raise InputError("this step or reset was given up, or another one has begun since")

    def render(self) -> str | None:
        """Returns the last turn as text if render_mode is "ansi"."""
        if self.render_mode is None:
            gymnasium.logger.warn('render needs a render_mode: make the environment with render_mode="ansi"')
            return None
        return transcript(self._last) if self._last else "(nothing answered yet)"

    def close(self) -> None:
        """Releases the world; further calls do nothing. A world that was passed in is not changed."""
        self._world = self._conversation = None
        super().close()


def seed_of(seed: Any) -> int | None:
    """The seed as a Python integer.

    Raises:
        InputError: it is no whole number of at least 0.
    """
    if seed is None:
        return None
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise InputError(f"seed must be a whole number of at least 0, or None, got {seed!r}")
    return int(seed)


def _session_number(number: Any) -> int:
    if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
        raise InputError(f"the reset option session must be a whole number of at least 0, got {number!r}")
    return int(number)


def transcript(transition: Transition) -> str:
    """Formats a turn as readable text. Control characters of ads, users and judges are shown as escapes."""
    clicks = {click.ad_id: click for click in transition.feedback.clicks}
    lines = [_line(f"User ({transition.persona_id}): {transition.auction.query.text}")]
    lines.extend(_offered(transition))
    lines.append(printable(f"Assistant ({transition.mechanism}): {transition.outcome.response}"))
    for placement in transition.outcome.placements:
        click = clicks[placement.ad_id]
        verdict = {True: "clicked", False: "not clicked", None: "no verdict"}[click.clicked]
        chance = f", probability {click.click_prob:.2f}" if click.click_prob is not None else ""
        reason = f" ({_line(click.reason)})" if click.reason else ""
        bid = transition.auction.bid_of(placement.ad_id)
        money = f"bid {bid.amount:g}, price {placement.price:.2f} per click"
        if bid.unit == "view":
            paid = transition.outcome.transfers.get(placement.ad_id, 0.0)
            money = f"bid {bid.amount:g} per view, price {paid:.2f} per view"
        lines.append(f"  [{placement.ad_id}] {money}: {verdict}{chance}{reason}")
    note = transition.outcome.note
    lines.extend([f"  note: {_line(note)}"] if note else [])
    lines.extend(f"  violation: {violation.kind} {violation.text!r}" for violation in transition.outcome.violations)
    lines.extend(f"  overcharge: {it.kind} {it.ad_id}, {it.excess:.2f} too much" for it in transition.overcharges)
    return "\n".join(lines)


def _offered(transition: Transition) -> list[str]:
    """The follow-up questions, the chosen one marked."""
    choice, lines = transition.feedback.choice, []
    for place, question in enumerate(transition.outcome.suggestions):
        mark = "*" if place == transition.outcome.chosen else "-"
        label = f" (sponsored by {question.ad_id}, {question.price or 0:.2f} per click)" if question.ad_id else ""
        probs = [
            ("predicted", question.prob),
            ("probability", choice.probs[place] if choice and choice.probs else None),
        ]
        chances = "".join(f", {name} {prob:.2f}" for name, prob in probs if prob is not None)
        lines.append("  " + _line(f"{mark} {question.text}{label}{chances}"))
    return lines


def _line(text: str) -> str:
    return printable(" ".join(text.split()))
