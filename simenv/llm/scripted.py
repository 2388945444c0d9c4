"""A language model without a model: replies come from a function, a list or a keyed filler text.

For tests, for trying a mechanism's plumbing in milliseconds, and for runs that must be the same to the bit.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Sequence

from simenv.errors import LLMRefused
from simenv.llm.base import LLM, Capability, Completion, OneOf, Request
from simenv.records import Usage
from simenv.seeding import keyed_rng

_SUBJECTS = ("Most people", "Many guides", "Local experts", "Experienced users", "Careful planners", "Recent reviews")
_VERBS = ("start with", "recommend", "compare", "look for", "settle on", "keep in mind")
_OBJECTS = ("a clear budget", "two or three good options", "the season", "how often you will use it", "the small print")


class ScriptedLLM(LLM):
    """Replies as told.

    Args:
        replies: A function from `Request` to text (plain or async), or a list of texts handed out in order, or None
            for filler sentences that depend on the request's key alone. A `OneOf` constraint is honoured in the
            default: one option, uniformly, by the key.
        name: How results refer to it.
        capable: See `LLM`.
        capabilities: What it claims to be able to do; everything by default.
    """

    def __init__(
        self,
        replies: Callable[[Request], str | Awaitable[str]] | Sequence[str] | None = None,
        *,
        name: str = "scripted",
        capable: bool = False,
        capabilities: frozenset[Capability] = frozenset(Capability),
    ) -> None:
        super().__init__()
        self.name = name
        self.capable = capable
        self.capabilities = capabilities
        self._replies = replies
        self.requests: list[Request] = []
        """Everything that was asked, in order."""

    async def _generate(self, request: Request) -> Completion:
        self.requests.append(request)
        text, logprobs = await self._reply(request)
        prompt = request.prompt
        usage = Usage(
            calls=1,
            prompt_tokens=len(f"{prompt.system} {prompt.user} {prompt.prefill}".split()),
            completion_tokens=len(text.split()),
        )
        return Completion(text=text, logprobs=logprobs, usage=usage)

    async def _reply(self, request: Request) -> tuple[str, tuple[float, ...] | None]:
        if callable(self._replies):
            reply = self._replies(request)
            return (await reply if inspect.isawaitable(reply) else str(reply)), None
        if self._replies is not None:
            if len(self.requests) > len(self._replies):
                raise LLMRefused(f"the script has {len(self._replies)} replies and request {len(self.requests)} came")
            return self._replies[len(self.requests) - 1], None
        rng = keyed_rng("scripted", *request.key)
        if isinstance(request.constraint, OneOf):
            options = request.constraint.options
            return options[int(rng.integers(len(options)))], (-math.log(len(options)),)
        sentence = " ".join(str(rng.choice(words)) for words in (_SUBJECTS, _VERBS, _OBJECTS))
        return f"{sentence}.", None
