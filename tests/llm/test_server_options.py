"""Options of a model behind a server: how they are read, what is refused, and what each request then has."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from simenv.errors import InputError, LLMRefused
from simenv.llm import Sampling, make_llm
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.llm.server_options import ServerOptions, server_options
from simenv.runs.options import ModelOptions, read_options
from simenv.testing import FakeOpenAI
from tests.support.servers import client, echo

GIVEN = {
    "temperature": 0,
    "max_tokens": 4000,
    "presence_penalty": 0.5,
    "reasoning_effort": "low",
    "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        (json.dumps(GIVEN), GIVEN),
        ("temperature=0,max_tokens=4000", {"temperature": 0, "max_tokens": 4000}),
        (" temperature = 0.5 , reasoning_effort = low ", {"temperature": 0.5, "reasoning_effort": "low"}),
        ('extra_body={"a": 1, "b": 2},top_p=1', {"extra_body": {"a": 1, "b": 2}, "top_p": 1}),
    ],
)
def test_options_are_json_or_pairs(text: str, options: dict[str, Any]) -> None:
    assert read_options(ModelOptions, {"llm_options": text}).llm_options == options
    assert read_options(ModelOptions, {"llm_options": options}).llm_options == options


@pytest.mark.parametrize("text", ["hot", "{", "=1", "top_p=1,top_p=1", "[1]"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="llm_options"):
        read_options(ModelOptions, {"llm_options": text})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temprature": 1}, "judge_llm_options: unknown option 'temprature': known are temperature, .*extra_body"),
        ({"temperature": 3}, "judge_llm_options: temperature: input should be less than or equal to 2, got 3"),
        ({"max_tokens": 0}, "max_tokens: input should be greater than or equal to 1, got 0"),
        ({"max_tokens": "many"}, "max_tokens: .*integer.*, got 'many'"),
        ({"reasoning_effort": "some"}, "reasoning_effort: input should be 'none', .*, got 'some'"),
        ({"extra_body": {"stream": True}}, "extra_body: may not have stream, which simenv sets itself"),
        ({"extra_body": 1}, "extra_body: .*, got 1"),
    ],
)
def test_what_no_server_takes_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        server_options(options, "judge_llm_options")


def test_every_request_has_the_options() -> None:
    with FakeOpenAI(echo) as server:
        llm = client(server, server_options=GIVEN)
        asyncio.run(llm.preflight())
        asyncio.run(llm.complete("hi", key=("a",), sampling=Sampling(temperature=0.7, top_p=0.8, max_tokens=5)))
    probe, body = server.bodies
    assert (body["temperature"], body["top_p"], body["max_tokens"]) == (0, 0.8, 4000)
    assert (body["presence_penalty"], body["reasoning_effort"]) == (0.5, "low")
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert (probe["reasoning_effort"], probe["max_tokens"]) == ("low", 64), "the first call stays short"


def test_a_cassette_tells_requests_with_other_options_apart(tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    with FakeOpenAI(echo) as server:
        for options in ({}, {"temperature": 0}, {"reasoning_effort": "low"}, {"reasoning_effort": "low"}):
            llm = CassetteLLM(Cassette(path, "cache"), client(server, server_options=options))
            asyncio.run(llm.complete("hi", key=("a",)))
    assert server.count == 3
    assert '"options"' not in path.read_text(encoding="utf-8").splitlines()[0], "as before there were options"
    replayed = CassetteLLM(Cassette(path, "replay"), name="openai/fake", server_options=ServerOptions(temperature=0))
    assert asyncio.run(replayed.complete("hi", key=("a",))).text == "You said: hi"
    other = CassetteLLM(Cassette(path, "replay"), name="openai/fake", server_options=ServerOptions(temperature=1))
    with pytest.raises(LLMRefused):
        asyncio.run(other.complete("hi", key=("a",)))


@pytest.mark.parametrize("name", ["embedded", "scripted", "local:somewhere", "simenv.llm.scripted:ScriptedLLM"])
def test_models_without_a_server_have_none(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is no model behind a server: it takes no llm_options"):
        make_llm(name, server_options={"temperature": 0})
