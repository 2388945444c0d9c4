"""Conversations: a session under way with one mechanism. Environments and runs answer sessions turn by turn here."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from simenv.errors import InputError, UnknownName
from simenv.market.bidders import Bidder
from simenv.mechanism import Mechanism
from simenv.records import Auction, Outcome, Transition
from simenv.sessions import BegunMechanism, SessionMechanism, SessionStart, SoFar
from simenv.world import Session, World


class Conversation:
    """One session with one mechanism and its bidders.

    Where the world's turns are linked it holds the bids that were made for the session, and what happened so far. Where
    they are apart it holds nothing.

    Args:
        world: The world.
        session: The session.
        bidder: The bidders of the mechanism; the world's by default. In linked turns they bid once, before the first.
    """

    def __init__(self, world: World, session: Session, bidder: Bidder | None = None) -> None:
        self.session = session
        self._world = world
        self._bidder = bidder
        self._known_start: SessionStart | None = None
        self._so_far = SoFar()
        self._turn = 0
        self._moved = asyncio.Event()
        self._begun: tuple[Mechanism, BegunMechanism] | None = None

    @property
    def start(self) -> SessionStart | None:
        """What a session mechanism knows before the first turn; None where turns are apart.

        Raises:
            InputError: a bid is negative or not finite.
        """
        if self._known_start is None and self._world.linked:
            self._known_start = self._world.start(self.session, self._bidder)
        return self._known_start

    async def reached(self, turn: int) -> None:
        """Waits until the turns before this one are answered; where turns are apart nothing is waited for."""
        while self._world.linked and self._turn < turn:
            await self._moved.wait()

    def auction(self, turn: int) -> Auction:
        """The auction of a turn; where turns are linked that of the turn that was reached."""
        start = self.start
        if start is None:
            return self._world.auction(self.session, turn, self._bidder)
        asked = start.numbers(question.text for question in self.session.questions[: turn + 1])
        return start.auction(asked, self._so_far)

    async def answering(self, action: Mechanism | Outcome, turn: int) -> Mechanism | Outcome:
        """What answers a turn: the action itself, or of a session mechanism what it has for this session.

        It begins in the answer to turn 0, whose usage has its calls. If it begins later, as in a resumed run, it begins
        here, so that no answer counts these calls a second time.
        """
        start = self.start
        if start is None or not isinstance(action, SessionMechanism):
            return action
        if self._begun is None or self._begun[0] is not action:
            self._begun = action, BegunMechanism(action, start)
        if turn > 0:
            await self._begun[1].begin()
        return self._begun[1]

    def add(self, transition: Transition) -> None:
        """Takes the next turn that was answered, or failed."""
        if not self._world.linked:
            return
        self._so_far = self._so_far.after(transition.auction, transition.outcome)
        self._turn += 1
        self._moved.set()
        self._moved = asyncio.Event()

    def rebid(self, amounts: Mapping[str, float]) -> None:
        """Replaces bids of the session before its first answer, for bidders outside the world.

        Args:
            amounts: Ad id -> currency per click, for ads that are candidates for one of the session's questions.

        Raises:
            UnknownName: an ad is no candidate for any of them.
            InputError: turns are apart, or the first turn is answered.
        """
        start = self.start
        if start is None or self._turn > 0:
            raise InputError(
                f"session {self.session.id}: bids hold for a whole session once its first turn is answered"
            )
        known = start.bids
        for ad_id in amounts:
            if ad_id not in known:
                raise UnknownName("candidate ad of the session", ad_id, known)
        self._known_start, self._begun = start.with_bids(amounts), None
