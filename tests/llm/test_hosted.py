"""HostedLLM against a real HTTP server on this machine: requests, replies, usage, concurrency."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from typing import Any

import pytest

from simenv.errors import MissingCapability
from simenv.llm import JSONSchema, LinksOnly, Prompt, Sampling, metered
from simenv.llm.hosted import HostedLLM
from simenv.testing import FakeFailure, FakeOpenAI, Fault
from tests.support.servers import Messages, client, echo


def test_text_and_usage_come_back_and_are_metered() -> None:
    async def go(llm: HostedLLM) -> None:
        with metered() as meter:
            first = await llm.complete("one two three", key=("a",))
            await llm.complete(Prompt(system="be brief", user="four"), key=("b",))
        assert first.text == "You said: one two three"
        assert first.finish == "stop"
        assert first.logprobs is None
        # words: prompts 3 + 3, replies 5 + 3
        assert (meter.usage.calls, meter.usage.prompt_tokens, meter.usage.completion_tokens) == (2, 6, 8)
        assert meter.usage.cost_usd == 0  # no price list knows the model

    with FakeOpenAI(echo) as server:
        asyncio.run(go(client(server)))


def test_the_request_says_what_was_asked_for() -> None:
    sampling = Sampling(temperature=0.3, top_p=0.9, max_tokens=7, stop=("\n", "END"))
    with FakeOpenAI(echo) as server:
        llm = client(server)
        for key in [("a", 1), ("a", 1), ("a", 2)]:
            asyncio.run(llm.complete(Prompt(system="be brief", user="hi"), key=key, sampling=sampling))
    first, second = server.bodies  # the repeated request did not reach the server
    assert first["messages"] == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert (first["temperature"], first["top_p"], first["max_tokens"]) == (0.3, 0.9, 7)
    assert first["stop"] == ["\n", "END"]
    assert first["model"] == "fake"
    assert first["seed"] != second["seed"], "the sample index is part of the seed"


@pytest.mark.parametrize("concurrency", [1, 4])
def test_concurrency_is_used_and_bounded(concurrency: int) -> None:
    together = threading.Barrier(concurrency)  # a reply leaves only when `concurrency` requests are in flight

    def reply(_: Messages) -> str:
        together.wait(timeout=20)
        return "ok"

    async def go(session: str) -> None:
        await asyncio.gather(*(llm.complete("hi", key=(session, i)) for i in range(3 * concurrency)))

    with FakeOpenAI(reply) as server:
        llm = client(server, concurrency=concurrency, attempts=1)
        asyncio.run(go("first"))
        asyncio.run(go("in another event loop"))
    assert server.count == 6 * concurrency
    assert server.most_in_flight == concurrency


def test_the_same_request_reaches_the_server_once_and_is_metered_each_time() -> None:
    async def go(llm: HostedLLM) -> None:
        with metered() as meter:
            first = await llm.complete("hello", key=("a", 0))
            again = await llm.complete("hello", key=("a", 0))
        assert again == first
        assert meter.usage == first.usage + first.usage
        assert server.count == 1
        await llm.complete("hello", key=("a", 1))  # another sample
        assert server.count == 2

    with FakeOpenAI(echo) as server:
        asyncio.run(go(client(server)))


_SCHEMA = {"type": "object", "properties": {"clicked": {"type": "boolean"}}, "required": ["clicked"]}


def test_a_schema_is_passed_on() -> None:
    with FakeOpenAI(lambda _: '{"clicked": true}') as server:
        constraint = JSONSchema(text=json.dumps(_SCHEMA))
        asyncio.run(client(server).complete("hi", key=("a",), constraint=constraint))
    assert server.bodies[0]["response_format"]["json_schema"]["schema"] == _SCHEMA


def test_a_server_without_schemas_is_asked_in_words_from_then_on() -> None:
    with FakeOpenAI(lambda _: '{"clicked": true}', takes_schemas=False) as server:
        llm = client(server)
        for i in range(2):
            reply = asyncio.run(llm.complete("hi", key=("a", i), constraint=JSONSchema(text=json.dumps(_SCHEMA))))
            assert reply.text == '{"clicked": true}'
    assert ["response_format" in body for body in server.bodies] == [True, False, False]
    assert llm.retries == 0


def test_calls_that_are_under_way_when_schemas_are_refused_are_asked_in_words_too() -> None:
    """All arrive before the first is refused, so that all ask with the schema."""
    everyone = threading.Barrier(4, timeout=30)
    constraint = JSONSchema(text=json.dumps(_SCHEMA))

    class Together(FakeOpenAI):
        def arrived(self, body: dict[str, Any], headers: dict[str, str]) -> Fault | FakeFailure | None:
            if "response_format" in body:
                everyone.wait()
            return super().arrived(body, headers)

    async def go(llm: HostedLLM) -> list[str]:
        calls = [llm.complete("hi", key=("a", i), constraint=constraint) for i in range(4)]
        return [reply.text for reply in await asyncio.gather(*calls)]

    with Together(lambda _: "true", takes_schemas=False) as server:
        assert asyncio.run(go(client(server))) == ["true"] * 4
    assert ["response_format" in body for body in server.bodies].count(True) == 4


def test_what_a_server_cannot_do_is_refused_before_any_call() -> None:
    with FakeOpenAI(echo) as server:
        with pytest.raises(MissingCapability, match="constraint"):
            asyncio.run(client(server).complete("hi", key=("a",), constraint=LinksOnly()))
        with pytest.raises(MissingCapability, match="prefill"):
            asyncio.run(client(server).complete(Prompt(user="hi", prefill="Well,"), key=("a",)))
    assert server.count == 0


def test_no_connection_outlives_its_event_loop() -> None:
    with FakeOpenAI(echo) as server:
        llm = client(server)
        for number in range(3):
            asyncio.run(llm.complete("hi", key=(number,)))
        gc.collect()  # warnings are errors here: an open socket or an un-awaited coroutine fails the test
