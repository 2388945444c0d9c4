"""Varies one advertiser's bid in one auction; everything else, including randomness, stays fixed."""

from __future__ import annotations

from simenv.check.cases import with_bid
from simenv.check.conduct import tells_bids
from simenv.check.expected import TOLERANCE, Expected, broken, expectation, grid, widest
from simenv.check.runner import EX_POST, EXPECTED, Requests, Runner
from simenv.mechanism import Claim, Lottery
from simenv.records import Auction, Outcome

_TRUTHFUL = (Claim.TRUTHFUL_UM, Claim.TRUTHFUL_UM_IN_EXPECTATION)
_HALVINGS = 6
"""How often a gap between two bids is halved."""


class BidSweep:
    """Outcomes at several bids of one advertiser, and the claims about them.

    Args:
        runner: Runs the mechanism.
        case: Name of the auction.
        auction: The auction.
        ad_id: The ad whose bid is varied.
        truth: Outcome and requests at the auction's own bids.
        lottery: The lottery at these bids; of a mechanism without one, its outcome with probability 1.
    """

    def __init__(
        self, runner: Runner, case: str, auction: Auction, ad_id: str, truth: tuple[Outcome, Requests], lottery: Lottery
    ) -> None:
        self._runner = runner
        self._case = case
        self._auction = auction
        self._ad_id = ad_id
        self._value = auction.bid_of(ad_id).amount
        self._requests = truth[1]
        self._texts: dict[float, str] = {}
        self._ex_post: dict[float, Expected] = {}
        self._expected: dict[float, Expected] = {}
        self._add(self._value, auction, truth[0], lottery)

    def check(self) -> None:
        """Tries a grid of bids.

        Raises:
            ClaimViolated: a claim does not hold.
        """
        for amount in grid(self._value):
            self._try(amount)
        self._hold()

    def gap(self) -> float:
        """How much the bids that were tried may hide, in currency per answer: see `widest`."""
        return max((widest(responses)[0] for _, responses in self._curves()), default=0.0)

    def refine(self) -> None:
        """Tries bids in the gap in which most can be hidden: halves it again and again, to 1/64 of its width.

        For a claim of truthfulness the pair of bids around a step then fixes the payment to within the width of the
        gap, and so does a pair on a smooth curve.

        Raises:
            ClaimViolated: a claim does not hold.
        """
        for _, responses in self._curves():
            size, low, high = widest(responses)
            for _ in range(_HALVINGS if size else 0):
                middle = (low + high) / 2
                self._try(middle)
                _, low, high = max(widest(responses, (low, middle)), widest(responses, (middle, high)))
                if low == high:
                    break
        self._hold()

    @property
    def tells_bids(self) -> bool:
        """Whether the texts contain the bid."""
        return tells_bids(self._texts)

    def _curves(self) -> list[tuple[Claim, dict[float, Expected]]]:
        """Claims of truthfulness with what they are about."""
        claimed = self._runner.claimed(_TRUTHFUL)
        return [(claim, self._ex_post if claim in EX_POST else self._expected) for claim in claimed]

    def _try(self, amount: float) -> None:
        if amount in self._texts:
            return
        case = f"{self._case}, {self._ad_id} bidding {amount:g}"
        other = with_bid(self._auction, self._ad_id, amount)
        exact = bool(self._runner.claimed(EXPECTED))
        lottery = self._runner.lottery(case, other) if exact else None
        outcome, requests = self._runner.run(case, other)
        if Claim.BID_FREE_CANDIDATES in self._runner.claims and requests != self._requests:
            self._fail(Claim.BID_FREE_CANDIDATES, f"{self._ad_id} bidding {amount:g} changed the requests to the model")
        self._add(amount, other, outcome, lottery or [(1.0, outcome)])

    def _add(self, amount: float, auction: Auction, outcome: Outcome, lottery: Lottery) -> None:
        self._texts[amount] = outcome.response
        predictions = self._runner.predictions
        if self._runner.claimed(EX_POST):
            self._ex_post[amount] = expectation([(1.0, outcome)], predictions, auction, self._ad_id)
        if self._runner.claimed(EXPECTED):
            self._expected[amount] = expectation(lottery, predictions, auction, self._ad_id)

    def _hold(self) -> None:
        """Holds the mechanism to its claims at the bids that were tried."""
        slack = TOLERANCE * max([1.0, *self._texts, *(bid.amount for bid in self._auction.bids)])
        for claims, responses in ((EX_POST, self._ex_post), (EXPECTED, self._expected)):
            for claim in self._runner.claimed(claims):
                what = broken(claim, responses, slack)
                if what is not None:
                    self._fail(claim, f"{self._ad_id}: {what}")
        if Claim.BID_FREE_CANDIDATES in self._runner.claims and self.tells_bids:
            self._fail(Claim.BID_FREE_CANDIDATES, f"the answers contain the bid of {self._ad_id}")

    def _fail(self, claim: Claim, what: str) -> None:
        self._runner.fail(self._case, f"{claim}: {what}")
