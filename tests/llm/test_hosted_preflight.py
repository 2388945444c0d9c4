"""HostedLLM before a run: keys, models, and servers that are not ready or not there."""

from __future__ import annotations

import asyncio
import socket

import pytest

from simenv.errors import LLMRefused, LLMUnavailable
from simenv.llm.hosted import HostedLLM
from simenv.testing import FakeFailure, FakeMessage, FakeOpenAI, Fault
from tests.support.servers import client, echo


@pytest.mark.parametrize("api_key", [None, "wrong"])
def test_a_wrong_key_is_refused_at_once(api_key: str | None) -> None:
    with FakeOpenAI(echo, api_key="right") as server:
        llm = client(server, api_key=api_key)
        with pytest.raises(LLMRefused, match="refuses the API key") as caught:
            asyncio.run(llm.complete("hello", key=("a",)))
        with pytest.raises(LLMRefused):
            asyncio.run(llm.preflight())
        assert not caught.value.retryable
        assert (server.count, llm.retries) == (2, 0)
        asyncio.run(client(server, api_key="right").preflight())


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "right")
    with FakeOpenAI(echo, api_key="right") as server:
        asyncio.run(client(server).preflight())
    assert server.count == 1


def test_another_provider_gets_its_own_key_at_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only OpenAI's client needs a made-up key for a server of one's own."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "theirs")
    with FakeOpenAI(echo) as server:
        llm = HostedLLM("anthropic/claude-3-haiku-20240307", api_base=server.url)
        with pytest.raises(LLMRefused, match="no such path"):  # the fake speaks OpenAI's protocol alone
            asyncio.run(llm.preflight())
    assert server.headers[0]["x-api-key"] == "theirs"


def test_an_unknown_model_is_refused_at_once() -> None:
    with FakeOpenAI(echo, model="another") as server:
        llm = client(server)
        with pytest.raises(LLMRefused, match="does not have this model"):
            asyncio.run(llm.complete("hello", key=("a",)))
    assert (server.count, llm.retries) == (1, 0)


def test_preflight_is_one_short_call() -> None:
    with FakeOpenAI(echo) as server:
        asyncio.run(client(server).preflight())
    assert (server.count, server.bodies[0]["max_tokens"]) == (1, 64)


@pytest.mark.parametrize(
    "fault",
    [
        FakeFailure(503, "Loading model"),
        FakeFailure(429, "too many requests", {"Retry-After": "1"}),
        FakeFailure(502, "bad gateway"),
        "timeout",
        "dropped",
        "no_choices",
    ],
    ids=str,
)
def test_preflight_outlasts_a_server_that_is_not_ready_yet(fault: Fault | FakeFailure) -> None:
    with FakeOpenAI(echo) as server:
        server.fail_next(2, fault)
        llm = client(server, timeout=1.0 if fault == "timeout" else 30.0)
        asyncio.run(llm.preflight())
    assert (server.count, llm.retries) == (3, 2)


def test_preflight_on_a_server_that_stays_broken_is_an_error() -> None:
    with FakeOpenAI(echo) as server:
        server.fail_share(1.0, "500")
        with pytest.raises(LLMUnavailable, match=server.url):
            asyncio.run(client(server, attempts=3).preflight())
    assert server.count == 3


@pytest.mark.parametrize("content", [None, ""])
def test_preflight_takes_a_reply_without_an_answer(content: str | None) -> None:
    """A reasoning model may think for longer than the call's limit."""
    thinking = FakeMessage({"content": content, "reasoning_content": "The user says hello."}, "length")
    with FakeOpenAI(lambda _: thinking) as server:
        asyncio.run(client(server).preflight())
    assert server.count == 1


def test_preflight_names_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(LLMUnavailable, match=url):
            asyncio.run(HostedLLM("openai/fake", api_base=url).preflight())
