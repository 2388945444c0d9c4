"""Session mechanisms for tests: a second price whose winner is settled at `begin`, for one turn of the session."""

from __future__ import annotations

import numpy as np

import simenv
from simenv import Claim, Outcome
from simenv.records import Auction
from simenv.sessions import SessionStart, alone
from tests.support.auctions import GivenCTR


class OnceASession:
    """The highest bid of the session wins the first turn, from turn `at` on, at which its ad is a candidate.

    It pays the second highest bid of the session per click. Predicted clicks are the same everywhere.
    """

    name = "once"
    claims = frozenset(
        {
            Claim.INDIVIDUALLY_RATIONAL,
            Claim.MONOTONE,
            Claim.TRUTHFUL_UM,
            Claim.RATIONAL_IN_EXPECTATION,
            Claim.MONOTONE_IN_EXPECTATION,
            Claim.TRUTHFUL_UM_IN_EXPECTATION,
        }
    )

    def __init__(self, at: int = 0) -> None:
        self.ctr_model = GivenCTR(0.5)
        self.begun: list[str] = []
        self._at = at

    def begin(self, session: SessionStart) -> WinnerOfSession:
        self.begun.append(session.id)
        ranked = sorted(session.bids.items(), key=lambda item: -item[1])
        reserve, max_ads = session.auctions[0].reserve, session.auctions[0].max_ads
        if not ranked or not max_ads or ranked[0][1] < reserve:
            return WinnerOfSession("", 0.0, self._at)
        second = ranked[1][1] if len(ranked) > 1 else 0.0
        return WinnerOfSession(ranked[0][0], self.price(max(second, reserve)), self._at)

    def price(self, critical: float) -> float:
        """The price per click, given the least bid that wins."""
        return critical

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return self.begin(alone(auction)).run(auction, rng)


class WinnerOfSession:
    """The answers of one session."""

    def __init__(self, ad_id: str, price: float, at: int) -> None:
        self.ad_id, self.price, self._at = ad_id, price, at

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        candidates = {bid.ad.id: bid.ad for bid in auction.bids}
        text = f"An answer to: {auction.query.text}"
        if auction.shown or auction.turn < self._at or self.ad_id not in candidates:
            return simenv.outcome(auction, text, {})
        return simenv.outcome(auction, f"{text} See {candidates[self.ad_id].link}.", {self.ad_id: self.price})
