"""HostedLLM against a real HTTP server on this machine that misbehaves on demand."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
from typing import Any

import pytest

from simenv.errors import LLMCutShort, LLMRefused, LLMUnavailable, MissingCapability
from simenv.llm import JSONSchema, LinksOnly, Prompt, Sampling, metered
from simenv.llm.hosted import HostedLLM
from simenv.testing import FAULTS, FakeFailure, FakeMessage, FakeOpenAI, Fault

Messages = list[dict[str, Any]]


def echo(messages: Messages) -> str:
    return f"You said: {messages[-1]['content']}"


def client(server: FakeOpenAI, **options: Any) -> HostedLLM:
    """No waits between tries. The time-out is far longer than a reply of the server takes."""
    return HostedLLM("openai/fake", **{"api_base": server.url, "max_wait": 0, "timeout": 30.0, **options})


@pytest.fixture(autouse=True)
def _no_key_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


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


def test_a_reply_cut_at_max_tokens_says_so() -> None:
    with FakeOpenAI(lambda _: "one two three four") as server:
        reply = asyncio.run(client(server).complete("count", key=("a",), sampling=Sampling(max_tokens=2)))
    assert (reply.text, reply.finish, reply.usage.completion_tokens) == ("one two", "length", 2)


def test_half_a_surrogate_pair_becomes_text_that_can_be_written() -> None:
    with FakeOpenAI(lambda _: "cut emoji \ud83d.") as server:
        reply = asyncio.run(client(server).complete("hi", key=("a",)))
    assert reply.text == "cut emoji ?."
    assert "cut emoji" in reply.model_dump_json()


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
        llm = client(server, timeout=0.5 if fault == "timeout" else 30.0)
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


def test_a_server_that_says_when_to_come_back_is_left_alone_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    real = asyncio.sleep

    async def sleep(seconds: float) -> None:
        if seconds > 0.5:  # the client's own waits are shorter
            waited.append(seconds)
            seconds = 0
        await real(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with FakeOpenAI(echo) as server:
        for said in ("17", "90", "Fri, 31 Dec 1999 23:59:59 GMT"):
            server.fail_next(1, FakeFailure(429, "too many requests", {"Retry-After": said}))
            asyncio.run(client(server, max_wait=20.0).complete("hello", key=(said,)))
    assert waited[:2] == [17.0, 20.0], "but not for longer than max_wait"
    assert 1 <= waited[2] <= 2


def test_preflight_names_a_server_that_is_not_there() -> None:
    with socket.socket() as taken:  # bound and not listening: whoever connects is refused
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(LLMUnavailable, match=url):
            asyncio.run(HostedLLM("openai/fake", api_base=url).preflight())


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
def test_usage_that_says_nothing_counts_as_no_tokens(usage: dict[str, int] | None) -> None:
    with FakeOpenAI(lambda _: FakeMessage({"content": "hello"}, usage=usage)) as server:
        used = asyncio.run(client(server).complete("hi", key=("a",))).usage
    assert (used.calls, used.prompt_tokens, used.completion_tokens, used.cost_usd) == (1, 0, 0, 0.0)


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
    """LiteLLM leaves its clients open when a loop ends; their sockets would warn when they are collected."""
    with FakeOpenAI(echo) as server:
        asyncio.run(client(server).preflight())
        import litellm  # after its first use: HostedLLM settles beforehand that it fetches no price list

        kept = litellm.in_memory_llm_clients_cache.cache_dict
        before = set(kept)  # of loops that other tests left running
        for _ in range(3):
            asyncio.run(client(server).preflight())
        assert set(kept) <= before
        gc.collect()  # warnings are errors here: an open socket or an un-awaited coroutine fails the test
