"""Sessions whose turns are linked, and mechanisms that commit to bids for a whole session.

Where turns are apart, which is the default, every turn is an auction of its own: its values and bids are drawn for it,
and no turn depends on another. Where turns are linked,

- an advertiser has one value and one bid per click for the session, which holds at each of its turns;
- the session's questions are drawn uniformly, by key, so that what may be asked next is a known chain: from all frozen
  questions of the persona; where they are written for the session or come from a file, only their order is drawn;
- an auction has the session's horizon, its history (questions and answers so far) and the ads shown before;
- the turns of a session are answered one after another.

A `SessionMechanism` gets a `SessionStart` before the first turn: the bids, and every question that may come.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import permutations
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from simenv.errors import InputError, MechanismFailed, OutcomeError, SimenvError
from simenv.importing import reason
from simenv.mechanism import Mechanism, mechanism_name, units_of
from simenv.records import Ad, Auction, Bid, Exchange, Outcome, Record, ShownAd, Transition

TURNS = ("auto", "apart", "linked")
"""How the turns of a session may relate. auto: linked if a session mechanism runs or the judge remembers ads."""


class SoFar(NamedTuple):
    """What happened in a session before a turn."""

    history: tuple[Exchange, ...] = ()
    shown: tuple[ShownAd, ...] = ()

    def after(self, auction: Auction, outcome: Outcome) -> SoFar:
        """With one more turn."""
        exchange = Exchange(query=auction.query, response=outcome.response)
        shown = tuple(ShownAd(ad_id=it.ad_id, turn=len(self.history)) for it in outcome.placements)
        return SoFar((*self.history, exchange), (*self.shown, *shown))


class SessionStart(Record):
    """What a mechanism knows before the first turn of a session.

    The session's questions are drawn uniformly from `auctions`, without repetition: `after` has the probabilities.
    """

    id: str
    """The session."""
    auctions: tuple[Auction, ...]
    """One for each question that may be asked, in the order of their texts, which tells nothing of the session's own
    order: its query, its candidates, and their bids for the session. A turn's auction equals the one of its question
    except for id, turn, history and shown."""

    @property
    def horizon(self) -> int:
        """Number of turns."""
        return self.auctions[0].horizon or 1

    @property
    def ads(self) -> dict[str, Ad]:
        """Every ad that is a candidate for at least one of the questions: ad id -> ad."""
        return {bid.ad.id: bid.ad for auction in self.auctions for bid in auction.bids}

    @property
    def bids(self) -> dict[str, float]:
        """Their bids: ad id -> currency per click, the same at each turn."""
        return {bid.ad.id: bid.amount for auction in self.auctions for bid in auction.bids}

    def after(self, asked: Collection[int]) -> dict[int, float]:
        """What may be asked next: number of the question, as in `auctions`, -> probability.

        Args:
            asked: Numbers of the questions asked so far.

        Returns:
            Equal probabilities for all that were not asked; empty once the session is over.
        """
        left = [number for number in range(len(self.auctions)) if number not in asked]
        return {} if len(asked) >= self.horizon else dict.fromkeys(left, 1 / len(left))

    def orders(self) -> Iterator[tuple[int, ...]]:
        """Every order in which the questions may be asked; all are equally likely."""
        return permutations(range(len(self.auctions)), self.horizon)

    def asked(self, auction: Auction) -> tuple[int, ...]:
        """The numbers of the questions asked up to and including this turn, the present one last.

        Raises:
            InputError: it is no auction of this session.
        """
        return self.numbers([*(exchange.query.text for exchange in auction.history), auction.query.text])

    def numbers(self, texts: Iterable[str]) -> tuple[int, ...]:
        """The numbers of questions that were asked in this order.

        Raises:
            InputError: one that the session does not have, or has less often.
        """
        numbers: list[int] = []
        for text in texts:
            numbers.append(self._number(text, numbers))
        return tuple(numbers)

    def auction(self, asked: Sequence[int], so_far: SoFar | None = None) -> Auction:
        """The auction of a turn.

        Args:
            asked: Numbers of the questions asked up to and including this turn.
            so_far: What happened before it; None: nothing is known of it.
        """
        turn, so_far = len(asked) - 1, so_far or SoFar()
        return self.auctions[asked[-1]].model_copy(
            update={"id": f"{self.id}.{turn}", "turn": turn, "history": so_far.history, "shown": so_far.shown}
        )

    def with_bids(self, amounts: Mapping[str, float]) -> SessionStart:
        """The same session at other bids.

        Args:
            amounts: Ad id -> currency per click. Ads that it does not name keep their bids.
        """

        def changed(bid: Bid) -> Bid:
            amount = float(amounts.get(bid.ad.id, bid.amount))
            return bid if amount == bid.amount else bid.model_copy(update={"amount": amount})

        auctions = [it.model_copy(update={"bids": tuple(map(changed, it.bids))}) for it in self.auctions]
        return self.model_copy(update={"auctions": tuple(auctions)})

    def _number(self, text: str, taken: Collection[int]) -> int:
        for number, auction in enumerate(self.auctions):
            if number not in taken and auction.query.text == text:
                return number
        known = "; ".join(auction.query.text for auction in self.auctions)
        raise InputError(f"session {self.id} has no further question {text!r}: its questions are {known}")


def alone(auction: Auction) -> SessionStart:
    """An auction that is apart, as a session of one turn.

    Raises:
        InputError: it is a turn of a longer session, which a mechanism must begin.
    """
    if auction.horizon is not None and auction.horizon > 1:
        raise InputError(
            f"auction {auction.id} is a turn of a session of {auction.horizon}: begin the session, then run its turns",
            hint="environments and runs do so; without them, simenv.sessions.BegunMechanism(mechanism, start)",
        )
    return SessionStart(id=auction.id, auctions=(auction.model_copy(update={"horizon": 1}),))


@runtime_checkable
class SessionMechanism(Mechanism, Protocol):
    """A mechanism that commits to a session's bids before its first turn.

    Answers must be a function of the session, the auction (with its history and the ads shown) and the generator: what
    `begin` returns may not change when it runs. So a resumed run begins a session again at the turn where it was cut
    off, and an audit may ask for one turn after different histories.
    """

    def begin(self, session: SessionStart) -> Mechanism | Awaitable[Mechanism | None] | None:
        """Begins a session.

        Returns:
            What answers the session's turns, by its `run`; None: this mechanism itself.
        """
        ...


class BegunMechanism:
    """A session mechanism in one session: it begins when the first turn is answered.

    Args:
        mechanism: The mechanism.
        start: The session.
    """

    def __init__(self, mechanism: SessionMechanism, start: SessionStart) -> None:
        self.name = mechanism_name(mechanism)
        self.units = units_of(mechanism)
        self._mechanism = mechanism
        self._start = start
        self._answers: Mechanism | None = None

    async def begin(self) -> Mechanism:
        """What answers the turns.

        Raises:
            OutcomeError: `begin` of the mechanism returned something that has no `run`.
            MechanismFailed: it raised.
        """
        if self._answers is None:
            try:
                begun = self._mechanism.begin(self._start)
                begun = await begun if inspect.isawaitable(begun) else begun
            except SimenvError:
                raise
            except Exception as error:
                said = f"{self.name}.begin raised {reason(error)} on session {self._start.id}"
                raise MechanismFailed(said) from error
            answers = self._mechanism if begun is None else begun
            if not isinstance(answers, Mechanism):
                raise OutcomeError(f"{self.name}.begin returned {type(begun).__name__}: expected an object with run")
            self._answers = answers
        return self._answers

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        """Answers one turn."""
        outcome = (await self.begin()).run(auction, rng)
        return await outcome if inspect.isawaitable(outcome) else outcome


def so_far_of(transitions: Sequence[Transition]) -> SoFar:
    """What happened in the first turns of a session, from their transitions."""
    so_far = SoFar()
    for transition in transitions:
        so_far = so_far.after(transition.auction, transition.outcome)
    return so_far
