"""The interface between simenv and language models.

Callers use `complete`, `logprob` and `ensemble_decode`. These check capabilities, answer a repeated request from
memory, and add the tokens to the active meter. A backend implements `_generate`, and also `_score` and
`_decode_jointly` if it declares the capability.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, cast

from simenv.background_loop import PerLoop
from simenv.errors import MissingCapability
from simenv.llm.meter import Meter, active_meter, metered
from simenv.llm.requests import (
    PLAIN,
    AnyRequest,
    Combine,
    Combined,
    Completion,
    Constraint,
    EnsembleCompletion,
    EnsembleRequest,
    JSONSchema,
    Key,
    LabelledLinks,
    LinksOnly,
    OneOf,
    Prompt,
    Request,
    Sampling,
    ScoreRequest,
    Scores,
)
from simenv.llm.server_options import ServerOptions
from simenv.llm.special_tokens import safe_prompt

__all__ = [
    "LLM",
    "PLAIN",
    "AnyRequest",
    "Capability",
    "Combine",
    "Combined",
    "Completion",
    "Constraint",
    "EnsembleCompletion",
    "EnsembleRequest",
    "JSONSchema",
    "Key",
    "LabelledLinks",
    "LinksOnly",
    "Meter",
    "OneOf",
    "Prompt",
    "Reply",
    "Request",
    "Sampling",
    "ScoreRequest",
    "Scores",
    "display_name",
    "metered",
]


class Capability(StrEnum):
    """Optional features of a backend."""

    CONSTRAINT = "constraint"
    """Restricts which tokens can be produced."""
    PREFILL = "prefill"
    """Continues a given beginning of the answer."""
    JSON_SCHEMA = "json_schema"
    """Enforces a JSON schema, or at least requests it from the server."""
    LOGPROBS = "logprobs"
    """Returns log-probabilities under the sampling distribution, and those of a given continuation."""
    ENSEMBLE = "ensemble"
    """Decodes one text from several prompts: a rule draws each token from all their distributions."""


Reply = TypeVar("Reply", Completion, Scores, EnsembleCompletion)


def display_name(name: str) -> str:
    """The name, in results, of the model that `make_llm(name)` builds: for a local folder, its last path component."""
    return f"local:{Path(name).name}" if name.startswith("local:") else name


class _UnderWay:
    """The requests of one event loop that are in progress."""

    def __init__(self) -> None:
        self.futures: dict[AnyRequest, asyncio.Future[Completion | Scores]] = {}
        self._waiting: Counter[AnyRequest] = Counter()

    async def wait(self, request: AnyRequest, future: asyncio.Future[Completion | Scores]) -> Completion | Scores:
        """Waits for a reply that several tasks may wait for; when the last of them is cancelled, so is the call."""
        self._waiting[request] += 1
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if self._waiting[request] == 1:
                future.cancel()
            raise
        finally:
            self._waiting[request] -= 1
            if not self._waiting[request]:
                del self._waiting[request]


class LLM(ABC):
    """A language model.

    Attributes:
        name: Its name in results, for instance "embedded" or "openai/gpt-4o-mini".
        capabilities: The optional features of the backend.
        follows_formats: Whether the model reliably follows a format and can act as a judge. Small models cannot:
            mechanisms then write in two constrained stages, and the click model judges.
        runs_here: Whether its numbers are computed in this process, so that they depend on the processor.
        batch_dependent: Whether a text's bits depend on what shares its batch. A run then batches by chunk alone.
        arithmetic: What computes them and in which precision, such as "onnxruntime float32"; None where it is unknown.
        concurrency: Most calls in flight; None: no limit of its own.
        retries: Number of retried calls since the model was built.
        server_options: What each completion asks for beside the prompt; all unset but for models behind a server.

    Args:
        memory: Maximum number of remembered replies; the least recently used one is dropped first.
    """

    name: str = "llm"
    capabilities: frozenset[Capability] = frozenset()
    follows_formats: bool = True
    runs_here: bool = False
    batch_dependent: bool = False
    arithmetic: str | None = None
    concurrency: int | None = None
    server_options: ServerOptions = ServerOptions()

    def __init__(self, *, memory: int = 8192) -> None:
        self.retries = 0
        self._memory = memory
        self._done: OrderedDict[AnyRequest, Completion | Scores] = OrderedDict()
        self._under_way = PerLoop(_UnderWay)

    @abstractmethod
    async def _generate(self, request: Request) -> Completion:
        """Answers one request. The backend batches or limits concurrent calls itself.

        Raises:
            LLMError: no usable completion, after all retries.
        """

    async def _score(self, request: ScoreRequest) -> Scores:
        """Scores continuations. For backends with LOGPROBS."""
        raise NotImplementedError

    async def _decode_jointly(self, request: EnsembleRequest, combine: Combine) -> EnsembleCompletion:
        """Decodes one text from several prompts. For backends with ENSEMBLE."""
        raise NotImplementedError

    @property
    def address(self) -> str:
        """The name, with the server's URL if there is one: two servers may serve models with the same name."""
        return self.name

    @property
    def priced(self) -> bool:
        """Whether the usage of its replies has their cost. A model that runs here costs nothing."""
        return True

    async def preflight(self) -> None:  # noqa: B027 (optional: a loaded local model can be used)
        """Raises early if the model cannot be used (weights missing, server unreachable, key refused)."""

    async def complete(
        self,
        prompt: Prompt | str,
        *,
        key: Key,
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
    ) -> Completion:
        """Completes `prompt`.

        Special tokens of chat models in it, such as `<|im_end|>`, are broken up (`<| im_end |>`): ads, queries and
        personas are in prompts, and none of them may open a turn of its own.

        A repeated request (same prompt, sampling, key, constraint) is answered from memory: mechanisms that request the
        same organic answer get the same text. Every request is metered, also from memory, because the usage belongs to
        each mechanism.

        Args:
            prompt: A chat prompt; a plain string is the user's turn.
            key: Names the randomness; see `Key`. Another sample of the same prompt needs another key.
            sampling: How to sample; the paper's Ad-LLM settings by default.
            constraint: Restricts the completion.

        Raises:
            MissingCapability: the backend lacks a capability that the prompt or the constraint needs.
            LLMError: no usable completion, after all retries.
        """
        request = Request(
            prompt=_prompt(prompt),
            sampling=self.server_options.applied(sampling or Sampling()),
            key=key,
            constraint=constraint,
            options=self.server_options.key,
        )
        self._require_for(constraint, request.prompt)
        return await self._ask(request, lambda: self._pay(self._generate(request)))

    async def logprob(
        self,
        prompt: Prompt | str,
        continuations: Sequence[str],
        *,
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
    ) -> tuple[tuple[float, ...], ...]:
        """Log-probability of every token of each continuation, given the prompt.

        The sum of a row is the log-probability of its continuation. Continuations have their canonical tokenization;
        under `LinksOnly` each link is tokenized separately, as in decoding. One request counts as one call, and its
        prompt counts once.

        Args:
            prompt: As in `complete`.
            continuations: Texts that follow the prompt.
            sampling: The distribution to score under (temperature, top-p, top-k); the model's own by default.
            constraint: As in `complete`. A forced token has log-probability 0; a forbidden token and all tokens after
                it have -inf. Under `OneOf` the end is scored too, so the probabilities of the options sum to 1.

        Raises:
            MissingCapability: the backend cannot score, or lacks a capability that prompt or constraint need.
        """
        request = ScoreRequest(
            prompt=_prompt(prompt),
            continuations=tuple(continuations),
            sampling=sampling or PLAIN,
            constraint=constraint,
        )
        self.require(Capability.LOGPROBS)
        self._require_for(constraint, request.prompt)
        return (await self._ask(request, lambda: self._pay(self._score(request)))).logprobs

    async def ensemble_decode(
        self,
        prompts: Sequence[Prompt | str],
        combine: Combine,
        *,
        key: Key,
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
    ) -> EnsembleCompletion:
        """Decodes one text from several prompts: `combine` draws each token from all their distributions.

        Each prompt has its own cache; all continue with the same token. Constraint and sampling are applied to every
        distribution before they are combined. Every prompt counts as a call, and the text's tokens once per prompt.

        Args:
            prompts: One for each member of the ensemble.
            combine: The rule. Its `repr` must name the rule and all its numbers: it is part of the memory's key.
            key: Names the randomness; see `Key`.
            sampling: Applied to every member; the model's own distribution by default.
            constraint: As in `complete`.

        Raises:
            MissingCapability: the backend cannot decode jointly, or lacks a capability that prompts or constraint need.
        """
        request = EnsembleRequest(
            prompts=tuple(map(_prompt, prompts)),
            rule=repr(combine),
            sampling=sampling or PLAIN,
            key=key,
            constraint=constraint,
        )
        self.require(Capability.ENSEMBLE)
        self._require_for(constraint, *request.prompts)
        return await self._ask(request, lambda: self._pay(self._decode_jointly(request, combine)))

    async def _ask(self, request: AnyRequest, make: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply to a request: from memory, from a call under way, or from a new call. It is always metered."""
        reply = self._done.get(request)
        if reply is None:
            under_way = self._under_way.get()
            future = under_way.futures.get(request)
            if future is None:
                asking = active_meter()
                if asking is not None:
                    asking.admit(request)
                future = cast("asyncio.Future[Completion | Scores]", asyncio.ensure_future(make()))
                under_way.futures[request] = future
                future.add_done_callback(lambda _: under_way.futures.pop(request, None))
            reply = await under_way.wait(request, future)
            self._done[request] = reply
            if len(self._done) > self._memory:
                self._done.popitem(last=False)
        else:
            self._done.move_to_end(request)
        meter = active_meter()
        if meter is not None:
            meter.add(request, reply.usage)
        return cast("Reply", reply)

    async def _pay(self, making: Awaitable[Reply]) -> Reply:
        """Awaits a reply that the model itself gives, and tells the active meter of its usage."""
        reply = await making
        if (meter := active_meter()) is not None:
            meter.paid(reply.usage)
        return reply

    def _require_for(self, constraint: Constraint | None, *prompts: Prompt) -> None:
        if isinstance(constraint, JSONSchema):
            self.require(Capability.JSON_SCHEMA)
        elif constraint is not None:
            self.require(Capability.CONSTRAINT)
        if any(prompt.prefill for prompt in prompts):
            self.require(Capability.PREFILL)

    def can(self, capability: Capability) -> bool:
        """Whether the backend has the capability."""
        return capability in self.capabilities

    def require(self, capability: Capability) -> None:
        """Raises MissingCapability if the backend lacks the capability."""
        if not self.can(capability):
            has = ", ".join(sorted(self.capabilities)) or "none"
            raise MissingCapability(f"language model {self.name!r} lacks {capability.value!r}; it has {has}")


def _prompt(prompt: Prompt | str) -> Prompt:
    return safe_prompt(Prompt(user=prompt) if isinstance(prompt, str) else prompt)
