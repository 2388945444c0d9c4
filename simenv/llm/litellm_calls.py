"""Calls of a hosted provider through LiteLLM, which speaks its protocol."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any

from simenv.background_loop import at_end_of_loop
from simenv.errors import LLMUnavailable
from simenv.llm.chat import Reply
from simenv.llm.hosted_errors import refused_parameter, too_late, translated
from simenv.llm.litellm_library import dollars, load_litellm
from simenv.llm.replies import with_joined_parts


class LiteLLMProvider:
    """A provider that LiteLLM can reach.

    Args:
        model: LiteLLM's name of the model.
        api_base: URL of the server; by default the provider's.
        api_key: Key; by default LiteLLM reads the provider's environment variable.
        asked_for: Parameters that are sent although LiteLLM knows the provider not to support them.
        timeout: Seconds from one byte of the reply to the next.
        where: The model and its server, to begin messages with.
    """

    def __init__(
        self,
        model: str,
        api_base: str | None,
        api_key: str | None,
        asked_for: Sequence[str],
        timeout: float,
        where: str,
    ) -> None:
        self._model = model
        self._api_base = api_base
        self._api_key = api_key
        self._asked_for = list(asked_for)
        self._timeout = timeout
        self._where = where

    async def ask(self, messages: list[dict[str, str]], settings: Mapping[str, Any]) -> Reply:
        """One completion.

        Args:
            messages: The prompt.
            settings: Further parameters of the request; None: not sent.

        Raises:
            LLMError: the reply is no completion.
            Exception: any other, of LiteLLM's.
        """
        litellm = load_litellm()
        await _close_with_the_loop()
        raw: list[str | None] = []  # the reply as it came, which LiteLLM cannot always read
        try:
            reply = await litellm.acompletion(
                model=self._model,
                messages=messages,
                api_base=self._api_base,
                api_key=self._api_key,
                timeout=self._timeout,
                max_retries=0,
                drop_params=True,  # omit parameters that LiteLLM knows a provider not to support
                allowed_openai_params=self._asked_for,
                logger_fn=lambda details: raw.append(details.get("original_response")),
                **settings,
            )
        except Exception as error:
            came = raw[-1] if raw else None
            joined = _with_text(came)
            if joined is not None:
                return self._reply(litellm, litellm.ModelResponse(**joined))
            sent = [*settings, *(message["role"] for message in messages)]
            if too_late(error) or refused_parameter(error, sent) is not None:
                raise
            # An error's text may hold the key, and a traceback shows that of its cause.
            raise translated(error, self._where, came) from None
        if not getattr(reply, "choices", None):
            raise LLMUnavailable(f"{self._where} sent a reply without choices")
        return self._reply(litellm, reply)

    def _reply(self, litellm: Any, reply: Any) -> Reply:
        kept = getattr(reply, "_hidden_params", None) or {}
        headers = {str(name).lower(): str(value) for name, value in (kept.get("additional_headers") or {}).items()}
        cost = dollars(litellm.completion_cost, completion_response=reply)
        return Reply(reply.model_dump(), headers, cost)


def _with_text(came: str | None) -> dict[str, Any] | None:
    """A reply whose content in parts LiteLLM could not read, with its text; None if something else is wrong with it."""
    try:
        completion = json.loads(came or "")
        joined = with_joined_parts(json.loads(came or ""))
        load_litellm().ModelResponse(**joined)
    except (ValueError, TypeError, RecursionError):
        return None
    return None if joined == completion else joined


_open: set[asyncio.AbstractEventLoop] = set()
"""Event loops with which LiteLLM's clients will be closed."""


async def _close_with_the_loop() -> None:
    """Ensures that LiteLLM's clients of the running event loop are closed before the loop ends.

    LiteLLM keeps one set of clients per event loop and leaves their connections open when the loop ends.
    """
    loop = asyncio.get_running_loop()

    async def close() -> None:
        _open.discard(loop)
        clients = load_litellm().in_memory_llm_clients_cache.cache_dict
        for client in [clients.pop(key) for key in list(clients) if key.endswith(f"-{id(loop)}")]:
            close = getattr(client, "aclose", None) or getattr(client, "close", None)
            closing = close() if close else None
            if inspect.isawaitable(closing):
                await closing

    if loop not in _open:
        _open.add(loop)
        await at_end_of_loop(close)
