"""Tests draws of `run` against the mechanism's lottery, with a bound on the probability of a false alarm.

`LotteryTest` collects draws of any number of auctions and compares

- the answers with their probabilities: exact binomial tests of every answer of an auction, and of the most likely
  answer, the second, the third and the answer without ads over all auctions together;
- the propensity that a draw logs with the lottery's probability of its answer;
- prices and transfers with those of the lottery. A charge that is the same in all draws of an answer must be the
  lottery's. One that varies must be right on average: it is tested by betting (Waudby-Smith and Ramdas 2024,
  "Estimating means of bounded random variables by betting"), valid for any distribution between 0 and the bid.

If `run` follows the lottery, the answers and the varying charges together raise an alarm with a probability of at most
`FALSE_ALARM` over fresh draws.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from simenv.mechanism import Lottery, mechanism_rng
from simenv.records import Auction, Outcome
from simenv.seeding import keyed_rng

DRAWS = 20
"""Draws of each auction by a mechanism that draws from its generator. One that draws by the keys of its requests to a
language model has one draw of each auction."""
FALSE_ALARM = 1e-6
"""Probability that a mechanism which follows its lottery fails, at most."""
MIN_REPEATS = 20
"""Repeated draws of an answer, over all auctions, from which a charge that never varied counts as certain."""
_MIN_DRAWS = 10
"""Draws of an auction from which its answers are tested one by one."""
_RANKS = 3
_STAKES = np.array([0.05, 0.1, 0.25, 0.5, 0.9])
"""Shares of the capital that the gambler bets; the capital is the mean over them."""
_ROUNDING = 1e-6
_LOGGED = 0.01
"""Relative error of a logged propensity: a model in bfloat16 scores the same text differently in other batches."""

Answer = tuple[str, tuple[str, ...]]
"""What users see: response and ids of the ads. Prices may differ, because a lottery has expected prices."""


def answer_of(outcome: Outcome) -> Answer:
    """The answer of an outcome."""
    return outcome.response, tuple(placement.ad_id for placement in outcome.placements)


def draw_rngs(auction: Auction, drew: bool) -> list[np.random.Generator | None]:
    """Generators for draws of `run` on an auction; None is the auction's own.

    Args:
        auction: The auction.
        drew: Whether the mechanism draws from its generator. If it does not, other generators give the same outcome.
    """
    return [keyed_rng("check-draw", auction.id, i) for i in range(DRAWS)] if drew else [None]


def has_drawn(rng: np.random.Generator, auction: Auction) -> bool:
    """Whether numbers were drawn from a generator of `mechanism_rng(auction)`."""
    return bool(rng.bit_generator.state != mechanism_rng(auction).bit_generator.state)


class LotteryTest:
    """Collects draws and tests them."""

    def __init__(self) -> None:
        self.draws = 0
        self._faults: list[str] = []
        self._cells: list[tuple[str, int, int, float]] = []
        """Where, times drawn, draws, probability."""
        self._pooled: dict[str, list[tuple[int, int, float]]] = defaultdict(list)
        self._charges = {kind: _Charges(kind) for kind in ("price", "transfer")}

    def add(self, auction: Auction, lottery: Lottery, drawn: Sequence[Outcome]) -> None:
        """Adds draws of `run` on one auction, each with its own generator."""
        n = len(drawn)
        self.draws += n
        entries: dict[Answer, list[tuple[float, Outcome]]] = defaultdict(list)
        for prob, outcome in lottery:
            entries[answer_of(outcome)].append((prob, outcome))
        probs = {answer: min(1.0, math.fsum(prob for prob, _ in rows)) for answer, rows in entries.items()}
        counts = Counter(map(answer_of, drawn))
        unknown = [answer for answer in counts if not probs.get(answer)]
        if unknown:
            shown = ", ".join(unknown[0][1]) or "no ad"
            self._faults.append(f"it returned an outcome that is not in the lottery, an answer with {shown}")
            return
        order = sorted(probs, key=lambda answer: -probs[answer])
        if len(order) > 1:
            if n >= _MIN_DRAWS:
                self._cells += [
                    (f"an answer of auction {auction.id}", counts[answer], n, probs[answer]) for answer in order
                ]
            for rank, answer in enumerate(order[:_RANKS]):
                name = f"the answers that are number {rank + 1} by probability"
                self._pooled[name].append((counts[answer], n, probs[answer]))
            without = [answer for answer in order if not answer[1]]
            share = min(1.0, math.fsum(probs[answer] for answer in without))
            self._pooled["the answers without ads"].append((sum(counts[answer] for answer in without), n, share))
        for outcome in drawn:
            self._add_outcome(auction, entries[answer_of(outcome)], outcome)

    def _add_outcome(self, auction: Auction, rows: list[tuple[float, Outcome]], outcome: Outcome) -> None:
        total = math.fsum(prob for prob, _ in rows)
        logged = outcome.details.get("propensity")
        if isinstance(logged, int | float) and not isinstance(logged, bool):
            known = [total, *(prob for prob, _ in rows)]  # several choices may lead to the same answer
            if not any(abs(logged - prob) <= _LOGGED * prob for prob in known):
                self._faults.append(
                    f"on auction {auction.id} it logs the propensity {logged:.6g} of an answer that the lottery gives "
                    f"the probability {total:.6g}"
                )
        answer = answer_of(outcome)
        for kind, of in (("price", _prices), ("transfer", _transfers)):
            observed = of(outcome)
            stated = [(prob / total, of(other)) for prob, other in rows]
            for ad_id in observed.keys() | {i for _, charges in stated for i in charges}:
                mean = math.fsum(weight * charges.get(ad_id, 0.0) for weight, charges in stated)
                bid = auction.bid_of(ad_id).amount
                self._charges[kind].add((auction.id, answer, ad_id), observed.get(ad_id, 0.0), mean, bid)

    def fault(self) -> str | None:
        """The first way in which the draws contradict the lottery; None: they do not."""
        cells = [(where, _tails(k, n, p), k, n * p) for where, k, n, p in self._cells]
        for tests in (self._pooled_tests(), cells):
            for what, prob, seen, expected in tests:
                if prob < FALSE_ALARM / 4 / len(tests):
                    self._faults.append(
                        f"{what} came {seen} times in its draws, and the lottery says {expected:.1f} times"
                        f" (probability {prob:.1g})"
                    )
        for charges in self._charges.values():
            self._faults += charges.faults(FALSE_ALARM / 2 / len(self._charges))
        return self._faults[0] if self._faults else None

    def _pooled_tests(self) -> list[tuple[str, float, int, float]]:
        tests = []
        for what, parts in self._pooled.items():
            total = np.ones(1)
            for _, n, p in parts:
                total = np.convolve(total, _pmf(n, p))
            seen = sum(k for k, _, _ in parts)
            tail = min(float(total[: seen + 1].sum()), float(total[seen:].sum()))
            tests.append((what, min(1.0, 2 * tail), seen, sum(n * p for _, n, p in parts)))
        return tests


class _Charges:
    """Prices, or transfers, of draws against the means that the lottery gives for their answers."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._seen: dict[object, float] = {}
        self._repeats = 0
        self._varies = False
        self._wrong: str | None = None
        self._more, self._less = np.zeros(len(_STAKES)), np.zeros(len(_STAKES))
        """Logarithm of the capital of gamblers on higher and on lower charges."""
        self._bounded = [True, True]
        self._sums = np.zeros(3)

    def add(self, key: tuple[str, Answer, str], observed: float, mean: float, bid: float) -> None:
        """Adds one charge of the advertiser with this bid; `mean` is the lottery's."""
        slack = _ROUNDING * max(1.0, bid)
        if key in self._seen:
            self._repeats += 1
            self._varies |= abs(self._seen[key] - observed) > slack
        self._seen[key] = observed
        if self._wrong is None and abs(observed - mean) > slack:
            self._wrong = (
                f"on auction {key[0]} it charges {key[2]} a {self._kind} of {observed:g}, and the lottery {mean:g}"
            )
        if bid <= 0:
            return
        x, m = observed / bid, mean / bid
        self._sums += (x, m, 1)
        if self._kind == "transfer":  # between -bid and bid
            x, m = (x + 1) / 2, (m + 1) / 2
        if abs(x - m) <= _ROUNDING:
            x = m
        self._bounded[0] &= x >= -_ROUNDING  # who bets on higher charges needs a lower bound, on lower ones an upper
        self._bounded[1] &= x <= 1 + _ROUNDING
        self._more += _log_gain(max(0.0, x), max(0.0, m))
        self._less += _log_gain(max(0.0, 1 - x), max(0.0, 1 - m))

    def faults(self, alarm: float) -> list[str]:
        """What is wrong, with a probability of at most `alarm` if nothing is and charges vary."""
        if self._wrong is None:
            return []
        if not self._varies and self._repeats >= MIN_REPEATS:
            return [self._wrong]
        for capital, bounded in zip((self._more, self._less), self._bounded, strict=True):
            if bounded and float(np.logaddexp.reduce(capital)) - math.log(len(_STAKES)) > math.log(2 / alarm):
                observed, mean, n = self._sums
                return [
                    f"its draws charge {self._kind}s of {observed / n:.1%} of the bid on average, "
                    f"and the lottery expects {mean / n:.1%}"
                ]
        return []


def _log_gain(x: float, m: float) -> npt.NDArray[np.float64]:
    """Logarithm of 1 + stake (x - m) / m: the gambler's gain where x >= 0 has mean m."""
    if m <= 0:
        return np.full(len(_STAKES), math.inf if x > 0 else 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(np.maximum(0.0, 1 + _STAKES * (x - m) / m)), dtype=np.float64)


def _prices(outcome: Outcome) -> dict[str, float]:
    return {placement.ad_id: placement.price for placement in outcome.placements}


def _transfers(outcome: Outcome) -> dict[str, float]:
    return dict(outcome.transfers)


def _pmf(n: int, p: float) -> npt.NDArray[np.float64]:
    """Binomial probabilities of 0..n."""
    return np.asarray(np.diff([_cdf(k, n, p) for k in range(-1, n + 1)]), dtype=np.float64)


def _tails(k: int, n: int, p: float) -> float:
    """Two-sided probability of a count as extreme as k: twice the smaller tail (Clopper and Pearson 1934)."""
    from scipy.special import bdtrc

    above = 1.0 if k == 0 else float(bdtrc(k - 1, n, p))
    return min(1.0, 2 * min(_cdf(k, n, p), above))


def _cdf(k: int, n: int, p: float) -> float:
    from scipy.special import bdtr

    return 0.0 if k < 0 else 1.0 if k >= n else float(bdtr(k, n, p))
