"""Calls of a server with OpenAI's protocol: one POST per completion, over connections of aiohttp that are kept open.

OpenAI's own client does the same, at three times the time per call, also on aiohttp (benchmarks/speed/client.py).
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from simenv.background_loop import PerLoop, at_end_of_loop
from simenv.errors import InputError, LLMRefused
from simenv.llm.chat import Reply, error_of, read_completion
from simenv.llm.prices import cost_of

if TYPE_CHECKING:
    import aiohttp

MAX_REPLY_BYTES = 2_000_000
"""Longest reply, in bytes of its body: some 400,000 tokens. A longer one is not read."""
_KEPT = 4.0
"""Seconds that an unused connection is kept: less than servers do (uvicorn: 5), which would cut it in mid-request."""


@dataclass(frozen=True)
class Provider:
    """A name before the slash of a model's name that stands for OpenAI's protocol.

    Attributes:
        key: Environment variable of the key.
        bases: Environment variables of the URL; the first one that is set counts.
        base: The URL without them; None: there must be one.
    """

    key: str
    bases: tuple[str, ...]
    base: str | None = None


PROVIDERS: Mapping[str, Provider] = {
    "openai": Provider("OPENAI_API_KEY", ("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com/v1"),
    "custom_openai": Provider("OPENAI_API_KEY", ("OPENAI_BASE_URL", "OPENAI_API_BASE")),
    "hosted_vllm": Provider("HOSTED_VLLM_API_KEY", ("HOSTED_VLLM_API_BASE",)),
    "litellm_proxy": Provider("LITELLM_PROXY_API_KEY", ("LITELLM_PROXY_API_BASE",)),
}


class OpenAIServer:
    """A server with OpenAI's protocol.

    The query of `api_base` is that of every request; its user and password are sent instead of the key. Proxies come
    from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY, certificates from SSL_CERT_FILE; SSL_VERIFY is a path of
    certificates, or false.

    Args:
        model: Name of the model, with one of PROVIDERS first.
        api_base: URL of the server; by default that of the provider's environment variable.
        api_key: Key; by default that of the provider's environment variable. A server of one's own may need none.
        connections: Most connections at a time.
        where: The model and its server, to begin messages with.

    Raises:
        InputError: nothing says where the server is.
    """

    def __init__(self, model: str, api_base: str | None, api_key: str | None, connections: int, where: str) -> None:
        name, _, self._model = model.partition("/")
        provider = PROVIDERS[name]
        given = (api_base, *(os.environ.get(base) for base in provider.bases), provider.base)
        url = next((url for url in given if url), None)
        if url is None:
            raise InputError(f"{model} needs api_base, the URL of its server, or {provider.bases[0]}")
        self._where = where
        self._connections = connections
        key = api_key or os.environ.get(provider.key)
        self._lacks_key = f"{where} needs api_key, or {provider.key}" if not key and url == provider.base else None
        parts = urlsplit(url)
        self._user = parts.netloc.rpartition("@")[0]
        self._url = parts._replace(
            netloc=parts.netloc.rpartition("@")[2], path=f"{parts.path.rstrip('/')}/chat/completions"
        )
        self._key = key or "none"
        self._proxy = _proxy_of(self._url.scheme, self._url.netloc)
        self._open = PerLoop(partial(_Connections, self))

    async def ask(self, messages: list[dict[str, str]], settings: Mapping[str, Any]) -> Reply:
        """One completion.

        Args:
            messages: The prompt.
            settings: Further fields of the request; None: not sent. Those in `extra_body` are fields of their own.

        Raises:
            LLMError: the reply is no completion.
            chat.ServerError: the server says what is wrong.
            aiohttp.ClientError: there is no reply.
        """
        if self._lacks_key:
            raise LLMRefused(self._lacks_key)
        body = {"model": self._model, "messages": messages}
        body.update((name, value) for name, value in settings.items() if value is not None and name != "extra_body")
        body.update(settings.get("extra_body") or {})
        connections = await self._open.get().opened()
        async with connections.session.post(
            connections.url, data=json.dumps(body).encode(), headers=connections.headers, proxy=self._proxy
        ) as response:
            came, status, headers = await self._read(response), response.status, response.headers
        if status >= 400:
            raise error_of(came, status, headers)
        completion = read_completion(came, self._where)
        return Reply(completion, headers, cost_of(completion, self._model))

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, if it is not longer than MAX_REPLY_BYTES."""
        parts, read = [], 0
        async for part in response.content.iter_any():
            read += len(part)
            if read > MAX_REPLY_BYTES:
                raise LLMRefused(f"{self._where} sent a reply of more than {MAX_REPLY_BYTES / 1e6:g} MB")
            parts.append(part)
        return b"".join(parts)


class _Connections:
    """The connections of one event loop, which are closed with it."""

    def __init__(self, server: OpenAIServer) -> None:
        import aiohttp
        from yarl import URL

        secure = server._url.scheme == "https" or (server._proxy or "").startswith("https")
        connector = aiohttp.TCPConnector(
            limit=server._connections, keepalive_timeout=_KEPT, ssl=_certificates() if secure else True
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the caller limits the whole call
        )
        self.url = URL(server._url.geturl())
        user, _, password = server._user.partition(":")
        self.headers = {
            "Content-Type": "application/json",
            "Accept": "application/json",
            "Accept-Encoding": "identity",  # a small body must not unpack to a large one
            "Authorization": (
                "Basic " + base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
                if server._user
                else f"Bearer {server._key}"
            ),
        }
        self._is_open = False

    async def opened(self) -> _Connections:
        if not self._is_open:
            self._is_open = True
            await at_end_of_loop(self.session.close)
        return self


def _certificates() -> ssl.SSLContext | bool:
    """What a server's certificate is checked against."""
    import certifi

    said = os.environ.get("SSL_VERIFY", "")
    if said.lower() in ("false", "0", "no"):
        return False
    chosen = said if os.path.exists(said) else os.environ.get("SSL_CERT_FILE") or certifi.where()
    return ssl.create_default_context(
        cafile=None if os.path.isdir(chosen) else chosen,
        capath=chosen if os.path.isdir(chosen) else os.environ.get("SSL_CERT_DIR"),
    )


def _proxy_of(scheme: str, netloc: str) -> str | None:
    """The proxy that the environment names for a server, or None."""
    if urllib.request.proxy_bypass(netloc):
        return None
    proxies = urllib.request.getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
