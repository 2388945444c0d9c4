"""Draws against a lottery: what follows it passes, and what does not is found, at the stated rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from simenv import Outcome, outcome
from simenv.check import FALSE_ALARM, draws, random_auction
from simenv.check.draws import LotteryTest
from simenv.mechanism import Lottery
from simenv.records import Auction
from simenv.seeding import keyed_rng

AUCTIONS = [auction for _, auction in (random_auction(0, i) for i in range(40)) if len(auction.bids) >= 3][:25]


def shown(auction: Auction, i: int, share: float, **details: object) -> Outcome:
    """One ad at a share of its bid."""
    bid = auction.bids[i]
    return outcome(auction, f"See {bid.ad.link}.", {bid.ad.id: share * bid.amount}, details=details)


def lottery_of_three(auction: Auction) -> Lottery:
    return [(0.5, shown(auction, 0, 0.5)), (0.3, shown(auction, 1, 0.5)), (0.2, outcome(auction, "No ad."))]


def drawn(
    key: str,
    probs: tuple[float, ...] = (0.5, 0.3, 0.2),
    share: Callable[[np.random.Generator], float] = lambda rng: 0.5,
) -> LotteryTest:
    """20 draws of each of 25 auctions, with these probabilities and with prices of this share of the bid."""
    test = LotteryTest()
    for auction in AUCTIONS:
        rng = keyed_rng("test draws", key, auction.id)
        choices = rng.choice(3, size=20, p=probs)
        rows = [outcome(auction, "No ad.") if i == 2 else shown(auction, i, share(rng)) for i in choices]
        test.add(auction, lottery_of_three(auction), rows)
    return test


def varying(rng: np.random.Generator) -> float:
    return float(rng.choice([0.1, 0.9]))


@pytest.mark.parametrize("share", [lambda rng: 0.5, varying, lambda rng: float(rng.random())])
def test_draws_of_the_lottery_pass(share: Callable[[np.random.Generator], float]) -> None:
    assert FALSE_ALARM == 1e-6
    test = drawn("right", share=share)
    assert test.draws == 500
    assert test.fault() is None


def test_false_alarms_are_as_rare_as_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 20%, 60 repetitions give 12 alarms at most on average; 27 or more with probability below 1e-5."""
    monkeypatch.setattr(draws, "FALSE_ALARM", 0.2)
    monkeypatch.setitem(globals(), "AUCTIONS", AUCTIONS[:6])
    alarms = sum(drawn(str(i), share=varying).fault() is not None for i in range(60))
    assert alarms < 27


@pytest.mark.parametrize(
    ("probs", "said"),
    [
        ((0.3, 0.5, 0.2), "number 1 by probability came"),
        ((0.35, 0.45, 0.2), "number 1 by probability came"),
        ((0.5, 0.45, 0.05), "number 2 by probability came"),
    ],
)
def test_other_probabilities_are_found(probs: tuple[float, ...], said: str) -> None:
    assert said in str(drawn("wrong", probs=probs).fault())


def test_other_certain_prices_are_found_exactly() -> None:
    assert "it charges" in str(drawn("price", share=lambda rng: 0.501).fault())
    assert "of 0, and the lottery" in str(drawn("price", share=lambda rng: 0.0).fault())


@pytest.mark.parametrize("factor", [0.6, 1.4, 10.0])
def test_other_varying_prices_are_found_on_average(factor: float) -> None:
    assert "of the bid on average" in str(drawn("vary", share=lambda rng: factor * varying(rng)).fault())


def test_what_is_not_in_the_lottery_is_found_at_once() -> None:
    test = LotteryTest()
    auction = AUCTIONS[0]
    test.add(auction, lottery_of_three(auction)[:2], [outcome(auction, "Another.")])
    assert "not in the lottery" in str(test.fault())


def test_a_logged_propensity_is_the_lotterys() -> None:
    auction = AUCTIONS[0]
    for logged, wrong in ((0.5, False), (0.75, True)):
        test = LotteryTest()
        test.add(auction, lottery_of_three(auction), [shown(auction, 0, 0.5, propensity=logged)])
        assert ("logs the propensity 0.75" in str(test.fault())) is wrong


def test_two_choices_with_one_answer_are_one_answer() -> None:
    auction = AUCTIONS[0]
    lottery = [(0.5, shown(auction, 0, 0.2)), (0.5, shown(auction, 0, 0.8))]
    rng = keyed_rng("two choices")
    for shares, wrong in (((0.2, 0.8), False), ((0.0, 0.1), True)):
        test = LotteryTest()
        rows = [shown(auction, 0, float(rng.choice(shares)), propensity=0.5) for _ in range(100)]
        test.add(auction, lottery, rows)
        assert (test.fault() is not None) is wrong


def test_a_transfer_that_the_lottery_does_not_have_is_found() -> None:
    auction = AUCTIONS[0]
    test = LotteryTest()
    row = outcome(auction, "No ad.", transfers={auction.bids[1].ad.id: 0.01})
    test.add(auction, [(1.0, outcome(auction, "No ad."))], [row] * 30)
    assert "a transfer of 0.01, and the lottery 0" in str(test.fault())
