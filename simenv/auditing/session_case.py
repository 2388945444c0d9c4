"""Sessions of linked turns in an audit: every advertiser bids once, and its clicks and payments are added up.

A mechanism that is measured exactly is played in every order of the questions; a sampled one in one order for
each replica.
"""

from __future__ import annotations

from collections.abc import Sequence

from simenv.background_loop import gather
from simenv.errors import InputError
from simenv.market.bidders import ShadedBidder
from simenv.mechanism import Mechanism
from simenv.records import Auction, Bid
from simenv.seeding import keyed_rng
from simenv.session_play import MOST_TURNS, PlayedTurn, play_order, play_orders
from simenv.sessions import SessionStart
from simenv.world import Session, World


def check_turns(world: World) -> None:
    """Raises InputError if a session of the world has too many turns to be played in every order."""
    if world.linked and world.horizon > MOST_TURNS:
        raise InputError(
            f"an audit plays a session of linked turns in every order of its questions: horizon must be at most "
            f"{MOST_TURNS}, got {world.horizon}"
        )


async def sessions_of(world: World, count: int, seed: int) -> list[Session]:
    """The first sessions of a run."""
    return await gather(world.session(seed, number) for number in range(count))


def truthful_start(world: World, session: Session) -> SessionStart:
    """A session in which every advertiser bids its value."""
    return world.start(session, ShadedBidder())


def whole_session(start: SessionStart) -> Auction:
    """All ads of a session as the candidates of one auction, each with the largest of its relevances.

    Bids of an audit are about it; nobody answers it.
    """
    best: dict[str, Bid] = {}
    for bid in (bid for auction in start.auctions for bid in auction.bids):
        if bid.ad.id not in best or bid.relevance > best[bid.ad.id].relevance:
            best[bid.ad.id] = bid
    return start.auctions[0].model_copy(update={"id": start.id, "bids": tuple(best.values())})


def at(start: SessionStart, bids: Sequence[float], ads: Sequence[str], replica: int | None) -> SessionStart:
    """The session at other bids, in the order of `ads`. A replica has its own id, and so its own draws."""
    changed = start.with_bids(dict(zip(ads, map(float, bids), strict=True)))
    return changed if replica is None else changed.model_copy(update={"id": f"{start.id}~{replica}"})


async def played(mechanism: Mechanism, start: SessionStart, replica: int | None) -> list[PlayedTurn]:
    """The turns of a session: in every order of the questions, or for a replica in one that its number draws."""
    if replica is None:
        return await play_orders(mechanism, start)
    order = keyed_rng("audit order", start.id).permutation(len(start.auctions))[: start.horizon]
    return await play_order(mechanism, start, order.tolist())
