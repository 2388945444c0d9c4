"""An error in one of several calls at once ends the others: nobody pays for answers that nobody reads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from simenv import make_mechanism, outcome, run_mechanism
from simenv.background_loop import gather, run_sync
from simenv.errors import LLMUnavailable, SimenvError
from simenv.judges.ensemble_judge import JudgeEnsemble
from simenv.judges.llm_judge import LLMJudge
from simenv.llm import Request, ScriptedLLM
from simenv.runs.sessions import Sessions
from simenv.testing import ADS, PERSONAS, small_world
from simenv.users.queries import LLMQueries
from tests.support.auctions import small_auction

AUCTION = small_auction(2)
ANSWER = outcome(AUCTION, f"Take {ADS[0].link} or {ADS[1].link}.", {ad.id: 5.0 for ad in ADS})


class FakeFailing(ScriptedLLM):
    """Its second request fails at once; the others wait, and `left` counts those that nobody has ended."""

    def __init__(self) -> None:
        self.left = self.begun = 0
        super().__init__(self._reply)
        self.follows_formats = True  # so that all are asked at once, not in stages

    async def _reply(self, request: Request) -> str:
        self.begun += 1
        if self.begun == 2:
            raise LLMUnavailable("down")
        self.left += 1
        try:
            await asyncio.sleep(60)
        finally:
            self.left -= 1
        return "late"


def ensemble(llm: FakeFailing) -> Callable[[], Awaitable[Any]]:
    judges = [LLMJudge(llm, wording=wording) for wording in (1, 2, 3)]
    return lambda: JudgeEnsemble(judges).judge(PERSONAS[0], AUCTION, ANSWER)


def samples(llm: FakeFailing) -> Callable[[], Awaitable[Any]]:
    return lambda: LLMJudge(llm, samples=3).judge(PERSONAS[0], AUCTION, ANSWER)


def sessions(llm: FakeFailing) -> Callable[[], Awaitable[Any]]:
    world = small_world(queries=LLMQueries(llm))
    begun = Sessions()

    async def get() -> None:
        try:
            await gather(begun.get(world, 0, number) for number in (0, 1, 2))
        finally:
            await begun.close()

    return get


def mechanism(name: str) -> Callable[[FakeFailing], Callable[[], Awaitable[Any]]]:
    def of(llm: FakeFailing) -> Callable[[], Awaitable[Any]]:
        made = make_mechanism(name, context={"llm": llm})
        return lambda: run_mechanism(made, small_auction())

    return of


@pytest.mark.timeout(30)
@pytest.mark.parametrize("calls", [ensemble, samples, sessions, mechanism("best_of_n")])
def test_an_error_ends_the_calls_beside_it(calls: Callable[[FakeFailing], Callable[[], Awaitable[Any]]]) -> None:
    async def go() -> int:
        with pytest.raises(SimenvError, match="down"):
            await asked()
        for _ in range(5):  # what was cancelled has its turn
            await asyncio.sleep(0)
        return llm.left

    llm = FakeFailing()
    asked = calls(llm)
    left = run_sync(go)
    assert llm.begun > 2
    assert left == 0
