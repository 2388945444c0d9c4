"""A server that refuses a parameter is asked without it, and says once what no longer reproduces."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest

from simenv.errors import LLMRefused
from simenv.llm import JSONSchema, Prompt, Sampling
from simenv.llm.hosted import HostedLLM
from simenv.testing import FakeFailure, FakeOpenAI

SAMPLING = Sampling(temperature=0.3, top_p=0.9, max_tokens=7, stop=("END", "\n"))
PROMPT = Prompt(system="be brief", user="hi")
ALL = {"model", "messages", "temperature", "top_p", "max_tokens", "stop", "seed"}


@pytest.fixture(autouse=True)
def _no_key_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def client(server: FakeOpenAI) -> HostedLLM:
    return HostedLLM("openai/fake", api_base=server.url, max_wait=0, timeout=30.0)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("simenv")]


def ask(llm: HostedLLM, *key: int, **options: Any) -> str:
    return asyncio.run(llm.complete(PROMPT, key=key, sampling=SAMPLING, **options)).text


WITHOUT = {
    "seed": "the same run gives other texts each time",
    "temperature": "server's own temperature",
    "top_p": "server's own top_p",
    "stop": "cut at the stop strings after they arrive",
    "system": "the system prompt begins the user's turn",
}
FORMS = {
    "param": lambda name: FakeFailure(400, "Unsupported value", param=name, code="unsupported_parameter"),
    "words": lambda name: FakeFailure(
        400, f"Unrecognized argument: '{name}' role or parameter. Allowed: n, seed, temperature, top_p"
    ),
    "422": lambda name: FakeFailure(422, f"body -> '{name}' role or parameter: Extra inputs are not permitted"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", WITHOUT)
def test_a_refused_parameter_is_dropped_with_one_warning(
    name: str, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    with FakeOpenAI(lambda _: "one END two", refuses={name: FORMS[form](name)}) as server:
        llm = client(server)
        asyncio.run(llm.preflight())
        del server.bodies[:]
        texts = [ask(llm, 1), ask(llm, 2)]
    assert texts == (["one ", "one "] if name == "stop" else ["one END two"] * 2)
    dropped = server.bodies[-1]
    assert set(dropped) == ALL - {name}
    known_already = name in ("seed", "temperature", "top_p")  # from the first call, which has no system role or stop
    assert len(server.bodies) == (2 if known_already else 3)
    (warning,) = warnings(caplog)
    assert f"openai/fake at {server.url} refuses {name}, which is no longer sent: " in warning
    assert WITHOUT[name] in warning
    assert llm.retries == 0


def test_without_a_system_role_the_system_prompt_begins_the_users_turn() -> None:
    failure = FakeFailure(400, "Unsupported value: 'messages[0].role' does not support 'system' with this model.")
    with FakeOpenAI(lambda messages: messages[0]["content"], refuses={"system": failure}) as server:
        assert ask(client(server)) == "be brief\n\nhi"
    assert server.bodies[-1]["messages"] == [{"role": "user", "content": "be brief\n\nhi"}]


def test_the_limit_has_another_name_on_some_servers(caplog: pytest.LogCaptureFixture) -> None:
    message = "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens'."
    with FakeOpenAI(lambda _: "hello", refuses={"max_tokens": FakeFailure(400, message)}) as server:
        assert ask(client(server)) == "hello"
    assert set(server.bodies[-1]) == ALL - {"max_tokens"} | {"max_completion_tokens"}
    assert server.bodies[-1]["max_completion_tokens"] == 7
    assert not warnings(caplog), "nothing is lost"


def test_a_server_that_refuses_everything_is_asked_with_the_prompt_alone(caplog: pytest.LogCaptureFixture) -> None:
    names = ["seed", "temperature", "top_p", "stop", "max_tokens", "max_completion_tokens", "response_format"]
    refuses = {name: FakeFailure(400, f"unknown parameter: {name}", param=name) for name in names}
    constraint = JSONSchema(text=json.dumps({"type": "object"}))

    async def together(llm: HostedLLM) -> None:
        calls = [llm.complete(PROMPT, key=(i,), sampling=SAMPLING, constraint=constraint) for i in range(4)]
        assert [reply.text for reply in await asyncio.gather(*calls)] == ["{}"] * 4

    with FakeOpenAI(lambda _: "{}", refuses=refuses) as server:
        asyncio.run(together(client(server)))
    assert set(server.bodies[-1]) == {"model", "messages"}
    dropped = [warning.partition(" refuses ")[2].partition(",")[0] for warning in warnings(caplog)]
    assert sorted(dropped) == ["max_completion_tokens", "seed", "stop", "temperature", "top_p"], "once each"


@pytest.mark.parametrize(
    "message",
    [
        "'max_tokens' is too large: 7. This model's maximum context length is 5 tokens.",
        "Please reduce the length of the messages: system prompt and question exceed the context window",
        "the model is asleep",
    ],
)
def test_a_refusal_for_another_reason_is_an_error(message: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="simenv")
    with (
        FakeOpenAI(lambda _: "hello", refuses={"messages": FakeFailure(400, message)}) as server,
        pytest.raises(LLMRefused, match="refuses the request: "),
    ):
        ask(client(server))
    assert server.count == 1
    assert not warnings(caplog)
