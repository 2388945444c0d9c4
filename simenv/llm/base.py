"""The one seam between simenv and language models.

A backend implements `_generate`. Callers use `complete`, which checks capabilities, answers a repeated request from
memory, and adds the tokens to whoever is being metered.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field

from simenv.errors import MissingCapability
from simenv.records import Record, Usage
from simenv.seeding import KeyPart

Key = tuple[KeyPart, ...]
"""Names the randomness of one completion, usually (auction id, role, sample index). It is NOT derived from the
prompt: the same auction at other bids shares its noise, so that counterfactuals differ by the bids alone."""


class Capability(StrEnum):
    """What a backend may or may not be able to do."""

    CONSTRAINT = "constraint"
    """Can restrict which tokens are produced."""
    PREFILL = "prefill"
    """Can go on from the beginning of an answer."""
    JSON_SCHEMA = "json_schema"
    """Can be held to a JSON schema, or at least be asked to keep to one."""
    LOGPROBS = "logprobs"
    """Returns log-probabilities under the distribution that was sampled from."""


class Sampling(Record):
    """How to sample. Defaults are the Ad-LLM's of the paper (section 5.1): T 0.7, top-p 0.8, top-k 20."""

    temperature: float = Field(default=0.7, ge=0)
    """0 = greedy."""
    top_p: float = Field(default=0.8, gt=0, le=1)
    top_k: int | None = Field(default=20, ge=1)
    """None = no limit."""
    max_tokens: int = Field(default=256, ge=1)
    stop: tuple[str, ...] = ()
    """The completion ends before the first of these strings."""


class Prompt(Record):
    """A chat prompt of one user turn."""

    user: str
    system: str = ""
    prefill: str = ""
    """How the assistant's turn begins; the completion goes on from there and does not repeat it."""


class LinksOnly(Record):
    """Free text in which the mark-up characters @ [ ] occur in these ad links alone, each copied exactly."""

    links: tuple[str, ...] = ()


class OneOf(Record):
    """The completion is exactly one of these strings."""

    options: tuple[str, ...] = Field(min_length=1)


class JSONSchema(Record):
    """The completion is JSON of this schema."""

    text: str
    """The schema, as JSON."""


Constraint = LinksOnly | OneOf | JSONSchema


class Request(Record):
    """One completion asked for: also the key under which its reply is remembered."""

    prompt: Prompt
    sampling: Sampling
    key: Key
    constraint: Constraint | None = None


class Completion(Record):
    """What came back."""

    text: str
    finish: Literal["stop", "length"] = "stop"
    """length: cut at max_tokens."""
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] | None = None
    """Natural logarithm per token, under the distribution sampled from: temperature, top-p, top-k and constraint
    included. A token that the constraint forces has 0. None where the backend does not say."""
    usage: Usage = Usage(calls=1)


class Meter:
    """Adds up every completion made while it is active, and passes each on to the meter around it."""

    def __init__(self, around: Meter | None = None) -> None:
        self.usage = Usage()
        self.requests: list[Request] = []
        self._around = around

    def add(self, request: Request, usage: Usage) -> None:
        self.usage = self.usage + usage
        self.requests.append(request)
        if self._around is not None:
            self._around.add(request, usage)


_active_meter: ContextVar[Meter | None] = ContextVar("simenv_meter", default=None)


@contextmanager
def metered() -> Iterator[Meter]:
    """Meters the completions of the block, those of tasks started in it included."""
    meter = Meter(_active_meter.get())
    token = _active_meter.set(meter)
    try:
        yield meter
    finally:
        _active_meter.reset(token)


def display_name(name: str) -> str:
    """How results refer to the model that `make_llm(name)` builds: a local folder by its last part alone."""
    return f"local:{Path(name).name}" if name.startswith("local:") else name


class LLM(ABC):
    """A language model.

    Attributes:
        name: How results refer to it, for instance "embedded" or "openai/gpt-4o-mini".
        capabilities: What the backend can do.
        capable: Whether the model can be trusted to follow a format and to judge on its own. Small models cannot:
            mechanisms then write in two constrained stages, and the click model judges.
        retries: Calls that had to be made again since the model was built.
    """

    name: str = "llm"
    capabilities: frozenset[Capability] = frozenset()
    capable: bool = True

    def __init__(self, *, memory: int = 8192) -> None:
        self.retries = 0
        self._memory = memory
        self._done: OrderedDict[Request, Completion] = OrderedDict()
        self._running: dict[Request, asyncio.Task[Completion]] = {}
        self._waiting: Counter[Request] = Counter()

    @abstractmethod
    async def _generate(self, request: Request) -> Completion:
        """Answers one request. Concurrent calls are the backend's to batch or to bound.

        Raises:
            LLMError: no usable completion, after all retries.
        """

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
        request = Request(
            prompt=Prompt(user=prompt) if isinstance(prompt, str) else prompt,
            sampling=sampling or Sampling(),
            key=key,
            constraint=constraint,
        )
        if isinstance(constraint, JSONSchema):
            self.require(Capability.JSON_SCHEMA)
        elif constraint is not None:
            self.require(Capability.CONSTRAINT)
        if request.prompt.prefill:
            self.require(Capability.PREFILL)
        completion = self._done.get(request)
        if completion is None:
            task = self._running.get(request)
            if task is None:
                task = asyncio.ensure_future(self._generate(request))
                self._running[request] = task
                task.add_done_callback(lambda _: self._running.pop(request, None))
            completion = await self._wait(request, task)
            self._done[request] = completion
            while len(self._done) > self._memory:
                self._done.popitem(last=False)
        meter = _active_meter.get()
        if meter is not None:
            meter.add(request, completion.usage)
        return completion

    async def _wait(self, request: Request, task: asyncio.Task[Completion]) -> Completion:
        """Waits for a completion that others may wait for too; the last one who gives up on it cancels it."""
        self._waiting[request] += 1
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if self._waiting[request] == 1:
                task.cancel()
            raise
        finally:
            self._waiting[request] -= 1
            if not self._waiting[request]:
                del self._waiting[request]

    def can(self, capability: Capability) -> bool:
        """Whether the backend can do it."""
        return capability in self.capabilities

    def require(self, capability: Capability) -> None:
        """Raises MissingCapability unless the backend can do it."""
        if not self.can(capability):
            has = ", ".join(sorted(self.capabilities)) or "none"
            raise MissingCapability(f"language model {self.name!r} lacks {capability.value!r}; it has {has}")
