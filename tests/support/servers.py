"""A client of a fake server of a language model."""

from __future__ import annotations

from typing import Any

from simenv.llm.hosted import HostedLLM
from simenv.testing import FakeOpenAI

Messages = list[dict[str, Any]]


def echo(messages: Messages) -> str:
    return f"You said: {messages[-1]['content']}"


def client(server: FakeOpenAI, **options: Any) -> HostedLLM:
    """No waits between tries. The time-out is far longer than a reply of the server takes."""
    return HostedLLM("openai/fake", **{"api_base": server.url, "max_wait": 0, "timeout": 30.0, **options})
