"""Checks a mechanism that commits to the bids of a session, over every order in which its questions may be asked.

Expected clicks and payments of an advertiser are sums over the turns of a session. Claims ex post are about each order
of the questions, claims in expectation about the mean over all of them: what is asked is drawn after the bids are made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from simenv.check.draws import has_drawn
from simenv.check.expected import TOLERANCE, Expected, broken, expectation, grid, widest
from simenv.check.runner import ABOUT_BIDS, EX_POST, EXPECTED, Requests, Runner
from simenv.check.sweep import TRUTHFUL, halve_gaps
from simenv.errors import ClaimViolated
from simenv.mechanism import Claim, mechanism_rng
from simenv.records import Auction, Outcome
from simenv.sessions import BegunMechanism, SessionMechanism, SessionStart, SoFar

Order = tuple[int, ...]
"""Numbers of the questions in the order in which they are asked."""


class Turn(NamedTuple):
    """One answer of a session, after certain questions."""

    auction: Auction
    outcome: Outcome
    requests: Requests


class Played(NamedTuple):
    """A session played in every order."""

    turns: dict[Order, Turn]
    """By the questions up to and including the turn's own: orders that begin alike share them."""

    def along(self, order: Order) -> Iterator[Turn]:
        """The turns of one order."""
        return (self.turns[order[: turn + 1]] for turn in range(len(order)))


def play(runner: Runner, mechanism: SessionMechanism, case: str, session: SessionStart) -> Played:
    """Runs a session in every order of its questions.

    Raises:
        ClaimViolated: an outcome is not valid, or an answer draws and a claim is about expectations.
    """
    begun = BegunMechanism(mechanism, session)
    turns: dict[Order, Turn] = {}
    so_far: dict[Order, SoFar] = {(): SoFar()}
    for order in session.orders():
        for turn in range(len(order)):
            asked = order[: turn + 1]
            if asked in turns:
                continue
            auction = session.auction(asked, so_far[order[:turn]])
            rng = mechanism_rng(auction)
            outcome, requests = runner.run(case, auction, rng, begun)
            if runner.claimed(EXPECTED) and has_drawn(rng, auction):
                raise ClaimViolated(
                    f"{runner.name} on {case} draws from its generator in a session, so its claim "
                    f"{runner.claimed(EXPECTED)[0]} cannot be checked",
                    hint="claims in expectation are checked in sessions of mechanisms that do not draw",
                )
            turns[asked] = Turn(auction, outcome, requests)
            so_far[asked] = so_far[order[:turn]].after(auction, outcome)
    return Played(turns)


class SessionSweep:
    """A session at several bids of one advertiser, and the claims about them.

    Args:
        runner: Runs the mechanism.
        mechanism: The mechanism.
        case: Name of the session.
        session: The session.
        ad_id: The ad whose bid is varied.
        truth: The session at its own bids.
    """

    def __init__(
        self,
        runner: Runner,
        mechanism: SessionMechanism,
        case: str,
        session: SessionStart,
        ad_id: str,
        truth: Played,
    ) -> None:
        self._runner = runner
        self._mechanism = mechanism
        self._case = case
        self._session = session
        self._ad_id = ad_id
        self._value = session.bids[ad_id]
        self._requests = _requests(truth)
        self._by_order: dict[Order, dict[float, Expected]] = {order: {} for order in session.orders()}
        self._mean: dict[float, Expected] = {}
        self._add(self._value, truth)

    def check(self) -> None:
        """Tries a grid of bids, and then bids in the gap in which most can be hidden.

        Raises:
            ClaimViolated: a claim does not hold.
        """
        for amount in grid(self._value):
            self._try(amount)
        self._hold()
        for claim in self._runner.claimed(TRUTHFUL):
            curves = [self._mean] if claim in EXPECTED else list(self._by_order.values())
            halve_gaps(max(curves, key=lambda responses: widest(responses)[0]), self._try)
        self._hold()

    def _try(self, amount: float) -> None:
        if amount in self._mean:
            return
        case = f"{self._case}, {self._ad_id} bidding {amount:g}"
        played = play(self._runner, self._mechanism, case, self._session.with_bids({self._ad_id: amount}))
        if Claim.BID_FREE_CANDIDATES in self._runner.claims and _requests(played) != self._requests:
            self._fail(Claim.BID_FREE_CANDIDATES, f"{self._ad_id} bidding {amount:g} changed the requests to the model")
        self._add(amount, played)

    def _add(self, amount: float, played: Played) -> None:
        for order, responses in self._by_order.items():
            each = [
                expectation([(1.0, turn.outcome)], self._runner.predictions, turn.auction, self._ad_id)
                for turn in played.along(order)
            ]
            responses[amount] = Expected(*(math.fsum(column) for column in zip(*each, strict=True)))
        everywhere = [responses[amount] for responses in self._by_order.values()]
        self._mean[amount] = Expected(
            *(math.fsum(column) / len(everywhere) for column in zip(*everywhere, strict=True))
        )

    def _hold(self) -> None:
        """Holds the mechanism to its claims at the bids that were tried."""
        slack = TOLERANCE * max([1.0, *self._mean, *self._session.bids.values()])
        for claim in self._runner.claimed(EX_POST):
            for order, responses in self._by_order.items():
                what = broken(claim, responses, slack)
                if what is not None:
                    questions = ", ".join(map(str, order))
                    self._fail(claim, f"{self._ad_id}: with the questions in the order {questions}, {what}")
        for claim in self._runner.claimed(EXPECTED):
            what = broken(claim, self._mean, slack)
            if what is not None:
                self._fail(claim, f"{self._ad_id}: in expectation over what is asked, {what}")

    def _fail(self, claim: Claim, what: str) -> None:
        self._runner.fail(self._case, f"{claim}: {what}")


def sweeps(
    runner: Runner, mechanism: SessionMechanism, case: str, session: SessionStart, truth: Played
) -> list[SessionSweep]:
    """Sweeps of all ads that are shown in some order, and of the first that is not; none without a claim about bids."""
    if not runner.claimed(ABOUT_BIDS):
        return []
    shown = dict.fromkeys(p.ad_id for turn in truth.turns.values() for p in turn.outcome.placements)
    others = [ad_id for ad_id in session.bids if ad_id not in shown]
    return [SessionSweep(runner, mechanism, case, session, ad_id, truth) for ad_id in [*shown, *others[:1]]]


def _requests(played: Played) -> Requests:
    return frozenset(request for turn in played.turns.values() for request in turn.requests)
