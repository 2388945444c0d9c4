"""Plays a session in every order in which its questions may be asked: what a mechanism does, in expectation over them.

Checks and audits vary an advertiser's bid here for a whole session, and add up its clicks and payments over the turns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from simenv.background_loop import gather
from simenv.errors import InputError
from simenv.mechanism import Mechanism, run_mechanism
from simenv.records import Auction, Outcome
from simenv.sessions import BegunMechanism, SessionMechanism, SessionStart, SoFar

MOST_TURNS = 5
"""Turns of a session that is played in every order: with five questions these are 325 answers."""


class PlayedTurn(NamedTuple):
    """One answer of a session that was played."""

    weight: float
    """Probability that the session comes to this turn in this way."""
    asked: tuple[int, ...]
    """Numbers of the questions asked up to and including this turn."""
    auction: Auction
    outcome: Outcome


def answering(mechanism: Mechanism, start: SessionStart) -> Mechanism:
    """What answers the turns of a session: a session mechanism begins it, any other one answers turn by turn."""
    return BegunMechanism(mechanism, start) if isinstance(mechanism, SessionMechanism) else mechanism


async def play_orders(mechanism: Mechanism, start: SessionStart) -> list[PlayedTurn]:
    """Answers the turns of a session in every order of its questions; a beginning that orders share is answered once.

    Args:
        mechanism: Any mechanism. Its own draws are those of its generator: there is one draw per turn.
        start: The session.

    Raises:
        InputError: the session has more than MOST_TURNS turns.
        SimenvError: the mechanism raised it.
    """
    if start.horizon > MOST_TURNS:
        raise InputError(
            f"a session is played in every order of its questions, for at most {MOST_TURNS} turns: got {start.horizon}",
            hint="use a shorter horizon",
        )
    begun = answering(mechanism, start)

    async def walk(asked: tuple[int, ...], weight: float, so_far: SoFar) -> list[PlayedTurn]:
        if asked:
            auction = start.auction(asked, so_far)
            outcome = await run_mechanism(begun, auction)
            here, so_far = [PlayedTurn(weight, asked, auction, outcome)], so_far.after(auction, outcome)
        else:
            here = []
            if isinstance(begun, BegunMechanism):
                await begun.begin()  # before turns are answered side by side
        following = [walk((*asked, number), weight * prob, so_far) for number, prob in start.after(asked).items()]
        return here + [turn for turns in await gather(following) for turn in turns]

    return await walk((), 1.0, SoFar())


async def play_order(mechanism: Mechanism, start: SessionStart, order: Sequence[int]) -> list[PlayedTurn]:
    """Answers the turns of a session in one order of its questions, each with the weight 1."""
    begun, so_far, turns = answering(mechanism, start), SoFar(), []
    for place in range(len(order)):
        auction = start.auction(order[: place + 1], so_far)
        outcome = await run_mechanism(begun, auction)
        so_far = so_far.after(auction, outcome)
        turns.append(PlayedTurn(1.0, tuple(order[: place + 1]), auction, outcome))
    return turns


def in_order(turns: Iterable[PlayedTurn], order: Sequence[int]) -> list[PlayedTurn]:
    """The turns of one order, of those that `play_orders` gives, each with the weight 1."""
    return [turn._replace(weight=1.0) for turn in turns if turn.asked == tuple(order[: len(turn.asked)])]
