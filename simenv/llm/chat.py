"""Chat completions of OpenAI's protocol as they arrive: which are read, and what is wrong with the others."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from simenv.errors import LLMError, LLMRefused, LLMUnavailable
from simenv.llm.replies import start_of, with_joined_parts

_STREAM = re.compile(r"\s*(?:data|event|id|retry): ?")
NO_STREAMS = (
    "simenv reads whole replies: let the server, or the proxy before it, answer stream=false with one JSON object"
)


class Reply(NamedTuple):
    """A server's reply to one request."""

    completion: Mapping[str, Any]
    """The chat completion, which has at least one choice with a message."""
    headers: Mapping[str, str]
    """Names in any case, if the mapping does not tell cases apart; in lower case otherwise."""
    cost_usd: float


class ServerError(Exception):
    """A server's reply says that something is wrong.

    Attributes:
        status_code: HTTP status.
        body: What the reply says of the error.
        headers: The reply's headers.
    """

    def __init__(self, message: str, status_code: int, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.body = body
        self.headers = headers


def error_of(came: bytes, status: int, headers: Mapping[str, str]) -> ServerError:
    """The error that a reply says.

    Args:
        came: Body of the reply.
        status: Its status.
        headers: Its headers.
    """
    text = came.decode("utf-8-sig", errors="replace")
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        body = None
    said = body.get("error", body) if isinstance(body, dict) else None
    if isinstance(said, dict) and isinstance(said.get("message"), str):
        text = said["message"]
    elif isinstance(said, str):
        text = said
    return ServerError(text or f"status {status}", status, said if isinstance(said, dict) else {}, headers)


def read_completion(came: bytes, where: str) -> dict[str, Any]:
    """The chat completion that is the body of a reply; content in parts is joined.

    Args:
        came: The body.
        where: The model and its server, to begin messages with.

    Raises:
        LLMError: it is no chat completion.
        ServerError: it says what is wrong instead.
    """
    try:
        text = came.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise LLMUnavailable(f"{where} gave no completion: {error}") from None
    try:
        completion = json.loads(text)
    except (ValueError, RecursionError):
        raise not_a_completion(where, text, f"its reply is not JSON but {start_of(text)!r}") from None
    if isinstance(completion, dict):
        if completion.get("error") and not completion.get("choices"):
            raise error_of(came, 200, {})
        if completion.get("choices") == []:
            raise LLMUnavailable(f"{where} sent a reply without choices")
        completion = with_joined_parts(completion)
        if _is_completion(completion):
            return completion
    raise not_a_completion(where, text, f"its reply is no chat completion but {start_of(text)!r}")


def not_a_completion(where: str, came: str, said: str) -> LLMError:
    """The error for a reply that is no chat completion: a stream of events will not be one at the next try either.

    Args:
        where: The model and its server, to begin the message with.
        came: The reply.
        said: What is wrong with it, unless it is a stream.
    """
    if _STREAM.match(came):
        stream = f"its reply is a stream of events, {start_of(came)!r}, though the request asks for none"
        return LLMRefused(f"{where} gave no completion: {stream}", hint=NO_STREAMS)
    return LLMUnavailable(f"{where} gave no completion: {said}")


def _is_completion(completion: Mapping[str, Any]) -> bool:
    try:
        message, usage = completion["choices"][0]["message"], completion.get("usage") or {}
        content, finish = message.get("content"), completion["choices"][0].get("finish_reason")
        tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (KeyError, TypeError, IndexError, AttributeError):
        return False
    texts = isinstance(content, str | None) and isinstance(finish, str | None)
    return texts and all(isinstance(count, int | float | None) for count in tokens)
