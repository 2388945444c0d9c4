"""A mechanism that forgets to await a completion is told so, without warnings beside the error."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import numpy as np
import pytest

from simenv import outcome
from simenv.errors import MechanismFailed, OutcomeError
from simenv.llm import ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.records import Auction, Outcome, Query

LLM: Any = ScriptedLLM()  # whose types would tell of these errors before the run
KEY = ("a",)


class Attribute:
    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return outcome(auction, LLM.complete("hi", key=KEY).text)


class AsyncAttribute:
    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        reply = LLM.complete("hi", key=KEY)
        return outcome(auction, reply.text)


class Joined:
    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        reply = LLM.complete("hi", key=KEY)
        return outcome(auction, "Hi " + reply)


class Passed:
    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return outcome(auction, LLM.complete("hi", key=KEY))


LINES = {
    Attribute: 'return outcome(auction, LLM.complete("hi", key=KEY).text)',
    AsyncAttribute: "return outcome(auction, reply.text)",
    Joined: 'return outcome(auction, "Hi " + reply)',
    Passed: 'return outcome(auction, LLM.complete("hi", key=KEY))',
}


@pytest.mark.parametrize("kind", LINES)
def test_the_error_shows_the_line_and_names_await(kind: type) -> None:
    with pytest.raises(MechanismFailed, match=r"coroutine.* is not awaited; write `await` before the call") as caught:
        asyncio.run(run_mechanism(kind(), Auction(id="a", query=Query(text="q"))))
    assert LINES[kind] in str(caught.value)
    assert "test_awaiting.py:" in str(caught.value)
    del caught
    gc.collect()  # warnings are errors here, that of a coroutine without await too


@pytest.mark.filterwarnings("ignore:coroutine 'LLM.complete' was never awaited:RuntimeWarning")
def test_a_coroutine_in_the_answer_is_no_answer() -> None:
    class Formatted:
        def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
            return outcome(auction, f"Hi {LLM.complete('hi', key=KEY)}")

    with pytest.raises(OutcomeError, match=r"Formatted answers auction a with 'Hi <coroutine .*write `await`"):
        asyncio.run(run_mechanism(Formatted(), Auction(id="a", query=Query(text="q"))))
