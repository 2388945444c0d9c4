"""LiteLLM, its HTTP clients, and a client of our own that limits how long a reply may be."""

from __future__ import annotations

import asyncio
import inspect
import os
import warnings
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from simenv.errors import LLMRefused

MAX_REPLY_BYTES = 2_000_000
"""Longest reply of a server of one's own, in bytes of its body: some 400,000 tokens. A longer one is not read."""


def load_litellm() -> Any:
    """LiteLLM, imported without a download and without messages of its own."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # otherwise the import downloads a price list
    import litellm

    litellm.suppress_debug_info = True
    litellm.telemetry = False
    # The client warns, in its own words, of every reply that is not exactly of OpenAI's types.
    warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)
    return litellm


def client_of(api_base: str, api_key: str | None, where: str) -> Any:
    """A client of OpenAI's protocol that reads no more than MAX_REPLY_BYTES of a reply.

    The query of `api_base` is that of every request; its user and password are sent instead of the key.

    Args:
        api_base: URL of the server.
        api_key: Key; by default that of the environment.
        where: The model and its server, to begin messages with.
    """
    load_litellm()
    import httpx
    from litellm.llms.openai.common_utils import BaseOpenAILLM
    from openai import AsyncOpenAI

    http = BaseOpenAILLM.get_async_http_client()  # with its proxies and certificates
    assert isinstance(http, httpx.AsyncClient)

    async def limit(response: httpx.Response) -> None:
        response.stream = _limited(response.stream, where)

    http.event_hooks = {"request": [], "response": [limit]}
    parts = urlsplit(api_base)
    if parts.username is not None:
        http.auth = httpx.BasicAuth(unquote(parts.username), unquote(parts.password or ""))
    return AsyncOpenAI(
        api_key=api_key,
        base_url=parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl(),
        default_query=dict(parse_qsl(parts.query, keep_blank_values=True)),
        default_headers={"Accept-Encoding": "identity"},  # a small body must not unpack to a large one
        http_client=http,
        max_retries=0,
    )


def _limited(stream: Any, where: str) -> Any:
    """The stream, which raises LLMRefused where it is longer than MAX_REPLY_BYTES."""
    import httpx

    class Limited(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            read = 0
            async for part in stream:
                read += len(part)
                if read > MAX_REPLY_BYTES:
                    raise LLMRefused(f"{where} sent a reply of more than {MAX_REPLY_BYTES / 1e6:g} MB")
                yield part

        async def aclose(self) -> None:
            await stream.aclose()

    return Limited()


_open: dict[asyncio.AbstractEventLoop, tuple[AsyncGenerator[None, None], list[Any]]] = {}
"""Event loop -> generator that closes LiteLLM's clients of this loop, and our own."""


async def close_with_the_loop(own: Any = None) -> None:
    """Ensures that LiteLLM's clients of the running event loop, and `own`, are closed before the loop ends.

    LiteLLM keeps one set of clients per event loop and leaves their connections open when the loop ends. When a loop
    ends (asyncio.run, the background loop), it first runs the `finally` of every asynchronous generator started in it.
    """
    loop = asyncio.get_running_loop()

    async def until_loop_ends() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            _, ours = _open.pop(loop)
            clients = load_litellm().in_memory_llm_clients_cache.cache_dict
            theirs = [clients.pop(key) for key in list(clients) if key.endswith(f"-{id(loop)}")]
            for client in (*ours, *theirs):
                close = getattr(client, "aclose", None) or getattr(client, "close", None)
                closing = close() if close else None
                if inspect.isawaitable(closing):
                    await closing

    if loop not in _open:
        _open[loop] = (until_loop_ends(), [])
        await anext(_open[loop][0])
    if own is not None and own not in _open[loop][1]:
        _open[loop][1].append(own)
