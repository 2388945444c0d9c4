"""HostedLLM and a server that fails: what is tried again, how often, and after which wait."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from simenv.errors import LLMUnavailable
from simenv.llm import metered
from simenv.llm.hosted import HostedLLM
from simenv.testing import FAULTS, FakeFailure, FakeOpenAI, Fault
from tests.support.servers import client, echo


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_tried_again_until_it_passes(fault: Fault) -> None:
    with FakeOpenAI(echo) as server:
        server.fail_next(2, fault)
        llm = client(server, attempts=3, timeout=0.5 if fault == "timeout" else 30.0)
        with metered() as meter:
            reply = asyncio.run(llm.complete("hello", key=("a",)))
    assert reply.text == "You said: hello"
    assert server.count == 3
    assert llm.retries == 2
    assert meter.usage.calls == 1, "a try that failed is no completion"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_on_every_try_ends_in_an_error(fault: Fault) -> None:
    with FakeOpenAI(echo) as server:
        server.fail_share(1.0, fault)
        llm = client(server, attempts=3, timeout=0.5 if fault == "timeout" else 30.0)
        with metered() as meter, pytest.raises(LLMUnavailable, match="openai/fake") as caught:
            asyncio.run(llm.complete("hello", key=("a",)))
        assert caught.value.retryable
        assert (server.count, llm.retries, meter.usage.calls) == (3, 2, 0)

        server.fail_share(0.0, fault)  # the failure is not remembered
        assert asyncio.run(llm.complete("hello", key=("a",))).text == "You said: hello"


def test_a_server_that_fails_now_and_then_answers_everything() -> None:
    async def go(llm: HostedLLM) -> list[str]:
        replies = await asyncio.gather(*(llm.complete(f"number {i}", key=("a", i)) for i in range(40)))
        return [reply.text for reply in replies]

    with FakeOpenAI(echo) as server:
        server.fail_share(0.3, "429")
        llm = client(server, attempts=200)
        assert asyncio.run(go(llm)) == [f"You said: number {i}" for i in range(40)]
    assert llm.retries == server.count - 40 > 0


def test_a_server_that_says_when_to_come_back_is_left_alone_until_then() -> None:
    """By all calls: those that come in the meantime wait too."""
    arrived: list[float] = []

    class Server(FakeOpenAI):
        def arrived(self, body: dict[str, Any], headers: dict[str, str]) -> Fault | FakeFailure | None:
            arrived.append(time.monotonic())
            return super().arrived(body, headers)

    async def go(llm: HostedLLM) -> None:
        first = [asyncio.ensure_future(llm.complete("hello", key=(i,))) for i in range(2)]
        while not llm._health.waits:
            await asyncio.sleep(0.01)
        await asyncio.gather(*first, *(llm.complete("hello", key=(i,)) for i in range(2, 5)))

    with Server(echo) as server:
        server.fail_next(2, FakeFailure(429, "too many requests", {"retry-after-ms": "400", "Retry-After": "9"}))
        asyncio.run(go(client(server, max_wait=0.5)))
    assert len(arrived) == 7
    assert min(arrived[2:]) - arrived[0] >= 0.4
