"""Providers that are asked through LiteLLM: replies, errors, usage, and connections that end with their loop."""

from __future__ import annotations

import asyncio
import gc
import json

import pytest

from simenv.errors import LLMRefused, LLMUnavailable
from simenv.llm import Prompt, Sampling
from simenv.llm.hosted import HostedLLM
from simenv.testing import FakeFailure, FakeMessage, FakeOpenAI, FakeRaw
from simenv.testing.shapes import USAGE
from tests.support.servers import echo


def provider(server: FakeOpenAI, **options: object) -> HostedLLM:
    """DeepSeek's protocol is near enough to OpenAI's for the fake."""
    settings = {"api_base": server.url, "api_key": "theirs", "max_wait": 0, "timeout": 30.0, "attempts": 2, **options}
    return HostedLLM("deepseek/fake", **settings)  # type: ignore[arg-type]


def test_text_and_usage_come_back() -> None:
    sampling = Sampling(temperature=0.3, max_tokens=7)
    with FakeOpenAI(echo, api_key="theirs") as server:
        reply = asyncio.run(
            provider(server).complete(Prompt(system="be brief", user="hi"), key=(1,), sampling=sampling)
        )
    assert reply.text == "You said: hi"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 3)
    (body,) = server.bodies
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("fake", 0.3, 7)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]


def test_content_in_parts_is_read() -> None:
    parts = [{"type": "text", "text": "Take "}, {"type": "text", "text": "boots."}]
    with FakeOpenAI(lambda _: FakeMessage({"content": parts}, usage=USAGE)) as server:
        reply = asyncio.run(provider(server).complete("hi", key=(1,)))
    assert (reply.text, reply.usage.completion_tokens, server.count) == ("Take boots.", 5, 1)


def test_a_refused_parameter_is_no_longer_sent() -> None:
    refuses = {"top_p": FakeFailure(400, "Unsupported value", param="top_p")}
    with FakeOpenAI(echo, refuses=refuses) as server:
        assert asyncio.run(provider(server).complete("hi", key=(1,))).text == "You said: hi"
    assert ["top_p" in body for body in server.bodies] == [True, False]


@pytest.mark.parametrize(
    ("reply", "error", "said", "calls"),
    [
        (FakeFailure(401, "wrong key"), LLMRefused, "refuses the API key: wrong key", 1),
        (FakeFailure(429, "see billing", code="insufficient_quota"), LLMRefused, "no quota left", 1),
        (FakeFailure(500, "oops"), LLMUnavailable, "gave no completion: .*oops", 2),
        (FakeRaw(b"<html>Log in</html>", content_type="text/html"), LLMUnavailable, "gave no completion", 2),
        (FakeRaw(json.dumps({"choices": []}).encode()), LLMUnavailable, "deepseek/fake at http", 2),
        (FakeMessage({"content": None, "refusal": "I cannot"}), LLMRefused, "refuses to answer: I cannot", 1),
    ],
    ids=["401", "quota", "500", "html", "no choices", "refusal"],
)
def test_errors_say_what_is_wrong(
    reply: FakeFailure | FakeRaw | FakeMessage, error: type[Exception], said: str, calls: int
) -> None:
    with FakeOpenAI(lambda _: reply) as server, pytest.raises(error, match=said):
        asyncio.run(provider(server).complete("hi", key=(1,)))
    assert server.count == calls


def test_no_connection_outlives_its_event_loop() -> None:
    """LiteLLM leaves its clients open when a loop ends; their sockets would warn when they are collected."""
    with FakeOpenAI(echo) as server:
        asyncio.run(provider(server).preflight())
        import litellm  # after its first use: HostedLLM settles beforehand that it fetches no price list

        kept = litellm.in_memory_llm_clients_cache.cache_dict
        before = set(kept)  # of loops that other tests left running
        for _ in range(3):
            asyncio.run(provider(server).preflight())
        assert set(kept) <= before
        gc.collect()  # warnings are errors here: an open socket or an un-awaited coroutine fails the test
