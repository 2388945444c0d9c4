"""Runs the mechanism that is checked, and says what is wrong with it."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from simenv import markup
from simenv.background_loop import run_sync
from simenv.check.expected import TOLERANCE
from simenv.ctr.models import CTRModel, own_ctr_model
from simenv.errors import ClaimViolated, InputError, MechanismFailed, OutcomeError, SimenvError
from simenv.llm.base import AnyRequest, metered
from simenv.mechanism import (
    Claim,
    Claiming,
    Lottery,
    Mechanism,
    Randomised,
    lottery_of,
    mechanism_name,
    run_mechanism,
)
from simenv.records import Auction, Outcome

EX_POST = (Claim.MONOTONE, Claim.TRUTHFUL_UM)
"""Claims about clicks and payments of every single run."""
EXPECTED = (
    Claim.RATIONAL_IN_EXPECTATION,
    Claim.MONOTONE_IN_EXPECTATION,
    Claim.TRUTHFUL_UM_IN_EXPECTATION,
    Claim.TRUTHFUL_VM,
)
"""Claims about expectations over the lottery."""
ABOUT_BIDS = (*EX_POST, *EXPECTED, Claim.BID_FREE_CANDIDATES)
"""Claims that are tested at other bids."""
Requests = frozenset[AnyRequest]


class Runner:
    """Runs one mechanism and verifies its outcomes.

    Args:
        mechanism: The mechanism.

    Raises:
        ClaimViolated: its `claims` are not a set of claims.
    """

    def __init__(self, mechanism: Mechanism) -> None:
        self.mechanism = mechanism
        self.name = mechanism_name(mechanism)
        self.claims = _claims(mechanism)
        self.runs = 0
        self._ctr = own_ctr_model(mechanism)

    def claimed(self, claims: tuple[Claim, ...]) -> list[Claim]:
        """Those of these claims that the mechanism makes, in order."""
        return [claim for claim in claims if claim in self.claims]

    def run(self, case: str, auction: Auction, rng: np.random.Generator | None = None) -> tuple[Outcome, Requests]:
        """Runs the mechanism once: its outcome, verified against its text, and its requests to language models."""
        self.runs += 1

        async def run() -> tuple[Outcome, Requests]:
            with metered() as meter:
                outcome = await run_mechanism(self.mechanism, auction, rng)
            return outcome, frozenset(meter.requests)

        try:
            outcome, requests = run_sync(run)
            markup.verify(outcome, auction)
            unpriced = [violation.text for violation in outcome.violations if violation.kind == "unpriced_ad"]
            if unpriced:
                raise OutcomeError(f"the answer shows {', '.join(unpriced)} without a price")
        except MechanismFailed as error:
            raise ClaimViolated(f"on {case}: {error}") from error
        except SimenvError as error:
            raise ClaimViolated(f"{self.name} on {case} gives no valid outcome: {error}") from error
        return outcome, requests

    def lottery(self, case: str, auction: Auction) -> Lottery | None:
        """The exact distribution of outcomes, each verified against its text; None if the mechanism has none."""
        if not isinstance(self.mechanism, Randomised):
            return None

        async def run() -> Lottery:
            return await lottery_of(self.mechanism, auction)

        try:
            lottery = run_sync(run)
            for _, outcome in lottery:
                markup.verify(outcome, auction)
        except SimenvError as error:
            unknown = isinstance(error, InputError) and not isinstance(error, OutcomeError)
            if unknown and not self.claimed(EXPECTED):  # only claims in expectation require the lottery
                return None
            raise ClaimViolated(f"{self.name} on {case} gives no valid lottery: {error}") from error
        return lottery

    def predictions(self) -> CTRModel:
        """The mechanism's own CTR model.

        Raises:
            ClaimViolated: it has none.
        """
        if self._ctr is None:
            raise ClaimViolated(
                f"{self.name} makes claims about bids but has no ctr_model to check them in",
                hint="give its constructor a parameter ctr_model, and keep it as self.ctr_model",
            )
        return self._ctr

    def fail(self, case: str, what: str) -> NoReturn:
        """Raises ClaimViolated: the mechanism is not `what`."""
        raise ClaimViolated(f"{self.name} on {case} is not {what}")


def slack(auction: Auction) -> float:
    """Currency that rounding may account for."""
    return TOLERANCE * max([1.0, *(bid.amount for bid in auction.bids)])


def _claims(mechanism: Mechanism) -> frozenset[Claim]:
    declared = mechanism.claims if isinstance(mechanism, Claiming) else ()
    known = ", ".join(claim.name for claim in Claim)
    try:
        claims = set(declared) if not isinstance(declared, str) else None
    except TypeError:
        claims = None
    if claims is None or not claims <= set(Claim):
        raise ClaimViolated(
            f"{mechanism_name(mechanism)}.claims must be a set of simenv.Claim members ({known}), got {declared!r}"
        )
    return frozenset(Claim(claim) for claim in claims)
