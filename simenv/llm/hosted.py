"""Language models with an API, through LiteLLM: hosted providers and any OpenAI-compatible server.

Concurrency is bounded. Retryable errors are retried with exponential, jittered waits. A parameter that the server
refuses is no longer sent, with a warning. Tokens and cost are read from each reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypeVar

import tenacity

from simenv.background_loop import PerLoop
from simenv.errors import LLMCutShort, LLMError, LLMRefused, LLMUnavailable
from simenv.llm.base import LLM, Capability, Completion, JSONSchema, Prompt, Request, Sampling
from simenv.llm.hosted_client import client_of, close_with_the_loop, load_litellm
from simenv.llm.hosted_errors import (
    WITHOUT,
    nobody_listens,
    refused_parameter,
    retry_after,
    too_late,
    translated,
)
from simenv.llm.replies import start_of, with_joined_parts, without_reasoning
from simenv.llm.server_options import ServerOptions, server_options
from simenv.records import Usage
from simenv.secrets import masked, masked_keys, remember, remember_fields, remember_url
from simenv.seeding import keyed_int

T = TypeVar("T")

_log = logging.getLogger(__name__)


class HostedLLM(LLM):
    """A model that LiteLLM can reach.

    Args:
        model: LiteLLM's name of the model, provider first, such as "openai/gpt-4o-mini". Use "openai/ANY-NAME" with
            `api_base` for your own server with OpenAI's protocol.
        api_base: URL of the server, for instance "http://127.0.0.1:8080/v1".
        api_key: Key; by default LiteLLM reads the provider's environment variable.
        concurrency: Maximum number of concurrent calls.
        timeout: Seconds per call, from the request to the last byte of the reply.
        attempts: Number of attempts per call before LLMUnavailable is raised.
        max_wait: Longest wait between two attempts, seconds, also where the server names a longer one (Retry-After).
        server_options: What each request asks for beside the prompt, by name: fields of `ServerOptions`.

    Raises:
        InputError: an unknown option of the server, or a value that no server takes.
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
        self._api_base = api_base
        remember_url(api_base)
        remember(api_key)
        remember_fields(self.server_options.fields)
        # A self-hosted server usually needs no key, but OpenAI's client requires one. Other clients do not.
        keyless = api_base and "openai" in model.split("/")[0] and "OPENAI_API_KEY" not in os.environ
        self._api_key = api_key or ("none" if keyless else None)
        self._timeout = timeout
        self._attempts = attempts
        self._max_wait = max_wait
        self._refused: set[str] = set()  # parameters that are no longer sent
        self._slots = PerLoop(partial(asyncio.Semaphore, concurrency))
        # Another protocol than OpenAI's needs a client of LiteLLM's.
        own = api_base if api_base and "openai" in model.split("/")[0] else None
        self._client = PerLoop(partial(client_of, own, self._api_key, self.address)) if own else None

    @property
    def address(self) -> str:
        return f"{self.name} at {masked(self._api_base)}" if self._api_base else self.name

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

        def again(error: BaseException) -> bool:
            return isinstance(error, LLMError) and error.retryable and (while_refused or not nobody_listens(error))

        def count(_: tenacity.RetryCallState) -> None:
            self.retries += 1

        backoff = tenacity.wait_exponential_jitter(max=self._max_wait)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            return min(self._max_wait, max(backoff(state), retry_after(error)))

        retrying = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception(again),
            stop=tenacity.stop_after_attempt(self._attempts),
            wait=wait if self._max_wait else tenacity.wait_none(),
            before_sleep=count,
            reraise=True,
        )
        async with self._slots.get():
            reply: T = await retrying(call, request)
            return reply

    async def _send(self, request: Request) -> Any:
        """LiteLLM's reply with at least one choice.

        Raises:
            LLMError: there is none.
        """
        litellm = load_litellm()
        client = self._client.get() if self._client else None
        await close_with_the_loop(client)
        while True:
            settings = self._settings(request)
            sent = [name for name, value in settings.items() if value is not None]
            merged = "system" in self._refused
            raw: list[str | None] = []  # the reply as it came, which LiteLLM cannot always read
            try:
                async with asyncio.timeout(self._timeout):  # LiteLLM's is from one byte to the next
                    reply = await litellm.acompletion(
                        model=self.name,
                        messages=_messages(request.prompt, merged=merged),
                        api_base=self._api_base,
                        api_key=self._api_key,
                        client=client,
                        timeout=self._timeout,
                        max_retries=0,
                        drop_params=True,  # omit parameters that LiteLLM knows a provider not to support
                        allowed_openai_params=list(self.server_options.fields),  # but these were asked for
                        logger_fn=lambda details, raw=raw: raw.append(details.get("original_response")),
                        **settings,
                    )
            except Exception as error:
                if too_late(error):
                    said = f"{self.address} gave no completion within {self._timeout:g} s"
                    raise LLMUnavailable(said) from None
                came = raw[-1] if raw else None
                joined = with_joined_parts(came)
                if joined is not None:
                    with contextlib.suppress(ValueError, TypeError):  # something else is wrong with it
                        return litellm.ModelResponse(**joined)
                # Concurrent calls may all be refused: what counts is what this one sent.
                roles = ["system"] if request.prompt.system and not merged else []
                refused = refused_parameter(error, [*sent, *roles])
                if refused is None:
                    # An error's text may hold the key, and a traceback shows that of its cause.
                    raise translated(error, self.address, came) from None
                self._drop(refused)
                continue
            if not getattr(reply, "choices", None):
                raise LLMUnavailable(f"{self.address} sent a reply without choices")
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

    def _read(self, reply: Any, sampling: Sampling) -> Completion:
        choice = reply.choices[0]
        text = self._answer(choice, sampling)
        if "stop" in self._refused:
            text = min((text.partition(stop)[0] for stop in sampling.stop), key=len, default=text)
        try:
            cost = float(load_litellm().completion_cost(completion_response=reply) or 0.0)
        except Exception:  # for a model without a listed price, LiteLLM may raise any exception
            cost = 0.0
        used = getattr(reply, "usage", None)
        return Completion(
            text=masked_keys(text.encode(errors="replace").decode()),  # a lone surrogate cannot be written to a file
            finish="length" if choice.finish_reason == "length" else "stop",
            usage=Usage(
                calls=1,
                **_tokens(getattr(used, "prompt_tokens", None), getattr(used, "completion_tokens", None)),
                cost_usd=max(0.0, cost),
            ),
        )

    def _answer(self, choice: Any, sampling: Sampling) -> str:
        """The answer, without reasoning.

        Raises:
            LLMError: there is none.
        """
        where, message = self.address, choice.message
        refusal = (getattr(message, "provider_specific_fields", None) or {}).get("refusal")
        if refusal:
            raise LLMRefused(f"{where} refuses to answer: {start_of(refusal)}")
        content = message.content or ""
        if choice.finish_reason == "content_filter":
            so_far = f" after {start_of(content)!r}" if content else ""
            raise LLMRefused(f"{where} withholds the answer: its content filter stopped it{so_far}")
        text = without_reasoning(content)
        if text.strip():
            return text
        if message.tool_calls:
            names = ", ".join(str(call.function.name) for call in message.tool_calls)
            raise LLMRefused(f"{where} calls a tool instead of answering: {start_of(names)}")
        if choice.finish_reason == "length":
            got = f"{where} used up max_tokens, {sampling.max_tokens}, before it answered"
            raise LLMCutShort(got, hint="set a larger max_tokens in llm_options, or a lower reasoning_effort")
        if message.content is None or content != text or getattr(message, "reasoning_content", None):
            raise LLMUnavailable(f"{where} sent a reply without an answer")
        return text


def _as_options(given: Mapping[str, Any] | ServerOptions | None) -> ServerOptions:
    return given if isinstance(given, ServerOptions) else server_options(given or {})


def _tokens(prompt: int | None, completion: int | None) -> dict[str, int | None]:
    """Tokens as the server counts them, or None. A prompt of no tokens means that it does not count."""
    if not prompt or prompt < 0:
        return {"prompt_tokens": None, "completion_tokens": None}
    known = completion is not None and completion >= 0
    return {"prompt_tokens": prompt, "completion_tokens": completion if known else None}


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
