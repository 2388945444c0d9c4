"""The one seam between simenv and language models.

Callers use `complete`, `logprob` and `ensemble_decode`, which check capabilities, answer a repeated request from
memory, and add the tokens to whoever is being metered. A backend implements `_generate`, and `_score` and
`_decode_jointly` where it declares the capability.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from typing import TypeVar, cast

from cachetools import LRUCache

from simenv.background_loop import PerLoop
from simenv.errors import MissingCapability
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
    LinksOnly,
    OneOf,
    Prompt,
    Request,
    Sampling,
    ScoreRequest,
    Scores,
)
from simenv.records import Usage

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
    """What a backend may or may not be able to do."""

    CONSTRAINT = "constraint"
    """Can restrict which tokens are produced."""
    PREFILL = "prefill"
    """Can go on from the beginning of an answer."""
    JSON_SCHEMA = "json_schema"
    """Can be held to a JSON schema, or at least be asked to keep to one."""
    LOGPROBS = "logprobs"
    """Returns log-probabilities under the distribution that was sampled from, and those of a given continuation."""
    ENSEMBLE = "ensemble"
    """Can decode one text from several prompts, each token by a rule over all their distributions."""


Reply = TypeVar("Reply", Completion, Scores, EnsembleCompletion)


class Meter:
    """Adds up every completion made while it is active, and passes each on to the meter around it."""

    def __init__(self, around: Meter | None = None) -> None:
        self.usage = Usage()
        self.requests: list[AnyRequest] = []
        self._around = around

    def add(self, request: AnyRequest, usage: Usage) -> None:
        self.usage = self.usage + usage
        self.requests.append(request)
        if self._around is not None:
            self._around.add(request, usage)

    def admit(self, request: AnyRequest) -> None:
        """Told of a request that is not in memory, before a model is asked; may raise instead of letting it pass."""
        if self._around is not None:
            self._around.admit(request)


_active_meter: ContextVar[Meter | None] = ContextVar("simenv_meter", default=None)


@contextmanager
def metered(meter: Meter | None = None) -> Iterator[Meter]:
    """Meters the completions of the block, those of tasks started in it included; by `meter` if one is given."""
    meter = meter or Meter(_active_meter.get())
    token = _active_meter.set(meter)
    try:
        yield meter
    finally:
        _active_meter.reset(token)


def display_name(name: str) -> str:
    """How results refer to the model that `make_llm(name)` builds: a local folder by its last part alone."""
    return f"local:{Path(name).name}" if name.startswith("local:") else name


class _UnderWay:
    """The requests of one event loop that are being answered."""

    def __init__(self) -> None:
        self.futures: dict[AnyRequest, asyncio.Future[Completion | Scores]] = {}
        self._waiting: Counter[AnyRequest] = Counter()

    async def wait(self, request: AnyRequest, future: asyncio.Future[Completion | Scores]) -> Completion | Scores:
        """Waits for a reply that others may wait for too; the last one who gives up on it cancels it."""
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
        name: How results refer to it, for instance "embedded" or "openai/gpt-4o-mini".
        capabilities: What the backend can do.
        follows_formats: Whether the model can be trusted to follow a format and to judge on its own. Small models
            cannot: mechanisms then write in two constrained stages, and the click model judges.
        retries: Calls that had to be made again since the model was built.

    Args:
        memory: How many replies are remembered; the one that was not asked for longest is forgotten first.
    """

    name: str = "llm"
    capabilities: frozenset[Capability] = frozenset()
    follows_formats: bool = True

    def __init__(self, *, memory: int = 8192) -> None:
        self.retries = 0
        self._done: LRUCache[AnyRequest, Completion | Scores] = LRUCache(memory)
        self._under_way = PerLoop(_UnderWay)

    @abstractmethod
    async def _generate(self, request: Request) -> Completion:
        """Answers one request. Concurrent calls are the backend's to batch or to bound.

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
        """The name, and the server's URL where one is given: two servers may serve models of one name."""
        return self.name

    async def preflight(self) -> None:  # noqa: B027 (optional: a local model that loaded can be used)
        """Fails fast if the model cannot be used at all (weights missing, server unreachable, key refused)."""

    async def complete(
        self,
        prompt: Prompt | str,
        *,
        key: Key,
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
    ) -> Completion:
        """Completes `prompt`.

        The same request (prompt, sampling, key, constraint) is answered once and then from memory: mechanisms that
        ask for the same organic answer get the same text. It is metered each time, because each of them needs it.

        Args:
            prompt: A chat prompt; a bare string is the user's turn.
            key: Names the randomness; see `Key`. Another sample of the same prompt needs another key.
            sampling: How to sample; the paper's Ad-LLM by default.
            constraint: What may be produced.

        Raises:
            MissingCapability: the backend cannot do what the prompt or the constraint needs.
            LLMError: no usable completion, after all retries.
        """
        request = Request(prompt=_prompt(prompt), sampling=sampling or Sampling(), key=key, constraint=constraint)
        self._require_for(constraint, request.prompt)
        return await self._ask(request, lambda: self._generate(request))

    async def logprob(
        self,
        prompt: Prompt | str,
        continuations: Sequence[str],
        *,
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
    ) -> tuple[tuple[float, ...], ...]:
        """Log-probability of every token of each continuation, given the prompt; a row's sum is the continuation's.

        Continuations are read in their canonical tokenization, and under `LinksOnly` each link by itself, as decoding
        writes it. One request is one call, whose prompt counts once.

        Args:
            prompt: As in `complete`.
            continuations: Texts that follow the prompt.
            sampling: The distribution to score under (temperature, top-p, top-k); the model's own by default.
            constraint: As in `complete`: a token that it forces has 0, one that it forbids -inf, as has everything
                after. Under `OneOf` the end is scored too, so that the options' probabilities sum to 1.

        Raises:
            MissingCapability: the backend cannot score, or cannot do what the prompt or the constraint needs.
        """
        request = ScoreRequest(
            prompt=_prompt(prompt),
            continuations=tuple(continuations),
            sampling=sampling or PLAIN,
            constraint=constraint,
        )
        self.require(Capability.LOGPROBS)
        self._require_for(constraint, request.prompt)
        return (await self._ask(request, lambda: self._score(request))).logprobs

    async def ensemble_decode(
        self,
        prompts: Sequence[Prompt | str],
        combine: Combine,
        *,
        key: Key,
        sampling: Sampling | None = None,
        constraint: Constraint | None = None,
    ) -> EnsembleCompletion:
        """Decodes one text from several prompts: at each token `combine` draws from all their distributions.

        Each prompt has its own cache; all go on with the same token. Constraint and sampling act on every
        distribution before they are combined. Every prompt counts as a call, and the text's tokens once per prompt.

        Args:
            prompts: One for each member of the ensemble.
            combine: The rule; its `repr` must name it and all its numbers, for the text is remembered under it.
            key: Names the randomness; see `Key`.
            sampling: Of every member; the model's own distribution by default.
            constraint: As in `complete`.

        Raises:
            MissingCapability: the backend cannot decode jointly, or cannot do what prompts or constraint need.
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
        return await self._ask(request, lambda: self._decode_jointly(request, combine))

    async def _ask(self, request: AnyRequest, make: Callable[[], Awaitable[Reply]]) -> Reply:
        """The reply to a request: remembered, under way already, or made. It is metered in any case."""
        reply = self._done.get(request)
        if reply is None:
            under_way = self._under_way.get()
            future = under_way.futures.get(request)
            if future is None:
                asking = _active_meter.get()
                if asking is not None:
                    asking.admit(request)
                future = cast("asyncio.Future[Completion | Scores]", asyncio.ensure_future(make()))
                under_way.futures[request] = future
                future.add_done_callback(lambda _: under_way.futures.pop(request, None))
            reply = await under_way.wait(request, future)
            if self._done.maxsize:  # a cache of size 0 refuses every item
                self._done[request] = reply
        meter = _active_meter.get()
        if meter is not None:
            meter.add(request, reply.usage)
        return cast("Reply", reply)

    def _require_for(self, constraint: Constraint | None, *prompts: Prompt) -> None:
        if isinstance(constraint, JSONSchema):
            self.require(Capability.JSON_SCHEMA)
        elif constraint is not None:
            self.require(Capability.CONSTRAINT)
        if any(prompt.prefill for prompt in prompts):
            self.require(Capability.PREFILL)

    def can(self, capability: Capability) -> bool:
        """Whether the backend can do it."""
        return capability in self.capabilities

    def require(self, capability: Capability) -> None:
        """Raises MissingCapability unless the backend can do it."""
        if not self.can(capability):
            has = ", ".join(sorted(self.capabilities)) or "none"
            raise MissingCapability(f"language model {self.name!r} lacks {capability.value!r}; it has {has}")


def _prompt(prompt: Prompt | str) -> Prompt:
    return Prompt(user=prompt) if isinstance(prompt, str) else prompt
