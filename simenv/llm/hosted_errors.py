"""What went wrong in a call of a server: errors that say what to do, and the parameter that a server refuses."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from simenv.errors import LLMError, LLMRefused
from simenv.llm.chat import NO_STREAMS, ServerError, error_of, not_a_completion
from simenv.llm.replies import start_of

_SOURCE = re.compile(r"\A(?:litellm\.)?(?:\w+: ){0,2}\w*Exception - ")
"""How LiteLLM begins its messages."""


_RECEIVED = re.compile(r"invalid response from LLM endpoint\. Received: '?(?P<text>.*?)'?\. Check the", re.DOTALL)


def translated(error: Exception, where: str, came: str | None = None) -> LLMError:
    """An error of LiteLLM's, of the connection's, or `chat.ServerError`, as one of simenv's.

    Args:
        error: The error.
        where: The model and its server, to begin the message with.
        came: The server's reply, if LiteLLM read it as JSON.
    """
    if isinstance(error, LLMError):
        return error
    cut = type(error).__name__ == "ClientPayloadError"
    said = "the connection was cut within the reply" if cut else start_of(str(_said(error)))
    status = getattr(error, "status_code", None)
    codes = _codes(error)
    if status == 402 or "insufficient_quota" in codes:
        return LLMRefused(f"{where} has no quota left for this key: {said}")
    if status in (401, 403):
        return LLMRefused(f"{where} refuses the API key: {said}")
    if status == 404:
        hint = "check the model's name, and that the address ends as the server wants it, often in /v1"
        return LLMRefused(f"{where} does not have this model: {said}", hint=hint)
    if "content_filter" in codes or type(error).__name__ == "ContentPolicyViolationError":
        return LLMRefused(f"{where} refuses the request, because of its content filter: {said}")
    if status in (400, 413, 422):
        streams = re.search(r"\bstream(?:ing)?\b", said, re.IGNORECASE)
        return LLMRefused(f"{where} refuses the request: {said}", hint=NO_STREAMS if streams else None)
    broken = next((cause.doc for cause in _causes(error) if isinstance(cause, json.JSONDecodeError)), None)
    received = _RECEIVED.search(str(error))
    text = broken if broken is not None else received["text"] if received else came or ""
    if broken is not None:
        said = f"its reply is not JSON but {start_of(broken)!r}"
    elif received or "Invalid response object" in said or "provider returned 'choices'" in said:  # and a traceback
        said = f"its reply is no chat completion but {start_of(text)!r}"
    return not_a_completion(where, text, said)


def _codes(error: Exception) -> set[str]:
    """The server's own names of the error."""
    body = _body(error)
    return {str(body.get(field)) for field in ("code", "type")}


def _body(error: Exception) -> Mapping[str, Any]:
    """What the server's reply says of the error. LiteLLM has it as an attribute, or only as a part of the message."""
    body = getattr(error, "body", None)
    return body if isinstance(body, Mapping) else _said(error).body


def _said(error: Exception) -> ServerError:
    return error_of(_SOURCE.sub("", str(error)).encode(errors="replace"), 0, {})


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, and the errors that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def too_late(error: BaseException) -> bool:
    """Whether the call took longer than its limit."""
    return any(isinstance(c, TimeoutError) or type(c).__name__ == "APITimeoutError" for c in _causes(error))


def nobody_listens(error: BaseException) -> bool:
    return any(isinstance(cause, ConnectionRefusedError | socket.gaierror) for cause in _causes(error))


def status_of(error: BaseException) -> int | None:
    """The HTTP status that the error came from, if any."""
    statuses = (getattr(cause, "status_code", None) for cause in _causes(error))
    return next((status for status in statuses if isinstance(status, int)), None)


def headers_of(error: BaseException) -> Mapping[str, str]:
    """The headers of the reply that the error came from."""
    for cause in _causes(error):
        for name in ("headers", "litellm_response_headers"):
            if headers := getattr(cause, name, None):
                return headers  # type: ignore[no-any-return]
    return {}


WITHOUT = {
    "seed": "the same run gives other texts each time",
    "temperature": "texts are sampled at the server's own temperature, not at the one that was asked for",
    "top_p": "texts are sampled with the server's own top_p, not with the one that was asked for",
    "max_completion_tokens": "texts may be longer than max_tokens",
    "stop": "texts are cut at the stop strings after they arrive, and their tokens count in full",
    "system": "the system prompt begins the user's turn, so texts differ from those of a model with a system role",
}
"""Refused parameter -> what no longer reproduces. Nothing changes without max_tokens, which max_completion_tokens
replaces, and response_format: the prompt asks for JSON too, and replies are parsed in any case."""

_MENTIONED = {
    "response_format": "response_format|json_schema|schema|grammar",
    "stop": r"['\"`]stop['\"`]|\bstop (?:sequence|string|word|parameter)|\bparameter:? stop\b",
    "system": r"\bsystem['\"`]? (?:role|message|prompt|instruction)|\brole:? ['\"`]?system\b|messages\[0\]\.role",
}
"""Parameter -> how errors name it; others are named as they are."""
_TOO_LONG = re.compile("context.?(?:length|window)|too (?:large|long|many tokens)|exceed", re.IGNORECASE)


def refused_parameter(error: Exception, sent: Collection[str]) -> str | None:
    """The parameter that the server refuses, or None if it refuses something else.

    Args:
        error: The error, as in `translated`.
        sent: The parameters of the request; "system" stands for a message of the system role.
    """
    if getattr(error, "status_code", None) not in (400, 422) or "content_filter" in _codes(error):
        return None
    text = str(error)
    named = str(_body(error).get("param") or "").partition(".")[0]
    if _TOO_LONG.search(text):  # this names the limit and the prompt, and would be so without them
        sent = [name for name in sent if name != "system" and not name.endswith("_tokens")]
    if named in sent:
        return named
    found = {name: re.search(_MENTIONED.get(name, rf"\b{name}\b"), text, re.IGNORECASE) for name in sent}
    places = {name: match.start() for name, match in found.items() if match is not None}
    # The first one: allowed parameters may be listed after the one that is not.
    return min(places, key=lambda name: places[name], default=None)
