"""Checks a session mechanism on sessions: whatever the order of the questions, and in expectation over it.

The claims in expectation are about the sum over a session's turns, in expectation over the order in which its questions
are asked. The claims ex post are about that sum in each order.
"""

from __future__ import annotations

from collections.abc import Sequence

from simenv import markup
from simenv.background_loop import run_sync
from simenv.check.cases import random_auction
from simenv.check.conduct import Conduct
from simenv.check.expected import TOLERANCE, Expected, broken, expectation, grid, widest
from simenv.check.runner import EX_POST, EXPECTED, Runner
from simenv.errors import ClaimViolated, MechanismFailed, SimenvError
from simenv.mechanism import Claim, run_mechanism
from simenv.records import Auction, Bid, Outcome
from simenv.seeding import keyed_rng
from simenv.session_play import PlayedTurn, answering, in_order, play_orders
from simenv.sessions import SessionStart

_QUESTIONS = 3
_MOST_ADS = 5
"""Few ads have rivals that are close, so that a bid moves what is shown when."""
_PROBED = 3
"""Ads whose bids are varied."""
_HALVINGS = 6


def random_session(seed: int, index: int) -> tuple[str, SessionStart]:
    """A session of three questions: the ads of a random auction, with relevance of their own for each question.

    Two of three ads are candidates for a question, so that some may win at some turns alone.
    """
    rng = keyed_rng("check session", seed, index)
    _, auction = random_auction(seed, index)
    name = f"check.session.{seed}.{index}"
    turns = _QUESTIONS - index // 2 % 2

    def asked(number: int) -> Auction:
        bids: list[Bid] = []
        for bid in auction.bids[:_MOST_ADS]:
            relevance, drawn = float(rng.uniform(-0.1, 0.8)), bool(rng.random() < 2 / 3)
            bids += [bid.model_copy(update={"relevance": relevance})] if drawn else []
        query = auction.query.model_copy(update={"text": f"{auction.query.text} ({number + 1})"})
        return auction.model_copy(
            update={
                "id": f"{name}.q{number}",
                "session_id": name,
                "horizon": turns,
                "query": query,
                "bids": tuple(sorted(bids, key=lambda bid: -bid.relevance)),
            }
        )

    return f"random session {index}", SessionStart(id=name, auctions=tuple(map(asked, range(_QUESTIONS))))


class SessionCheck:
    """Checks one session.

    Args:
        runner: Has the mechanism, and says what is wrong with it.
        case: Name of the session.
        start: The session.
    """

    def __init__(self, runner: Runner, case: str, start: SessionStart) -> None:
        self._runner = runner
        self._case = case
        self._start = start

    def check(self) -> None:
        """Checks the interface and the claims.

        Raises:
            ClaimViolated: a rule or a claim is broken.
        """
        turns = self._play(self._start)
        if self._play(self._start) != turns:
            self._runner.fail(self._case, "deterministic: begun a second time it gave other answers")
        self._check_memory(turns)
        conduct = Conduct()
        for turn in turns:
            over = conduct.add(turn.auction, turn.outcome)
            if over and Claim.INDIVIDUALLY_RATIONAL in self._runner.claims:
                self._runner.fail(self._case, f"{Claim.INDIVIDUALLY_RATIONAL}: it {' and '.join(over)}")
        if not self._runner.claimed((*EX_POST, *EXPECTED)):
            return
        shown = [placement.ad_id for turn in turns for placement in turn.outcome.placements]
        for ad_id in list(dict.fromkeys([*shown, *self._start.ads]))[:_PROBED]:
            self._sweep(ad_id)

    def _check_memory(self, turns: Sequence[PlayedTurn]) -> None:
        """A turn depends on its auction, which has the history: not on what was answered in between."""
        last = turns[-1]
        try:
            alone = run_sync(self._alone, last.auction)
        except SimenvError as error:
            raise ClaimViolated(f"{self._runner.name} on {self._case} cannot go on: {error}") from error
        if alone != last.outcome:
            self._runner.fail(
                self._case,
                f"a function of session and auction: begun at turn {last.auction.turn}, as after a cut, it gave "
                "another answer than after its own answers before",
            )

    async def _alone(self, auction: Auction) -> Outcome:
        return await run_mechanism(answering(self._runner.mechanism, self._start), auction)

    def _play(self, start: SessionStart) -> list[PlayedTurn]:
        try:
            turns = run_sync(play_orders, self._runner.mechanism, start)
            for turn in turns:
                markup.verify(turn.outcome, turn.auction)
        except MechanismFailed as error:
            raise ClaimViolated(f"on {self._case}: {error}") from error
        except SimenvError as error:
            raise ClaimViolated(f"{self._runner.name} on {self._case} gives no valid outcome: {error}") from error
        self._runner.runs += len(turns)
        return turns

    def _sweep(self, ad_id: str) -> None:
        """Varies the bid of one ad for the whole session."""
        value = self._start.bids[ad_id]
        played: dict[float, list[PlayedTurn]] = {}

        def attempt(amount: float) -> None:
            if amount not in played:
                played[amount] = self._play(self._start.with_bids({ad_id: amount}))

        def responses(order: Sequence[int] | None) -> dict[float, Expected]:
            return {
                amount: self._sum(turns if order is None else in_order(turns, order), ad_id)
                for amount, turns in played.items()
            }

        for amount in grid(value):
            attempt(amount)
        size, low, high = widest(responses(None))
        for _ in range(_HALVINGS if size else 0):
            middle = (low + high) / 2
            attempt(middle)
            known = responses(None)
            _, low, high = max(widest(known, (low, middle)), widest(known, (middle, high)))
            if low == high:
                break
        slack = TOLERANCE * max([1.0, *played, *self._start.bids.values()])
        orders = list(self._start.orders()) if self._runner.claimed(EX_POST) else []
        for order in (None, *orders):
            said = "in expectation over the order of questions" if order is None else f"in order {order}"
            for claim in self._runner.claimed(EXPECTED if order is None else EX_POST):
                what = broken(claim, responses(order), slack)
                if what is not None:
                    self._runner.fail(self._case, f"{claim}: {ad_id}: {what}, {said}")

    def _sum(self, turns: Sequence[PlayedTurn], ad_id: str) -> Expected:
        parts = [
            expectation([(turn.weight, turn.outcome)], self._runner.predictions, turn.auction, ad_id)
            for turn in turns
            if any(bid.ad.id == ad_id for bid in turn.auction.bids)
        ]
        return Expected(sum(part.itctr for part in parts), sum(part.payment for part in parts))


def sessions_of(runner: Runner, auctions: int, seed: int) -> int:
    """Checks a session mechanism on a quarter as many random sessions, at least one; returns their number.

    Raises:
        ClaimViolated: a rule or a claim is broken; the message names the session.
    """
    count = max(1, auctions // 4)
    for index in range(count):
        SessionCheck(runner, *random_session(seed, index)).check()
    return count
