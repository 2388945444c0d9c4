"""Mechanisms and judges that never return end in an error that names them, and what comes next works."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from simenv import background_loop, deadlines, outcome
from simenv.auditing.records import AuditOptions
from simenv.auditing.run import audit
from simenv.background_loop import run_sync
from simenv.deadlines import time_limit
from simenv.env import NativeAdsEnv
from simenv.errors import InputError, MechanismFailed, PlugInFailed
from simenv.mechanism import Mechanism, run_mechanism
from simenv.records import Auction, Feedback, Outcome, Persona
from simenv.testing import small_world
from tests.support.auctions import small_auction
from tests.support.bidding import FirstPrice

AUCTION = small_auction()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module in (background_loop, deadlines):
        monkeypatch.setattr(module, "_GRACE", 0.05)
    monkeypatch.setattr(background_loop, "_WATCH", 0.02)
    yield
    assert background_loop.stop(10), "nothing is left behind"


class FakeWaiting:
    """Waits for a minute; `ended` tells that it was cancelled."""

    def __init__(self) -> None:
        self.ended = False

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        try:
            await asyncio.sleep(60)
        finally:
            self.ended = True
        return outcome(auction, "Late.")


class FakeBusy:
    """An endless loop until it is released, in synchronous code."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.begun = threading.Event()

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        self.begun.set()
        while not self.released.is_set():
            time.sleep(0.001)
        return outcome(auction, "Late.")


class FakeStubborn(FakeBusy):
    """Ignores that it is cancelled."""

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:  # type: ignore[override]
        while not self.released.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return outcome(auction, "Late.")


class FakeSlow:
    """Blocks for a while, then answers."""

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        time.sleep(0.04)
        return outcome(auction, "Late.")


class FakeWaitingJudge:
    name = "waiting"

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        await asyncio.sleep(60)
        return Feedback()


def answer(mechanism: Mechanism, seconds: float = 0.03) -> Outcome:
    with time_limit(seconds):
        return run_sync(run_mechanism, mechanism, AUCTION)


def test_a_mechanism_that_waits_is_cancelled_and_named() -> None:
    waiting = FakeWaiting()
    with pytest.raises(MechanismFailed, match=r"FakeWaiting gave no answer to auction small\.4 within 0\.03 s"):
        answer(waiting)
    assert waiting.ended


def test_an_answer_that_comes_late_is_late() -> None:
    with pytest.raises(MechanismFailed, match="FakeSlow gave no answer"):
        answer(FakeSlow())
    assert answer(FakeSlow(), 60).response == "Late."


@pytest.mark.parametrize("kind", [FakeBusy, FakeStubborn])
def test_what_cannot_be_cancelled_is_left_behind_and_the_next_step_works(kind: type[FakeBusy]) -> None:
    stuck = kind()
    env = NativeAdsEnv(small_world(answer_timeout=0.03))
    env.reset(seed=1)
    try:
        with pytest.raises(MechanismFailed, match=r"gave no answer .* within 0\.03 s") as raised:
            env.step(stuck)
        if kind is FakeBusy:
            assert "its thread is in run (" in str(raised.value)
        env.world.answer_timeout = None
        world = small_world()
        session = run_sync(world.session, 1, 0)
        untouched = run_sync(lambda: world.step(session, 0, FirstPrice()))
        assert env.step(FirstPrice())[4]["transition"] == untouched, "the auction is still there to be answered"
    finally:
        stuck.released.set()


@pytest.mark.timeout(30)
def test_after_ctrl_c_on_a_busy_mechanism_the_next_one_answers() -> None:
    busy, env = FakeBusy(), NativeAdsEnv(small_world())
    before, _ = env.reset(seed=1)

    def interrupt() -> None:
        busy.begun.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        env.step(busy)
    try:
        assert run_sync(run_mechanism, FirstPrice(), AUCTION).placements
    finally:
        busy.released.set()
    assert background_loop.stop(10), "now it has ended"
    assert env.auction == before, "and what it answered does not count any more"
    assert env.step(FirstPrice())[4]["transition"].turn == 0


def test_ctrl_c_while_a_busy_mechanism_is_started_is_no_different(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interrupt comes after the mechanism has begun and before there is a future to cancel."""
    busy, start = FakeBusy(), asyncio.run_coroutine_threadsafe

    def interrupted(*args: Any) -> None:
        start(*args)
        assert busy.begun.wait(10)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "run_coroutine_threadsafe", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_sync(run_mechanism, busy, AUCTION)
    try:
        assert run_sync(run_mechanism, FirstPrice(), AUCTION).placements
    finally:
        busy.released.set()
    assert background_loop.stop(10), "now it has ended"


def test_a_judge_that_waits_is_named() -> None:
    env = NativeAdsEnv(small_world(judge=FakeWaitingJudge(), answer_timeout=0.03))
    env.reset(seed=1)
    with pytest.raises(PlugInFailed, match=r"judge 'waiting' gave no verdict on auction 1\.0\..* within 0\.03 s"):
        env.step(FirstPrice())


def test_audits_keep_the_limit_of_their_world() -> None:
    world, options = small_world(answer_timeout=0.03), AuditOptions(n=1)
    with pytest.raises(MechanismFailed, match="FakeWaiting gave no answer"):
        run_sync(lambda: audit(world, {"waiting": FakeWaiting()}, options))


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf")])
def test_limits_out_of_range_are_refused(seconds: float) -> None:
    with pytest.raises(InputError, match="answer_timeout must be above 0 and finite, or None for no limit, got"):
        small_world(answer_timeout=seconds)
