"""Allocation and payment by bid: how often a bid is shown, is clicked and pays, over the candidates of all auctions."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from simenv.records import Transition
from simenv.report.sums import ClusteredSums, click_of
from simenv.stats import Estimate, draw_variance

_FIRST = 4096
"""Bids of the first answers whose tenths are the bins."""


class BidBin(NamedTuple):
    """The candidates of one mechanism with similar bids."""

    low: float
    """The bin begins here, currency per click; at 0 for the first one."""
    high: float
    """The next bin begins here; infinite for the last one."""
    bid: float
    """Mean bid."""
    candidates: int
    shown: Estimate
    """Share of the candidates that are shown."""
    clicks: Estimate
    """Clicks per candidate. Shown ads on which the judge abstained are left out here and below."""
    payment: Estimate
    """Currency per candidate, transfers included."""
    price: Estimate
    """Currency per click."""


class _Sums:
    """What is summed over the candidates of one bin."""

    def __init__(self) -> None:
        self.bids, self.candidates = 0.0, 0
        self.shown, self.clicks, self.payment, self.price = (ClusteredSums() for _ in range(4))


class _Candidate(NamedTuple):
    mechanism: str
    persona: str
    bid: float
    shown: bool
    click: float | None
    price: float
    transfer: float


class Allocation:
    """Adds up answers, and cuts the candidates' bids into at most ten bins, the same for all mechanisms.

    Bins are tenths of the bids in the first answers. Answers that failed are left out, and so are bids per view, whose
    amounts are on another scale.

    Args:
        expected: Whether clicks are expectations over click probabilities, or realised; as the run's table has it.
    """

    def __init__(self, expected: bool) -> None:
        self._expected = expected
        self._edges: list[float] | None = None
        self._waiting: list[_Candidate] = []
        self._sums: dict[str, dict[int, _Sums]] = {}
        self._draws: dict[str, list[float]] = {}

    def add(self, t: Transition) -> None:
        """Adds one answer."""
        if t.error is not None:
            return
        prices = {placement.ad_id: placement.price for placement in t.outcome.placements}
        clicks = {click.ad_id: click_of(click, self._expected) for click in t.feedback.clicks}
        for bid in (bid for bid in t.auction.bids if bid.unit == "click"):
            ad_id = bid.ad.id
            price, transfer = prices.get(ad_id, 0.0), t.outcome.transfers.get(ad_id, 0.0)
            click = clicks.get(ad_id) if ad_id in prices else 0.0
            one = _Candidate(t.mechanism, t.persona_id, bid.amount, ad_id in prices, click, price, transfer)
            if self._edges is None:
                self._waiting.append(one)
            else:
                self._add(one, self._edges)
        if len(self._waiting) >= _FIRST:
            self._settle()

    def bins(self) -> dict[str, list[BidBin]]:
        """Mechanism -> its bins with candidates, in ascending order."""
        edges = self._settle()
        return {
            name: [self._bin(name, edges, place, sums) for place, sums in sorted(places.items())]
            for name, places in self._sums.items()
        }

    def _settle(self) -> list[float]:
        if self._edges is None:
            bids = [one.bid for one in self._waiting]
            tenths = np.quantile(bids, np.arange(0, 1, 0.1), method="lower").tolist() if bids else []
            self._edges = sorted(set(tenths))
        for one in self._waiting:
            self._add(one, self._edges)
        self._waiting = []
        return self._edges

    def _add(self, one: _Candidate, edges: list[float]) -> None:
        place = max(0, bisect_right(edges, one.bid) - 1)
        sums = self._sums.setdefault(one.mechanism, {}).setdefault(place, _Sums())
        sums.bids += one.bid
        sums.candidates += 1
        sums.shown.add(one.persona, one.shown)
        if one.click is None:
            return
        drawn = one.shown and not self._expected
        payment = one.price * one.click + one.transfer
        sums.clicks.add(one.persona, one.click, weight=drawn)
        sums.payment.add(one.persona, payment, weight=one.price * drawn)
        if one.shown or payment:
            sums.price.add(one.persona, payment, one.click)
        if one.shown:
            draws = self._draws.setdefault(one.mechanism, [0.0, 0.0])
            draws[0] += one.click
            draws[1] += 1

    def _bin(self, name: str, edges: list[float], place: int, sums: _Sums) -> BidBin:
        clicks, shown = self._draws.get(name, (0.0, 0.0))
        variance = 0.0 if self._expected else draw_variance(clicks, int(shown))
        return BidBin(
            low=edges[place] if place else 0.0,
            high=edges[place + 1] if place + 1 < len(edges) else float("inf"),
            bid=sums.bids / sums.candidates,
            candidates=sums.candidates,
            shown=sums.shown.estimate(),
            clicks=sums.clicks.estimate(variance),
            payment=sums.payment.estimate(variance),
            price=sums.price.estimate(),
        )


def allocation(answers: Iterable[Transition], expected: bool) -> dict[str, list[BidBin]]:
    """Allocation and payment by bid.

    Args:
        answers: The answers of one or several mechanisms.
        expected: As the run's table has it (`Table.expected`).

    Returns:
        Mechanism -> its bins, in ascending order of the bids.
    """
    found = Allocation(expected)
    for t in answers:
        found.add(t)
    return found.bins()
