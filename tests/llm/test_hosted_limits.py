"""HostedLLM and a server without measure: replies that never end, streams, and keys that come back."""

from __future__ import annotations

import asyncio
import base64
import time

import pytest

from simenv.errors import LLMRefused, LLMUnavailable
from simenv.llm.hosted import HostedLLM
from simenv.llm.openai_server import MAX_REPLY_BYTES
from simenv.testing import FakeFailure, FakeMessage, FakeOpenAI, FakeRaw
from tests.support.servers import Messages, client, echo


@pytest.mark.parametrize("probe", [False, True])
def test_a_server_that_drips_is_left_at_the_deadline(probe: bool) -> None:
    with FakeOpenAI(lambda _: FakeRaw(b'{"id": "drop by drop"}' * 100, pause=0.05)) as server:
        llm = client(server, timeout=0.4, attempts=2)
        began = time.monotonic()
        with pytest.raises(LLMUnavailable, match=r"gave no completion within 0\.4 s"):
            asyncio.run(llm.preflight() if probe else llm.complete("hi", key=("a",)))
        assert time.monotonic() - began < 10, "the reply would take 110 s"
    assert llm.retries == 1


def test_a_reply_without_end_is_not_read() -> None:
    with FakeOpenAI(lambda _: FakeMessage({"content": "boots " * (MAX_REPLY_BYTES // 6)})) as server:
        with pytest.raises(LLMRefused, match=r"sent a reply of more than 2 MB"):
            asyncio.run(client(server).complete("hi", key=("a",)))
        assert server.count == 1


_EVENTS = b'data: {"choices": [{"index": 0, "delta": {"content": "Take"}}]}\n\ndata: [DONE]\n\n'


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
def test_a_server_that_only_streams_says_what_to_change(content_type: str) -> None:
    with (
        FakeOpenAI(lambda _: FakeRaw(_EVENTS, content_type=content_type)) as server,
        pytest.raises(LLMRefused, match=r"a stream of events, .*data: .*answer stream=false with one JSON object"),
    ):
        asyncio.run(client(server).complete("hi", key=("a",)))
    assert server.count == 1


def test_a_server_that_demands_streams_says_what_to_change() -> None:
    def fail(_: Messages) -> str:
        raise FakeFailure(400, "stream must be true")

    with FakeOpenAI(fail) as server, pytest.raises(LLMRefused, match=r"stream must be true .*answer stream=false"):
        asyncio.run(client(server).complete("hi", key=("a",)))


KEY = "sk-0123456789abcdef"


def test_a_key_that_a_server_repeats_is_masked_in_errors_and_texts() -> None:
    def fail(_: Messages) -> str:
        raise FakeFailure(400, f"no such user: Bearer {KEY}")

    with FakeOpenAI(fail) as server:
        llm = client(server, api_key=KEY)
        with pytest.raises(LLMRefused, match=r"no such user: Bearer \*\*\*") as caught:
            asyncio.run(llm.complete("hi", key=("a",)))
        assert caught.value.__suppress_context__, "a traceback would show the cause's text"
        server.reply = lambda _: f"Your key is {KEY}."
        assert asyncio.run(llm.complete("hi", key=("a",))).text == "Your key is ***."
    assert server.headers[-1]["authorization"] == f"Bearer {KEY}"


def test_the_secrets_of_an_address_reach_the_server_and_no_message() -> None:
    with FakeOpenAI(echo) as server:
        address = server.url.replace("://", "://me:password1@") + "?key=in-the-query&api-version=2"
        llm = HostedLLM("openai/fake", api_base=address, max_wait=0, attempts=1)
        assert llm.address == f"openai/fake at {server.url.replace('://', '://***@')}?key=***&api-version=2"
        assert asyncio.run(llm.complete("hi", key=("a",))).text == "You said: hi"
        assert server.paths == ["/v1/chat/completions?key=in-the-query&api-version=2"]
        server.fail_next(1, FakeFailure(400, "in-the-query is not a key of me:password1"))
        with pytest.raises(LLMRefused) as caught:
            asyncio.run(llm.complete("hi", key=("b",)))
    assert server.headers[0]["authorization"] == f"Basic {base64.b64encode(b'me:password1').decode()}"
    assert "password1" not in str(caught.value)
    assert "in-the-query" not in str(caught.value)
