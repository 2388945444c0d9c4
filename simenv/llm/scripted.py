"""A language model without weights: replies come from a function, a list, or a keyed filler text.

Use it for tests, for fast trials of a mechanism's code, and for runs that must be reproducible bit for bit.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Awaitable, Callable, Sequence

import numpy as np

from simenv.errors import LLMRefused
from simenv.llm.base import (
    LLM,
    Capability,
    Combine,
    Completion,
    Constraint,
    EnsembleCompletion,
    EnsembleRequest,
    LabelledLinks,
    LinksOnly,
    OneOf,
    Prompt,
    Request,
    ScoreRequest,
    Scores,
)
from simenv.records import Usage
from simenv.seeding import keyed_rng

_SUBJECTS = ("Most people", "Many guides", "Local experts", "Experienced users", "Careful planners", "Recent reviews")
_VERBS = ("start with", "recommend", "compare", "look for", "settle on", "keep in mind")
_OBJECTS = ("a clear budget", "two or three good options", "the season", "how often you will use it", "the small print")
_FILLER = (_SUBJECTS, _VERBS, _OBJECTS)
_SENTENCE = re.compile(r"\s*({})\s({})\s({})\.\s*".format(*("|".join(words) for words in _FILLER)))
_FILLER_ONLY = re.compile(r"(?:\s*(?:{})[.,]?)+\s*".format("|".join(word for words in _FILLER for word in words)))
_END = ""

_KEPT = 4096
"""Requests that are kept at least: a long run must not keep all."""


class ScriptedLLM(LLM):
    """Scripted replies or random filler sentences instead of a language model; needs no weights.

    Args:
        replies: A function from `Request` to text (plain or async), or a list of texts returned in order, or None for
            filler sentences that depend only on the request's key. Filler replies respect a `OneOf` constraint, with
            one option, drawn uniformly by the key, and `LabelledLinks`, with up to two of the links.
        name: Its name in results.
        follows_formats: See `LLM`.
        capabilities: The capabilities that it declares; all by default.

    Scores (`logprob`) are those of the filler: uniform over options, and over the words of a filler sentence. In an
    ensemble the next-word probabilities of each prompt are drawn by prompt text and place, over the filler words and
    the allowed links, or over the options.
    """

    def __init__(
        self,
        replies: Callable[[Request], str | Awaitable[str]] | Sequence[str] | None = None,
        *,
        name: str = "scripted",
        follows_formats: bool = False,
        capabilities: frozenset[Capability] = frozenset(Capability),
    ) -> None:
        super().__init__()
        self.name = name
        self.follows_formats = follows_formats
        self.capabilities = capabilities
        self._replies = replies
        self.requests: list[Request] = []
        """The last completion requests, in order: at least 4,096, and all of them in short runs."""

    async def _generate(self, request: Request) -> Completion:
        self.requests.append(request)
        if len(self.requests) >= 2 * _KEPT:
            del self.requests[:-_KEPT]
        text, logprobs = await self._reply(request)
        usage = Usage(calls=1, prompt_tokens=_words(request.prompt), completion_tokens=len(text.split()))
        return Completion(text=text, logprobs=logprobs, usage=usage)

    async def _reply(self, request: Request) -> tuple[str, tuple[float, ...] | None]:
        if callable(self._replies):
            reply = self._replies(request)
            return (await reply if inspect.isawaitable(reply) else str(reply)), None
        if self._replies is not None:
            if len(self.requests) > len(self._replies):
                raise LLMRefused(f"the script has {len(self._replies)} replies, got request {len(self.requests)}")
            return self._replies[len(self.requests) - 1], None
        rng = keyed_rng("scripted", *request.key)
        if isinstance(request.constraint, OneOf):
            options = request.constraint.options
            return options[int(rng.integers(len(options)))], (-math.log(len(options)),)
        sentence = " ".join(str(rng.choice(words)) for words in _FILLER)
        if isinstance(request.constraint, LabelledLinks):
            return _with_links(f"{sentence}.", request.constraint, rng), None
        return f"{sentence}.", _UNIFORM

    async def _score(self, request: ScoreRequest) -> Scores:
        constraint = request.constraint
        rows: list[tuple[float, ...]] = []
        for text in request.continuations:
            logprobs, known = _UNIFORM, bool(_SENTENCE.fullmatch(text))
            if isinstance(constraint, OneOf):
                logprobs, known = (-math.log(len(constraint.options)),), text in constraint.options
            rows.append(logprobs if known else (-math.inf,) * len(logprobs))
        read = _words(request.prompt) + sum(len(text.split()) for text in request.continuations)
        return Scores(logprobs=tuple(rows), usage=Usage(calls=1, prompt_tokens=read))

    async def _decode_jointly(self, request: EnsembleRequest, combine: Combine) -> EnsembleCompletion:
        vocabulary = _vocabulary(request.constraint)
        tokens: list[str] = []
        logprobs: list[float] = []
        log: list[tuple[float, ...]] = []
        while len(tokens) < request.sampling.max_tokens:
            place = len(log)
            probs = np.array([_next_word(prompt, place, len(vocabulary)) for prompt in request.prompts])
            choice = combine(np.log(probs), keyed_rng("ensemble", *request.key, place))
            log.append(choice.log)
            if vocabulary[choice.token] == _END:
                break
            tokens.append(vocabulary[choice.token])
            logprobs.append(choice.logprob)
            if isinstance(request.constraint, OneOf):
                break
        n = len(request.prompts)
        return EnsembleCompletion(
            text="".join(tokens),
            tokens=tuple(tokens),
            logprobs=tuple(logprobs),
            log=tuple(log),
            usage=Usage(calls=n, prompt_tokens=sum(map(_words, request.prompts)), completion_tokens=n * len(tokens)),
        )


def is_filler(text: str) -> bool:
    """Whether a text consists of the filler words of ScriptedLLM alone: it says nothing of any subject."""
    return bool(_FILLER_ONLY.fullmatch(text))


_UNIFORM: tuple[float, ...] = tuple(-math.log(len(words)) for words in _FILLER)


def _with_links(text: str, constraint: LabelledLinks, rng: np.random.Generator) -> str:
    """A filler text with up to two of the links, or with all that are required."""
    most = len(constraint.links) if constraint.required else int(rng.integers(3))
    chosen = rng.permutation(len(constraint.links))[:most]
    return " ".join([text, *(f"{constraint.links[i]} is one option." for i in sorted(chosen))])


def _words(prompt: Prompt) -> int:
    return len(f"{prompt.system} {prompt.user} {prompt.prefill}".split())


def _vocabulary(constraint: Constraint | None) -> list[str]:
    if isinstance(constraint, OneOf):
        return list(constraint.options)
    links = constraint.links if isinstance(constraint, LinksOnly) else ()
    return [_END, *(f" {word}" for words in _FILLER for word in words), *(f" {link}" for link in links)]


def _next_word(prompt: Prompt, place: int, size: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return keyed_rng("scripted-ensemble", prompt.system, prompt.user, prompt.prefill, place).dirichlet(np.ones(size))
