"""Budgets and pacing: what each ad spent of its budget, and when."""

from __future__ import annotations

import math
from typing import NamedTuple

from simenv.records import Transition

QUARTERS = 4
_EXHAUSTED = 0.99
"""Share of a budget from which on it counts as exhausted: a bid is capped at what is left."""


class Budget(NamedTuple):
    """What became of the budgets of one ad under one mechanism."""

    mechanism: str
    ad_id: str
    budget: float
    """Currency, for the run or for each session."""
    purses: int
    """1 for a run; the number of sessions in which the ad was a candidate for budgets of sessions."""
    spent: float
    """Realised payments over all purses: currency."""
    exhausted: int
    """Purses of which at least 99% is spent."""
    quarters: tuple[float, ...]
    """Share of the spending in each quarter of the auctions in which the ad was a candidate; nan if it spent nothing.
    Even pacing gives 0.25 each."""

    @property
    def share(self) -> float:
        """Spending / budgets."""
        return self.spent / (self.budget * self.purses)


class Purses:
    """The payments from each budget, in the order of the auctions.

    Args:
        budget: Currency.
        scope: run or session.
    """

    def __init__(self, budget: float, scope: str) -> None:
        self._budget = budget
        self._scope = scope
        self._payments: dict[tuple[str, str], dict[str, list[float]]] = {}

    def add(self, t: Transition, ad_id: str) -> None:
        """Adds one auction in which the ad was a candidate."""
        purse = t.auction.session_id if self._scope == "session" else ""
        purses = self._payments.setdefault((t.mechanism, ad_id), {})
        purses.setdefault(purse, []).append(t.payments.get(ad_id, 0.0))

    def budgets(self) -> list[Budget]:
        """What became of them, by mechanism and ad."""
        return [
            self._budget_of(mechanism, ad_id, list(purses.values()))
            for (mechanism, ad_id), purses in sorted(self._payments.items())
        ]

    def _budget_of(self, mechanism: str, ad_id: str, purses: list[list[float]]) -> Budget:
        spent = math.fsum(amount for payments in purses for amount in payments)
        quarters = [0.0] * QUARTERS
        for payments in purses:
            for place, amount in enumerate(payments):
                quarters[place * QUARTERS // len(payments)] += amount
        return Budget(
            mechanism=mechanism,
            ad_id=ad_id,
            budget=self._budget,
            purses=len(purses),
            spent=spent,
            exhausted=sum(math.fsum(payments) >= _EXHAUSTED * self._budget for payments in purses),
            quarters=tuple(part / spent if spent > 0 else math.nan for part in quarters),
        )
