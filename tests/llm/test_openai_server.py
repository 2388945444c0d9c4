"""Where an OpenAI-compatible server is, how it is reached, and what is not loaded for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading

import pytest

from simenv.errors import InputError, LLMRefused, LLMUnavailable
from simenv.llm import metered
from simenv.llm.hosted import HostedLLM
from simenv.llm.openai_server import _proxy_of
from simenv.llm.prices import cost_of
from simenv.testing import FakeOpenAI
from tests.support.servers import Messages, client, echo


@pytest.fixture(autouse=True)
def _no_servers_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE", "HOSTED_VLLM_API_BASE", "HOSTED_VLLM_API_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("model", "base", "key"),
    [
        ("openai/org/fake", "OPENAI_BASE_URL", "OPENAI_API_KEY"),
        ("openai/org/fake", "OPENAI_API_BASE", "OPENAI_API_KEY"),
        ("hosted_vllm/org/fake", "HOSTED_VLLM_API_BASE", "HOSTED_VLLM_API_KEY"),
    ],
)
def test_address_and_key_may_come_from_the_environment(
    model: str, base: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI(echo, api_key="of-the-environment", model="org/fake") as server:
        monkeypatch.setenv(base, f"{server.url}/")
        monkeypatch.setenv(key, "of-the-environment")
        asyncio.run(HostedLLM(model, attempts=1).preflight())
    assert server.paths == ["/v1/chat/completions"]


def test_a_model_without_an_address_says_what_to_set() -> None:
    with pytest.raises(InputError, match=r"hosted_vllm/fake needs api_base, .*HOSTED_VLLM_API_BASE"):
        HostedLLM("hosted_vllm/fake")


def test_openai_itself_needs_a_key() -> None:
    llm = HostedLLM("openai/gpt-4o-mini", attempts=1)
    with pytest.raises(LLMRefused, match="openai/gpt-4o-mini needs api_key, or OPENAI_API_KEY"):
        asyncio.run(llm.preflight())


def test_more_calls_than_a_pool_usually_has_are_in_flight_together() -> None:
    together = threading.Barrier(120)  # aiohttp's own limit is 100 connections

    def reply(_: Messages) -> str:
        together.wait(timeout=20)
        return "ok"

    async def go(llm: HostedLLM) -> None:
        await asyncio.gather(*(llm.complete("hi", key=(i,)) for i in range(120)))

    with FakeOpenAI(reply) as server:
        asyncio.run(go(client(server, concurrency=120, attempts=1)))
    assert server.most_in_flight == 120


def test_a_request_goes_through_the_proxy_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with FakeOpenAI(echo) as proxy:
        address = proxy.url.removesuffix("/v1")
        monkeypatch.setenv("http_proxy", address)
        llm = HostedLLM("openai/fake", api_base="http://far.away.invalid/v1", attempts=1)
        with pytest.raises(LLMRefused, match=r"no such path: http://far.away.invalid/v1/chat/completions"):
            asyncio.run(llm.preflight())  # the fake is asked for the whole URL, as a proxy is
        monkeypatch.setenv("no_proxy", "away.invalid")
        assert _proxy_of("http", "far.away.invalid") is None
    assert _proxy_of("http", "elsewhere") == address


def test_fields_of_extra_body_are_fields_of_the_request() -> None:
    options = {"reasoning_effort": "low", "extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}
    with FakeOpenAI(echo) as server:
        asyncio.run(client(server, server_options=options).complete("hi", key=("a",)))
    (body,) = server.bodies
    assert body["reasoning_effort"] == "low"
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "extra_body" not in body


def test_a_listed_model_has_litellms_price_and_another_has_none() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
    completion = {"model": "gpt-4o-mini-2024-07-18", "usage": usage, "choices": []}
    assert cost_of(completion, "gpt-4o-mini") == pytest.approx(1000 * 0.15e-6 + 100 * 0.6e-6)
    assert cost_of({**completion, "model": "mine"}, "fake") == 0


def test_the_price_is_metered() -> None:
    async def go(llm: HostedLLM) -> float:
        with metered() as meter:
            await llm.complete("one two three", key=("a",))
        return meter.usage.cost_usd

    with FakeOpenAI(echo) as server:
        cost = asyncio.run(go(HostedLLM("openai/gpt-4o-mini", api_base=server.url)))
    assert cost == pytest.approx(3 * 0.15e-6 + 5 * 0.6e-6)


def test_neither_litellm_nor_openais_client_is_loaded_for_a_server_of_ones_own() -> None:
    code = """
import asyncio, json, sys
from simenv.llm import make_llm
from simenv.testing import FakeOpenAI
with FakeOpenAI(lambda _: "hello") as server:
    asyncio.run(make_llm("openai/fake", api_base=server.url).complete("hi", key=("a",)))
print(json.dumps([name for name in ("litellm", "openai", "httpx", "torch", "transformers") if name in sys.modules]))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(ran.stdout) == []


def test_a_connection_that_is_cut_is_said_to_be() -> None:
    with FakeOpenAI(echo) as server:
        server.fail_next(1, "midstream")
        with pytest.raises(LLMUnavailable, match="the connection was cut within the reply"):
            asyncio.run(client(server, attempts=1).complete("hi", key=("a",)))
