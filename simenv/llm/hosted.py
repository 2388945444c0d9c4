"""Language models with an API: any OpenAI-compatible server, and hosted providers through LiteLLM.

Concurrency is bounded. Retryable errors are retried with exponential, jittered waits (`server_health`). A parameter
that the server refuses is no longer sent, with a warning. Tokens and cost are read from each reply.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

from simenv.errors import LLMCutShort, LLMError, LLMRefused, LLMUnavailable
from simenv.llm.base import LLM, Capability, Completion, JSONSchema, Prompt, Request, Sampling
from simenv.llm.chat import Reply
from simenv.llm.hosted_errors import WITHOUT, nobody_listens, refused_parameter, too_late, translated
from simenv.llm.litellm_calls import LiteLLMProvider
from simenv.llm.litellm_library import load_litellm
from simenv.llm.openai_server import PROVIDERS, OpenAIServer
from simenv.llm.replies import start_of, without_reasoning
from simenv.llm.server_health import ServerHealth
from simenv.llm.server_options import ServerOptions, server_options
from simenv.records import Usage
from simenv.secrets import masked, masked_keys, remember, remember_fields, remember_url
from simenv.seeding import keyed_int

T = TypeVar("T")

_log = logging.getLogger(__name__)


class HostedLLM(LLM):
    """A model behind a server.

    Models of the providers openai, custom_openai, hosted_vllm and litellm_proxy are asked directly, all others through
    LiteLLM, in the protocol of their provider.

    Args:
        model: LiteLLM's name of the model, provider first, such as "openai/gpt-4o-mini". Use "openai/ANY-NAME" with
            `api_base` for your own server with OpenAI's protocol.
        api_base: URL of the server, for instance "http://127.0.0.1:8080/v1".
        api_key: Key; by default that of the provider's environment variable.
        concurrency: Maximum number of concurrent calls, and of connections.
        timeout: Seconds per call, from the request to the last byte of the reply.
        attempts: Number of attempts per call before LLMUnavailable is raised.
        max_wait: Longest wait between two attempts, seconds, also where the server names a longer one: in Retry-After,
            retry-after-ms, or x-ratelimit-reset-requests and -tokens once none remain; see `server_health`.
        server_options: What each request asks for beside the prompt, by name: fields of `ServerOptions`.

    Raises:
        InputError: an unknown option of the server, a value that no server takes, or nothing says where it is.
    """

    follows_formats = True
    capabilities = frozenset({Capability.JSON_SCHEMA})

    def __init__(
        self,
        model: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        concurrency: int = 16,
        timeout: float = 120.0,
        attempts: int = 6,
        max_wait: float = 20.0,
        server_options: Mapping[str, Any] | ServerOptions | None = None,
    ) -> None:
        super().__init__()
        self.name = model
        self.concurrency = concurrency
        self.server_options = _as_options(server_options)
        self._address = f"{model} at {masked(api_base)}" if api_base else model
        remember_url(api_base)
        remember(api_key)
        remember_fields(self.server_options.fields)
        self._timeout = timeout
        self._refused: set[str] = set()  # parameters that are no longer sent
        self._health = ServerHealth(self.address, concurrency=concurrency, attempts=attempts, max_wait=max_wait)
        self._server = (
            OpenAIServer(model, api_base, api_key, concurrency, self.address)
            if model.partition("/")[0] in PROVIDERS
            else LiteLLMProvider(model, api_base, api_key, list(self.server_options.fields), timeout, self.address)
        )

    @property
    def address(self) -> str:
        return self._address

    @property
    def priced(self) -> bool:
        """Whether LiteLLM lists a price of the model."""
        try:
            load_litellm().cost_per_token(model=self.name, prompt_tokens=1, completion_tokens=1)
        except Exception:  # LiteLLM may raise any exception
            return False
        return True

    async def preflight(self) -> None:
        """Makes one short call, retried as any other, to detect a refused key or an unreachable server early.

        Any reply shows that the server can be used, also one without an answer: a reasoning model may use up the 64
        tokens before it answers. An address that nobody listens at is not tried again.
        """
        sampling = self.server_options.applied(Sampling()).model_copy(update={"max_tokens": 64})
        request = Request(prompt=Prompt(user="Hello"), sampling=sampling, key=("preflight",))
        await self._with_retries(self._send, request, while_refused=False)

    async def _generate(self, request: Request) -> Completion:
        async def call(request: Request) -> Completion:
            return self._read(await self._send(request), request.sampling)

        return await self._with_retries(call, request)

    async def _with_retries(
        self, call: Callable[[Request], Awaitable[T]], request: Request, *, while_refused: bool = True
    ) -> T:
        """Makes the call until it succeeds, fails for good or has been tried `attempts` times.

        Args:
            call: The call.
            request: What it asks.
            while_refused: Whether a refused connection is tried again.
        """

        def again(error: LLMError) -> bool:
            return error.retryable and (while_refused or not nobody_listens(error))

        try:
            return await self._health.call(lambda: call(request), again)
        finally:
            self.retries = self._health.retries

    async def _send(self, request: Request) -> Reply:
        """The server's reply.

        Raises:
            LLMError: it is no completion.
        """
        while True:
            settings = self._settings(request)
            merged = "system" in self._refused
            try:
                async with asyncio.timeout(self._timeout):
                    reply = await self._server.ask(_messages(request.prompt, merged=merged), settings)
            except LLMError:
                raise
            except Exception as error:
                if too_late(error):
                    said = f"{self.address} gave no completion within {self._timeout:g} s"
                    raise LLMUnavailable(said) from None
                # Concurrent calls may all be refused: what counts is what this one sent.
                roles = ["system"] if request.prompt.system and not merged else []
                refused = refused_parameter(error, [*(n for n, value in settings.items() if value is not None), *roles])
                if refused is None:
                    # An error's text may hold the key, and a traceback shows that of its cause.
                    raise translated(error, self.address) from None
                self._drop(refused)
                continue
            self._health.replied(reply.headers)
            return reply

    def _settings(self, request: Request) -> dict[str, Any]:
        """The request's parameters, without those that the server has refused."""
        sampling = request.sampling
        limit = "max_completion_tokens" if "max_tokens" in self._refused else "max_tokens"
        settings = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            limit: sampling.max_tokens,
            "stop": list(sampling.stop) or None,
            "response_format": _response_format(request),
            "seed": keyed_int(*request.key) % 2**31,
            **self.server_options.fields,
        }
        return {name: value for name, value in settings.items() if name not in self._refused}

    def _drop(self, name: str) -> None:
        """Stops sending a parameter. The first time, it warns of what no longer reproduces."""
        if name not in self._refused and name in WITHOUT:
            _log.warning("%s refuses %s, which is no longer sent: %s", self.address, name, WITHOUT[name])
        self._refused.add(name)

    def _read(self, reply: Reply, sampling: Sampling) -> Completion:
        choice = reply.completion["choices"][0]
        text = self._answer(choice, sampling)
        if "stop" in self._refused:
            text = min((text.partition(stop)[0] for stop in sampling.stop), key=len, default=text)
        used = reply.completion.get("usage") or {}
        return Completion(
            text=masked_keys(text.encode(errors="replace").decode()),  # a lone surrogate cannot be written to a file
            finish="length" if choice.get("finish_reason") == "length" else "stop",
            usage=Usage(
                calls=1,
                **_tokens(used.get("prompt_tokens"), used.get("completion_tokens")),
                cost_usd=reply.cost_usd,
            ),
        )

    def _answer(self, choice: Mapping[str, Any], sampling: Sampling) -> str:
        """The answer, without reasoning.

        Raises:
            LLMError: there is none.
        """
        where, message, finish = self.address, choice["message"], choice.get("finish_reason")
        refusal = message.get("refusal") or (message.get("provider_specific_fields") or {}).get("refusal")
        if refusal:
            raise LLMRefused(f"{where} refuses to answer: {start_of(str(refusal))}")
        content = message.get("content")
        if finish == "content_filter":
            so_far = f" after {start_of(content)!r}" if content else ""
            raise LLMRefused(f"{where} withholds the answer: its content filter stopped it{so_far}")
        text = without_reasoning(content or "")
        if text.strip():
            return text
        if calls := message.get("tool_calls"):
            raise LLMRefused(f"{where} calls a tool instead of answering: {start_of(_tools(calls))}")
        if finish == "length":
            got = f"{where} used up max_tokens, {sampling.max_tokens}, before it answered"
            raise LLMCutShort(got, hint="set a larger max_tokens in llm_options, or a lower reasoning_effort")
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        if content is None or content != text or reasoning:
            raise LLMUnavailable(f"{where} sent a reply without an answer")
        return text


def _as_options(given: Mapping[str, Any] | ServerOptions | None) -> ServerOptions:
    return given if isinstance(given, ServerOptions) else server_options(given or {})


def _tokens(prompt: float | None, completion: float | None) -> dict[str, int | None]:
    """Tokens as the server counts them, or None. A prompt of no tokens means that it does not count."""
    if not _is_count(prompt) or not prompt:
        return {"prompt_tokens": None, "completion_tokens": None}
    return {"prompt_tokens": int(prompt), "completion_tokens": int(completion or 0) if _is_count(completion) else None}


def _is_count(tokens: float | None) -> bool:
    return tokens is not None and 0 <= tokens < 1e15


def _tools(calls: Any) -> str:
    """The names of the tools that a message calls."""
    try:
        return ", ".join(str(call["function"]["name"]) for call in calls)
    except (TypeError, KeyError):
        return str(calls)


def _messages(prompt: Prompt, *, merged: bool) -> list[dict[str, str]]:
    """The prompt's messages; the system prompt begins the user's turn where there is no system role."""
    if prompt.system and merged:
        return [{"role": "user", "content": f"{prompt.system}\n\n{prompt.user}"}]
    system = [{"role": "system", "content": prompt.system}] if prompt.system else []
    return [*system, {"role": "user", "content": prompt.user}]


def _response_format(request: Request) -> dict[str, Any] | None:
    if not isinstance(request.constraint, JSONSchema):
        return None
    schema = json.loads(request.constraint.text)
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": schema, "strict": True}}
