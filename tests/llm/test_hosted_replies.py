"""HostedLLM and replies of every form: the answer without reasoning, and errors that quote what came."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from simenv.errors import LLMCutShort, LLMRefused, LLMUnavailable
from simenv.llm import Sampling
from simenv.testing import FakeFailure, FakeMessage, FakeOpenAI
from tests.support.servers import Messages, client


def test_a_reply_cut_at_max_tokens_says_so() -> None:
    with FakeOpenAI(lambda _: "one two three four") as server:
        reply = asyncio.run(client(server).complete("count", key=("a",), sampling=Sampling(max_tokens=2)))
    assert (reply.text, reply.finish, reply.usage.completion_tokens) == ("one two", "length", 2)


def test_half_a_surrogate_pair_becomes_text_that_can_be_written() -> None:
    with FakeOpenAI(lambda _: "cut emoji \ud83d.") as server:
        reply = asyncio.run(client(server).complete("hi", key=("a",)))
    assert reply.text == "cut emoji ?."
    assert "cut emoji" in reply.model_dump_json()


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<think>Hm.</think>Take boots."},
        {"content": "<THINK>\nHm.\n</THINK>\n\nTake boots."},
        {"content": "Hm.</think>Take boots."},
        {"content": "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Take boots."},
        {"content": "Take boots.", "reasoning_content": "Hm."},
    ],
    ids=str,
)
def test_reasoning_is_no_part_of_the_answer(message: dict[str, Any]) -> None:
    with FakeOpenAI(lambda _: FakeMessage(message)) as server:
        assert asyncio.run(client(server).complete("hi", key=("a",))).text == "Take boots."


def test_an_answer_in_parts_is_their_text() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    parts = [thinking, {"type": "text", "text": "Take "}, {"type": "text", "text": "boots."}, {"type": "image_url"}]
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    with FakeOpenAI(lambda _: FakeMessage({"content": parts}, "length", usage)) as server:
        reply = asyncio.run(client(server).complete("hi", key=("a",)))
    assert (reply.text, reply.finish) == ("Take boots.", "length")
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (3, 4)
    assert server.count == 1


def test_parts_without_text_are_no_answer() -> None:
    with (
        FakeOpenAI(lambda _: FakeMessage({"content": [{"type": "thinking", "thinking": "Hm."}]}, "length")) as server,
        pytest.raises(LLMCutShort),
    ):
        asyncio.run(client(server).complete("hi", key=("a",)))


@pytest.mark.parametrize("content", ['{"reason": "<think>x</think>"}', '[{"reason": "a </think> b"}]'])
def test_tags_of_reasoning_within_json_are_text(content: str) -> None:
    with FakeOpenAI(lambda _: FakeMessage({"content": content})) as server:
        assert asyncio.run(client(server).complete("hi", key=("a",))).text == content


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<think>They want"},
        {"content": "<|channel|>analysis<|message|>They want"},
        {"content": None, "reasoning_content": "They want"},
        {"content": "", "reasoning": "They want"},
        {"content": None},
    ],
    ids=str,
)
def test_reasoning_that_uses_up_the_limit_is_an_error_of_its_own(message: dict[str, Any]) -> None:
    with (
        FakeOpenAI(lambda _: FakeMessage(message, "length")) as server,
        pytest.raises(LLMCutShort, match=r"used up max_tokens, 77, before .* a larger max_tokens") as caught,
    ):
        asyncio.run(client(server).complete("hi", key=("a",), sampling=Sampling(max_tokens=77)))
    assert (server.count, caught.value.retryable) == (1, False)
    assert server.url in str(caught.value)


@pytest.mark.parametrize("message", [{"content": None}, {"content": "<think>Hm."}, {}], ids=str)
def test_a_reply_that_ends_without_an_answer_is_asked_for_again(message: dict[str, Any]) -> None:
    with (
        FakeOpenAI(lambda _: FakeMessage(message)) as server,
        pytest.raises(LLMUnavailable, match=f"{server.url} sent a reply without an answer"),
    ):
        asyncio.run(client(server, attempts=2).complete("hi", key=("a",)))
    assert server.count == 2


_CALL = {"id": "1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
GIVEN_UP = {
    "refuses to answer: I cannot help": FakeMessage({"content": None, "refusal": "I cannot help"}),
    "withholds the answer: its content filter stopped it$": FakeMessage({"content": None}, "content_filter"),
    "its content filter stopped it after 'Take'": FakeMessage({"content": "Take"}, "content_filter"),
    "calls a tool instead of answering: search": FakeMessage({"content": None, "tool_calls": [_CALL]}, "tool_calls"),
    "has no quota left for this key: see billing": FakeFailure(429, "see billing", code="insufficient_quota"),
    "has no quota left for this key: pay first": FakeFailure(402, "pay first"),
    "because of its content filter: no such talk": FakeFailure(400, "no such talk", code="content_filter"),
    "refuses the API key: not yours": FakeFailure(403, "not yours"),
}


@pytest.mark.parametrize(("error", "reply"), GIVEN_UP.items(), ids=GIVEN_UP)
def test_what_another_try_would_not_change_is_not_tried_again(error: str, reply: FakeMessage | FakeFailure) -> None:
    def answer(_: Messages) -> FakeMessage:
        if isinstance(reply, FakeFailure):
            raise reply
        return reply

    with (
        FakeOpenAI(answer) as server,
        pytest.raises(LLMRefused, match=error) as caught,
    ):
        asyncio.run(client(server).complete("hi", key=("a",)))
    assert (server.count, caught.value.retryable) == (1, False)
    assert str(caught.value).startswith(f"openai/fake at {server.url} ")


def test_a_long_reply_is_cut_in_the_message() -> None:
    def fail(_: Messages) -> str:
        raise FakeFailure(400, "word " * 1000)

    with FakeOpenAI(fail) as server, pytest.raises(LLMRefused) as caught:
        asyncio.run(client(server).complete("hi", key=("a",)))
    assert str(caught.value) == f"openai/fake at {server.url} refuses the request: {'word ' * 40}..."


def test_a_reply_that_is_not_json_is_quoted() -> None:
    with FakeOpenAI(lambda _: "hello") as server:
        server.fail_next(1, "truncated")
        with pytest.raises(LLMUnavailable, match=r"its reply is not JSON but '\{\\?\"id\\?\": \\?\"chatcmpl-fake"):
            asyncio.run(client(server, attempts=1).complete("hi", key=("a",)))


def test_a_reply_of_another_form_is_quoted() -> None:
    for content in (5, [{"type": "text", "text": "hello"}]):
        usage = {"prompt_tokens": "many", "completion_tokens": 1, "total_tokens": 1}
        with (
            FakeOpenAI(
                lambda _, content=content, usage=usage: FakeMessage({"content": content}, usage=usage)
            ) as server,
            pytest.raises(
                LLMUnavailable, match=r"its reply is no chat completion but '\{\"id\": \"chatcmpl-fake\""
            ) as caught,
        ):
            asyncio.run(client(server, attempts=1).complete("hi", key=("a",)))
        assert server.url in str(caught.value)
        assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    "usage", [None, {"prompt_tokens": -5, "completion_tokens": -1, "total_tokens": -6}], ids=["missing", "negative"]
)
def test_usage_that_says_nothing_is_unknown_and_not_zero(usage: dict[str, int] | None) -> None:
    with FakeOpenAI(lambda _: FakeMessage({"content": "hello"}, usage=usage)) as server:
        used = asyncio.run(client(server).complete("hi", key=("a",))).usage
    assert (used.calls, used.prompt_tokens, used.completion_tokens, used.cost_usd) == (1, None, None, 0.0)
