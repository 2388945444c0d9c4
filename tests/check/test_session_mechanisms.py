"""Session mechanisms are checked on sessions: a correct one passes, and broken ones are caught."""

from __future__ import annotations

import numpy as np
import pytest

from simenv import Outcome, check_mechanism
from simenv.background_loop import run_sync
from simenv.check.session_cases import random_session
from simenv.errors import ClaimViolated, InputError
from simenv.records import Auction
from simenv.session_play import in_order, play_order, play_orders
from simenv.sessions import SessionStart
from simenv.testing import small_world
from tests.support.session_mechanisms import OnceASession, WinnerOfSession


def test_a_correct_session_mechanism_passes() -> None:
    report = check_mechanism(OnceASession(), auctions=8)
    assert (report.sessions, report.warnings) == (2, ())
    assert " auctions and 2 sessions in " in report.summary


class ChargesMore(OnceASession):
    """In sessions of several turns alone, so that auctions do not show it."""

    def begin(self, session: SessionStart) -> WinnerOfSession:
        winner = super().begin(session)
        return WinnerOfSession(winner.ad_id, winner.price * (1.05 if session.horizon > 1 else 1.0), 0)


class ShowsWhatItBid(OnceASession):
    """A higher bid is shown later: if it is a candidate at the last turn."""

    def begin(self, session: SessionStart) -> WinnerOfSession:
        winner = super().begin(session)
        late = session.horizon > 1 and session.bids.get(winner.ad_id, 0.0) > 1.5 * winner.price
        return WinnerOfSession(winner.ad_id, winner.price, 2 if late else 0)


class Counts(OnceASession):
    """Its answers depend on what it answered before."""

    def begin(self, session: SessionStart) -> WinnerOfSession:
        winner = super().begin(session)

        class Counting(WinnerOfSession):
            turns = 0

            def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
                self.turns += 1
                return Outcome(response=f"Answer {self.turns}.")

        return Counting(winner.ad_id, winner.price, 0)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (ChargesMore, "random session .* charges more than the bid|random session .* it gains|pays"),
        (ShowsWhatItBid, "random session .* is not monotone"),
        (Counts, "random session .* begun at turn 2, as after a cut, it gave another answer"),
    ],
)
def test_a_broken_session_mechanism_is_caught(broken: type[OnceASession], said: str) -> None:
    with pytest.raises(ClaimViolated, match=said):
        check_mechanism(broken(), auctions=16)


def test_every_order_of_a_session_is_played_with_its_probability() -> None:
    _, start = random_session(0, 1)
    once = OnceASession(at=1)
    turns = run_sync(play_orders, once, start)
    assert len(once.begun) == 1
    assert len(turns) == 3 + 6 + 6
    for turn in range(3):
        assert sum(it.weight for it in turns if it.auction.turn == turn) == pytest.approx(1)
    for order in start.orders():
        assert in_order(turns, order) == run_sync(play_order, OnceASession(at=1), start, order)


def test_sessions_of_too_many_turns_are_not_played_in_every_order() -> None:
    start = SessionStart(id="s", auctions=tuple(a.model_copy(update={"horizon": 6}) for a in two_worlds().auctions * 2))
    with pytest.raises(InputError, match="at most 5 turns: got 6"):
        run_sync(play_orders, OnceASession(), start)


def two_worlds() -> SessionStart:
    world = small_world(turns="linked")
    return world.start(run_sync(world.session, 0, 0))
