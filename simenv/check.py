"""`check_mechanism`: the public conformance suite.

Every mechanism must answer every auction, including degenerate ones, with an outcome that matches its own text, and
with the same outcome when it is run again. If it has a `lottery`, the outcome must be in it. In addition, the suite
checks the claims that the mechanism makes, and no others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from simenv import markup
from simenv.background_loop import run_sync
from simenv.ctr.models import CTRModel, own_ctr_model
from simenv.errors import ClaimViolated, InputError, MechanismFailed, OutcomeError, SimenvError
from simenv.llm.base import AnyRequest, metered
from simenv.mechanism import Claim, Claiming, Lottery, Mechanism, Randomised, lottery_of, mechanism_name, run_mechanism
from simenv.records import Ad, Auction, Bid, Outcome, Query, Record
from simenv.seeding import keyed_rng

_TOLERANCE = 1e-6
"""Share of the largest bid by which rounding may break an inequality."""
_WORDS = (
    "boots",
    "loan",
    "course",
    "coffee",
    "tent",
    "piano",
    "scooter",
    "blanket",
    "camera",
    "novel",
    "salad",
    "lamp",
)


_EX_POST = frozenset({Claim.MONOTONE, Claim.TRUTHFUL_UM, Claim.BID_FREE_CANDIDATES})
_EXPECTED = frozenset(
    {
        Claim.RATIONAL_IN_EXPECTATION,
        Claim.MONOTONE_IN_EXPECTATION,
        Claim.TRUTHFUL_UM_IN_EXPECTATION,
        Claim.TRUTHFUL_VM,
    }
)


class Expected(NamedTuple):
    """Expected clicks and payment of one advertiser over a lottery, under a mechanism's own predictions."""

    itctr: float
    """Expected clicks: probability of being shown times that of a click, summed over outcomes (LLM-Auction, eq. 1)."""
    payment: float
    """Expected price times click, plus transfers, in currency."""

    def utility(self, value: float) -> float:
        """Expected utility, in currency, of an advertiser with this value per click."""
        return value * self.itctr - self.payment


def expectation(lottery: Lottery, ctr_model: CTRModel, auction: Auction, ad_id: str) -> Expected:
    """Expected clicks and payment of one advertiser over a lottery (see `lottery_of`)."""
    itctr = payment = 0.0
    for weight, outcome in lottery:
        price = next((p.price for p in outcome.placements if p.ad_id == ad_id), None)
        if price is not None:
            shown = [placement.ad_id for placement in outcome.placements]
            prob = ctr_model.click_probs(auction, outcome.response, shown)[ad_id]
            itctr += weight * prob
            payment += weight * prob * price
        payment += weight * outcome.transfers.get(ad_id, 0.0)
    return Expected(itctr, payment)


class CheckReport(Record):
    """Summary of a passed check."""

    mechanism: str
    claims: tuple[str, ...]
    auctions: int
    """Auctions answered, counterfactual bids not counted."""
    runs: int
    """Times the mechanism was run."""


def check_mechanism(mechanism: Mechanism, *, auctions: int = 20, seed: int = 0) -> CheckReport:
    """Checks that `mechanism` follows the interface and satisfies its claims.

    The result is deterministic for a given seed: draws are keyed, and there are no statistical tests.

    Args:
        mechanism: The mechanism. If it makes claims about bids, it needs a `ctr_model` with the predictions it uses.
        auctions: Number of random auctions, in addition to the degenerate ones.
        seed: Seed of the random auctions.

    Raises:
        ClaimViolated: a rule or a claim is broken; the message names the first one and its auction.
    """
    checker = _Checker(mechanism)
    cases = [*degenerate_auctions(), *(random_auction(seed, i) for i in range(auctions))]
    for name, auction in cases:
        checker.check(name, auction)
    claims = tuple(sorted(checker.claims))
    return CheckReport(mechanism=mechanism_name(mechanism), claims=claims, auctions=len(cases), runs=checker.runs)


def random_auction(seed: int, index: int) -> tuple[str, Auction]:
    """A random auction with 1 to 12 artificial ads and bids in 1..100; returns its name and the auction."""
    rng = keyed_rng("check", seed, index)
    n = int(rng.integers(1, 13))
    relevance = np.sort(rng.uniform(-0.1, 0.8, n))[::-1]
    auction = _auction(
        f"check.{seed}.{index}",
        [float(b) for b in rng.integers(1, 101, n)],
        [float(x) for x in relevance],
        max_ads=int(rng.integers(1, 4)),
        reserve=float(rng.choice([0.0, 0.0, 10.0, 40.0])),
    )
    return f"random auction {index}", auction


def degenerate_auctions() -> Iterator[tuple[str, Auction]]:
    """Named auctions at the limits of the allowed input."""
    yield "no candidates", _auction("check.none", [], [])
    yield "one bidder", _auction("check.one", [50.0], [0.5])
    yield "all bids zero", _auction("check.zero", [0.0] * 4, [0.6, 0.5, 0.4, 0.3])
    yield "equal bids and relevance", _auction("check.equal", [10.0] * 4, [0.5] * 4)
    yield "huge bids", _auction("check.huge", [1e9, 5e8, 1e-9], [0.5, 0.4, 0.3])
    yield "negative relevance", _auction("check.negative", [10.0, 20.0], [-0.9, -1.0])
    yield "no ad is free", _auction("check.noslot", [10.0, 20.0], [0.5, 0.4], max_ads=0)
    yield "nothing above the reserve", _auction("check.reserve", [10.0, 20.0], [0.5, 0.4], reserve=30.0)
    yield "bid at the reserve", _auction("check.atreserve", [30.0, 20.0], [0.5, 0.4], reserve=30.0)
    yield (
        "64 candidates",
        _auction("check.many", [float(1 + i % 7) for i in range(64)], [0.9 - i / 80 for i in range(64)]),
    )


def _auction(
    auction_id: str, bids: list[float], relevance: list[float], max_ads: int = 2, reserve: float = 0.0
) -> Auction:
    rng = keyed_rng("check-ads", auction_id)
    candidates = tuple(
        Bid(
            ad=Ad(
                id=f"c{i}",
                advertiser=f"Advertiser {i}",
                title=f"{rng.choice(_WORDS)} {rng.choice(_WORDS)} number {i}".capitalize(),
                body="A product that does what it says.",
            ),
            amount=amount,
            relevance=cosine,
        )
        for i, (amount, cosine) in enumerate(zip(bids, relevance, strict=True))
    )
    query = Query(text=f"Which {rng.choice(_WORDS)} should I choose?")
    return Auction(id=auction_id, query=query, profile="A person.", bids=candidates, max_ads=max_ads, reserve=reserve)


class _Checker:
    def __init__(self, mechanism: Mechanism) -> None:
        self.mechanism = mechanism
        self.claims = _claims(mechanism)
        self.runs = 0
        self._ctr = own_ctr_model(mechanism)

    def check(self, case: str, auction: Auction) -> None:
        outcome, requests = self._run(case, auction)
        again, _ = self._run(case, auction)
        if again != outcome:
            self._fail(case, "deterministic: a second run with the same auction and generator gave another outcome")
        if Claim.INDIVIDUALLY_RATIONAL in self.claims:
            self._check_rational(case, auction, outcome)
        lottery = self._lottery(case, auction) if isinstance(self.mechanism, Randomised) else [(1.0, outcome)]
        if not any(prob > 0 and _same_answer(outcome, other) for prob, other in lottery):
            self._fail(case, "consistent with its lottery: it returned an outcome that is not in the lottery")
        for ad_id in self._probed(auction, outcome):
            if self.claims & _EX_POST:
                self._check_bids(case, auction, outcome, requests, ad_id)
            if self.claims & _EXPECTED:
                self._check_expectations(case, auction, lottery, ad_id)

    def _run(self, case: str, auction: Auction) -> tuple[Outcome, frozenset[AnyRequest]]:
        self.runs += 1

        async def run() -> tuple[Outcome, frozenset[AnyRequest]]:
            with metered() as meter:
                outcome = await run_mechanism(self.mechanism, auction)
            return outcome, frozenset(meter.requests)

        try:
            outcome, requests = run_sync(run)
            markup.verify(outcome, auction)
            unpriced = [v.text for v in outcome.violations if v.kind == "unpriced_ad"]
            if unpriced:
                raise OutcomeError(f"the answer shows {', '.join(unpriced)} without a price")
        except MechanismFailed as error:
            raise ClaimViolated(f"on {case}: {error}") from error
        except SimenvError as error:
            raise ClaimViolated(
                f"{mechanism_name(self.mechanism)} on {case} gives no valid outcome: {error}"
            ) from error
        return outcome, requests

    def _lottery(self, case: str, auction: Auction) -> Lottery:
        """The exact distribution of outcomes, each verified against its text."""

        async def run() -> Lottery:
            return await lottery_of(self.mechanism, auction)

        try:
            lottery = run_sync(run)
            for _, outcome in lottery:
                markup.verify(outcome, auction)
        except SimenvError as error:
            unknown = isinstance(error, InputError) and not isinstance(error, OutcomeError)
            if unknown and not self.claims & _EXPECTED:  # only claims in expectation require the lottery
                return [(1.0, self._run(case, auction)[0])]
            raise ClaimViolated(
                f"{mechanism_name(self.mechanism)} on {case} gives no valid lottery: {error}"
            ) from error
        return lottery

    def _fail(self, case: str, what: str) -> None:
        raise ClaimViolated(f"{mechanism_name(self.mechanism)} on {case} is not {what}")

    def _check_rational(self, case: str, auction: Auction, outcome: Outcome) -> None:
        slack = self._slack(auction)
        for bid in auction.bids:
            price = next((p.price for p in outcome.placements if p.ad_id == bid.ad.id), 0.0)
            if price > bid.amount + slack:
                self._fail(case, f"{Claim.INDIVIDUALLY_RATIONAL}: {bid.ad.id} bids {bid.amount} and pays {price}")
            if bid.ad.id in outcome.transfers and self._utility(auction, outcome, bid.ad.id, bid.amount) < -slack:
                self._fail(case, f"{Claim.INDIVIDUALLY_RATIONAL}: {bid.ad.id} is charged beyond its predicted value")

    def _check_bids(
        self, case: str, auction: Auction, truth: Outcome, requests: frozenset[AnyRequest], ad_id: str
    ) -> None:
        """Varies one advertiser's bid over a grid; everything else, including randomness, stays fixed."""
        value = _amount(auction, ad_id)
        slack = self._slack(auction)
        truthful = self._utility(auction, truth, ad_id, value) if Claim.TRUTHFUL_UM in self.claims else 0.0
        last = -1.0
        for amount in _grid(value):
            other = with_bid(auction, ad_id, amount)
            outcome, new_requests = self._run(f"{case}, {ad_id} bidding {amount:g}", other)
            if Claim.BID_FREE_CANDIDATES in self.claims and new_requests != requests:
                self._fail(
                    case, f"{Claim.BID_FREE_CANDIDATES}: {ad_id} bidding {amount:g} changed the requests to the model"
                )
            if Claim.MONOTONE in self.claims:
                prob = self._click_probs(other, outcome).get(ad_id, 0.0)
                if prob < last - _TOLERANCE:
                    self._fail(case, f"{Claim.MONOTONE}: raising the bid of {ad_id} to {amount:g} lowers its CTR")
                last = prob
            if Claim.TRUTHFUL_UM in self.claims:
                gain = self._utility(other, outcome, ad_id, value) - truthful
                if gain > slack:
                    self._fail(
                        case, f"{Claim.TRUTHFUL_UM}: {ad_id} with value {value:g} gains {gain:g} by bidding {amount:g}"
                    )

    def _check_expectations(self, case: str, auction: Auction, truth: Lottery, ad_id: str) -> None:
        """Varies one advertiser's bid over a grid; all expectations are exact over the mechanism's own draw."""
        value = _amount(auction, ad_id)
        slack = self._slack(auction)
        truthful = expectation(truth, self._predictions(), auction, ad_id)
        if Claim.RATIONAL_IN_EXPECTATION in self.claims and truthful.utility(value) < -slack:
            self._fail(case, f"{Claim.RATIONAL_IN_EXPECTATION}: {ad_id} with value {value:g} pays {truthful.payment:g}")
        if Claim.TRUTHFUL_VM in self.claims and not _keeps_target(truthful, value):
            self._fail(case, f"{Claim.TRUTHFUL_VM}: {ad_id} bids {value:g} and pays more than that per click")
        last = -1.0
        for amount in _grid(value) if self.claims & _EXPECTED - {Claim.RATIONAL_IN_EXPECTATION} else ():
            other = with_bid(auction, ad_id, amount)
            lottery = self._lottery(f"{case}, {ad_id} bidding {amount:g}", other)
            deviation = expectation(lottery, self._predictions(), other, ad_id)
            if Claim.MONOTONE_IN_EXPECTATION in self.claims and deviation.itctr < last - _TOLERANCE:
                self._fail(
                    case, f"{Claim.MONOTONE_IN_EXPECTATION}: raising the bid of {ad_id} to {amount:g} lowers its CTR"
                )
            last = deviation.itctr
            gain = deviation.utility(value) - truthful.utility(value)
            if Claim.TRUTHFUL_UM_IN_EXPECTATION in self.claims and gain > slack:
                what = f"{ad_id} with value {value:g} gains {gain:g} by bidding {amount:g}"
                self._fail(case, f"{Claim.TRUTHFUL_UM_IN_EXPECTATION}: {what}")
            more = deviation.itctr > truthful.itctr + _TOLERANCE and _keeps_target(deviation, value)
            if Claim.TRUTHFUL_VM in self.claims and more:
                what = f"{ad_id} may pay {value:g} per click and gets more clicks by bidding {amount:g}"
                self._fail(case, f"{Claim.TRUTHFUL_VM}: {what}")

    def _predictions(self) -> CTRModel:
        if self._ctr is None:
            raise ClaimViolated(
                f"{mechanism_name(self.mechanism)} makes claims about bids but has no ctr_model to check them in",
                hint="give its constructor a parameter ctr_model, and keep it as self.ctr_model",
            )
        return self._ctr

    def _click_probs(self, auction: Auction, outcome: Outcome) -> dict[str, float]:
        shown = [placement.ad_id for placement in outcome.placements]
        if not shown:
            return {}
        return dict(self._predictions().click_probs(auction, outcome.response, shown))

    def _utility(self, auction: Auction, outcome: Outcome, ad_id: str, value: float) -> float:
        """Predicted value of clicks minus payments, in currency."""
        price = next((p.price for p in outcome.placements if p.ad_id == ad_id), 0.0)
        prob = self._click_probs(auction, outcome).get(ad_id, 0.0)
        return prob * (value - price) - outcome.transfers.get(ad_id, 0.0)

    def _probed(self, auction: Auction, outcome: Outcome) -> list[str]:
        """Ids of the ads whose bids are varied: all shown ads, and the first two that are not shown."""
        shown = [placement.ad_id for placement in outcome.placements]
        return shown + [bid.ad.id for bid in auction.bids if bid.ad.id not in shown][:2]

    @staticmethod
    def _slack(auction: Auction) -> float:
        return _TOLERANCE * max([1.0, *(bid.amount for bid in auction.bids)])


def _amount(auction: Auction, ad_id: str) -> float:
    return next(bid.amount for bid in auction.bids if bid.ad.id == ad_id)


def _grid(value: float) -> list[float]:
    """The bids to try for an advertiser with this value."""
    return sorted({0.0, 0.25 * value, 0.5 * value, 0.8 * value, value, 1.25 * value, 2 * value, 4 * value})


def _keeps_target(expected: Expected, limit: float) -> bool:
    """Whether the mean cost per expected click is at most `limit` = v / t, so that value per cost is at least t."""
    return expected.payment <= limit * expected.itctr * (1 + 1e-9)


def _same_answer(a: Outcome, b: Outcome) -> bool:
    """Whether two outcomes show the same answer. Prices may differ, because a lottery has expected prices."""
    return a.response == b.response and [p.ad_id for p in a.placements] == [p.ad_id for p in b.placements]


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


def with_bid(auction: Auction, ad_id: str, amount: float) -> Auction:
    """The same auction with one bid changed."""
    bids = tuple(
        bid.model_copy(update={"amount": float(amount)}) if bid.ad.id == ad_id else bid for bid in auction.bids
    )
    return auction.model_copy(update={"bids": bids})
