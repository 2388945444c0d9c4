"""Bidders, which turn private values into bids.

A bidder without memory draws by key only, so all mechanisms receive the same bids. A bidder with memory has `observe`
(see `simenv.abilities.Observer`) and receives the transitions of its own mechanism: each mechanism has its own
population of bidders.
"""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from simenv import registry
from simenv.abilities import Observer
from simenv.errors import InputError, UnknownName
from simenv.market.values import HIGHEST
from simenv.records import Ad, Transition, Unit
from simenv.registry import Kind
from simenv.seeding import keyed_rng


class BidRequest(NamedTuple):
    """Information that an advertiser has when it bids."""

    auction_id: str
    """What the bid is for: an auction; where turns are linked (`simenv.sessions`) a session."""
    session_id: str
    turn: int
    """Position of the turn in its session."""
    ad: Ad
    """The advertiser's own ad."""
    value: float
    """The advertiser's private value, currency per click, or per view if it bids per view."""
    unit: Unit = "click"
    """What the bid is for."""
    clicks: float = 1.0
    """Clicks that the advertiser expects of one unit: 1 for a bid per click."""
    turns: int = 1
    """Number of auctions that the bid holds for."""


class Bidder(Protocol):
    """Turns a private value into a bid. It may also be a `simenv.abilities.Observer` or `PerMechanism`."""

    name: str

    def bid(self, request: BidRequest) -> float:
        """Returns the bid: currency per click, or per view as `request.unit` says, at least 0 and finite."""
        ...


@runtime_checkable
class PerMechanism(Protocol):
    """Bidders that bid differently under each mechanism."""

    def of(self, mechanism: str) -> Bidder:
        """Returns the bidders under the mechanism with this label.

        Raises:
            UnknownName: there are no bidders for it.
        """
        ...


class ShadedBidder:
    """Bids a fixed share of the value; 1 is truthful."""

    def __init__(self, factor: float = 1.0) -> None:
        if not factor >= 0:
            raise InputError(f"the factor of a shaded bidder must be at least 0, got {factor}")
        self.factor = factor
        self.name = "truthful" if factor == 1 else f"shaded:{factor:g}"

    def bid(self, request: BidRequest) -> float:
        return self.factor * request.value


class ValueMaximiser(ShadedBidder):
    """Maximises value subject to value >= target_roi x payment: bids value / target_roi.

    A dominant strategy under first price for target_roi >= 1 (LLM-Auction, section 4.3).
    """

    def __init__(self, target_roi: float = 1.0) -> None:
        if not target_roi > 0:
            raise InputError(f"the target ROI must be positive, got {target_roi}")
        super().__init__(1 / target_roi)
        self.name = f"roi:{target_roi:g}"


class UniformBidder:
    """Bids a uniform integer in 1..100, independent of the value, as in the paper's experiments (section 5.1).

    A bid per view is such a number per click, times the clicks that the advertiser expects of a view.
    """

    name = "uniform"

    def bid(self, request: BidRequest) -> float:
        per_click = float(keyed_rng("bid", request.auction_id, request.ad.id).integers(1, HIGHEST + 1))
        return per_click * request.clicks


@dataclass
class _Tried:
    """A bid of `Exp3Bidder`, and what it brought so far."""

    arm: int
    prob: float
    value: float
    utility: float = 0.0


class Exp3Bidder:
    """Learns to shade its bids by EXP3 over a grid of factors, from its own clicks and payments.

    EXP3 (Auer, Cesa-Bianchi, Freund, Schapire 2002): an advertiser observes only the result of its own bid, so the
    gain of a factor is divided by the probability of the factor. Each ad learns separately, over all auctions in which
    it is a candidate. Gain: utility / value, in [-1, 1], rescaled to [0, 1]. Where turns are linked
    (`simenv.sessions`) it bids once for a session, and learns from the session's utility after its last turn.

    Args:
        grid: Factors of the value.
        rate: The gamma of EXP3: weight of exploration, and the learning rate.
    """

    name = "exp3"

    def __init__(self, grid: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0), rate: float = 0.1) -> None:
        if not grid or not all(0 <= factor < math.inf for factor in grid) or not 0 < rate <= 1:
            raise InputError(f"the bidder exp3 needs finite factors >= 0 and a rate in (0, 1], got {grid} and {rate}")
        self.grid = grid
        self.rate = rate
        self._log_weights: dict[str, npt.NDArray[np.float64]] = defaultdict(lambda: np.zeros(len(grid)))
        self._tried: dict[str, dict[str, _Tried]] = {}
        """What was bid for (`BidRequest.auction_id`) -> ad id -> the bid."""

    def strategy(self, ad_id: str) -> npt.NDArray[np.float64]:
        """Returns the probability of each factor: shape (len(grid),)."""
        weights = np.exp(self._log_weights[ad_id] - self._log_weights[ad_id].max())
        mixed = (1 - self.rate) * weights / weights.sum() + self.rate / len(self.grid)
        return np.asarray(mixed / mixed.sum(), dtype=np.float64)

    def bid(self, request: BidRequest) -> float:
        auction_id, ad_id = request.auction_id, request.ad.id
        probs = self.strategy(ad_id)
        arm = int(keyed_rng("learning bid", auction_id, ad_id).choice(len(self.grid), p=probs))
        self._tried.setdefault(auction_id, {})[ad_id] = _Tried(arm, float(probs[arm]), request.value)
        return self.grid[arm] * request.value

    def observe(self, transition: Transition) -> None:
        """Learns from one auction, or one turn of a session; abstained verdicts are ignored."""
        auction = transition.auction
        linked = auction.horizon is not None
        tried = self._tried.get(auction.session_id if linked else auction.id, {})
        clicks = {click.ad_id: click.clicked for click in transition.feedback.clicks}
        for bid in auction.bids:
            clicked = clicks.get(bid.ad.id, False)
            if bid.ad.id in tried:
                paid, value = transition.payments.get(bid.ad.id, 0.0), tried[bid.ad.id].value
                units = math.nan if clicked is None else bid.units(clicked) if bid.ad.id in clicks else 0.0
                tried[bid.ad.id].utility += value * units - paid
        if auction.horizon is None or auction.turn == auction.horizon - 1:
            for ad_id, it in tried.items():
                if it.value > 0 and math.isfinite(it.utility):
                    gain = (float(np.clip(it.utility / it.value, -1, 1)) + 1) / 2
                    self._log_weights[ad_id][it.arm] += self.rate * gain / (it.prob * len(self.grid))
            self._tried.pop(auction.session_id if linked else auction.id, None)


class MixedBidder:
    """Draws its share of the value from a fixed distribution.

    Args:
        shares: Shares of the value.
        probs: Probability of each share: shape (len(shares),).
    """

    name = "mixed"

    def __init__(self, shares: Sequence[float], probs: Sequence[float]) -> None:
        total = float(np.sum(probs))
        if not shares or len(shares) != len(probs) or min(*shares, *probs) < 0 or not abs(total - 1) < 1e-6:
            raise InputError(
                f"a mixed bidder needs shares >= 0 with probabilities that add up to 1, got {shares}, {probs}"
            )
        self._shares = tuple(shares)
        self._probs = np.array(probs, dtype=np.float64) / total

    def bid(self, request: BidRequest) -> float:
        rng = keyed_rng("mixed bid", request.auction_id, request.ad.id)
        return float(rng.choice(self._shares, p=self._probs)) * request.value


def population(bidder: Bidder, mechanism: str) -> Bidder:
    """Returns the bidders of one mechanism: a copy, so that populations learn separately."""
    return copy.deepcopy(bidder.of(mechanism) if isinstance(bidder, PerMechanism) else bidder)


class Budgeted:
    """A bidder with a budget: paces its bids and caps them at what is left, so it bids 0 after the budget is spent.

    Adaptive pacing (Balseiro and Gur 2019): bid = min(inner bid / (1 + mu), budget left); after each auction mu moves
    by rate x (spent - target) / target, where the target spends the budget evenly over the auctions.

    The cap keeps spent <= budget, whatever is clicked, if each auction is observed before the next bid and no ad pays
    more than its bid in one auction. Runs and environments keep the first condition for any chunk and concurrency. The
    second is the mechanism's: the world counts what breaks it (`Transition.overcharges`).

    Args:
        inner: The bidder without budget.
        budget: Currency per ad, for the run or for each session.
        scope: "run" or "session".
        auctions: Auctions over which the budget should last, per ad; None = no pacing.
        rate: Step of mu.
    """

    def __init__(
        self, inner: Bidder, budget: float, scope: str = "run", auctions: int | None = None, rate: float = 0.05
    ) -> None:
        if not budget > 0:
            raise InputError(f"a budget must be positive, got {budget}")
        if scope not in ("run", "session"):
            raise UnknownName("budget scope", scope, ["run", "session"])
        if auctions is not None and auctions < 1:
            raise InputError(f"a budget is paced over at least 1 auction, got {auctions}")
        self.name = f"{inner.name}, budget {budget:g} a {scope}"
        self._inner = inner
        self._budget = budget
        self._scope = scope
        self._target = budget / auctions if auctions else None
        self._rate = rate
        self._spent: dict[tuple[str, str], float] = defaultdict(float)
        self._mu: dict[tuple[str, str], float] = defaultdict(float)

    def of(self, mechanism: str) -> Budgeted:
        """Returns a copy with the inner bidders of one mechanism."""
        own = copy.copy(self)
        own._inner = population(self._inner, mechanism)
        return own

    def spent(self, session_id: str, ad_id: str) -> float:
        """Returns the currency spent so far from the budget for this session."""
        return self._spent[self._purse(session_id, ad_id)]

    def bid(self, request: BidRequest) -> float:
        purse = self._purse(request.session_id, request.ad.id)
        bid = self._inner.bid(request)
        left = self._budget - self._spent[purse]
        # Clicks or views may not cost more than the rest: one in each of the auctions that the bid holds for.
        return max(0.0, min(bid / (1 + self._mu[purse]), left / request.turns))

    def observe(self, transition: Transition) -> None:
        """Adds the payments to the spending and updates mu."""
        if isinstance(self._inner, Observer):
            self._inner.observe(transition)
        for bid in transition.auction.bids:
            purse = self._purse(transition.auction.session_id, bid.ad.id)
            paid = transition.payments.get(bid.ad.id, 0.0)
            self._spent[purse] += paid
            if self._target is not None:
                self._mu[purse] = max(0.0, self._mu[purse] + self._rate * (paid - self._target) / self._target)

    def _purse(self, session_id: str, ad_id: str) -> tuple[str, str]:
        return (session_id if self._scope == "session" else "", ad_id)


BIDDER: Kind[Bidder] = Kind("bidder", "simenv.bidders", ("bid",), "turns an advertiser's private value into a bid")
_OLDER_NAMES = {"learning": "exp3"}


def truthful() -> ShadedBidder:
    """Bids the value."""
    return ShadedBidder()


def shaded(factor: float) -> ShadedBidder:
    """Bids a fixed share of the value: shaded:FACTOR."""
    return ShadedBidder(factor)


def roi(target_roi: float) -> ValueMaximiser:
    """Maximises value subject to value >= target ROI x payment: roi:TARGET."""
    return ValueMaximiser(target_roi)


def make_bidder(name: str = "truthful", **options: Any) -> Bidder:
    """Builds a bidder by name.

    Args:
        name: "truthful", "uniform", "shaded:0.7", "roi:2", "exp3", "learned:FILE" (an audit.json),
            package.module:Class or file.py:Class.
        options: The constructor's own options.

    Raises:
        UnknownName: no bidder has this name.
        InputError: a number is missing or out of range, or a plug-in that cannot be loaded.
        DataFileError: FILE is not an audit.json, or holds no learned strategies.
    """
    return registry.make(BIDDER, _OLDER_NAMES.get(name, name), **options)
