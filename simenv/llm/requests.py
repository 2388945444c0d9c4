"""What language models are asked for and what comes back.

All are frozen records. A request is also the key under which its reply is remembered and recorded.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field

from simenv.records import Record, Usage
from simenv.seeding import KeyPart

Key = tuple[KeyPart, ...]
"""Names the randomness of one completion, usually (auction id, role, sample index). It is NOT derived from the
prompt: the same auction at other bids shares its noise, so that counterfactuals differ by the bids alone."""


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


PLAIN = Sampling(temperature=1.0, top_p=1.0, top_k=None)
"""The model's own distribution."""


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


class ScoreRequest(Record):
    """Continuations to be scored: also the key under which their scores are remembered. Nothing in it is random."""

    prompt: Prompt
    continuations: tuple[str, ...] = Field(min_length=1)
    sampling: Sampling
    constraint: Constraint | None = None


class Scores(Record):
    """How likely the continuations are."""

    model_config = ConfigDict(allow_inf_nan=True)

    logprobs: tuple[tuple[float, ...], ...]
    """One row a continuation, one number a token."""
    usage: Usage = Usage(calls=1)


class EnsembleRequest(Record):
    """One text asked of several prompts together: also the key under which it is remembered."""

    prompts: tuple[Prompt, ...] = Field(min_length=1)
    rule: str
    """The combining rule's `repr`: it must name the rule and all its numbers."""
    sampling: Sampling
    key: Key
    constraint: Constraint | None = None


class EnsembleCompletion(Completion):
    """A text decoded from several prompts together. `logprobs` are those of the combined distribution."""

    log: tuple[tuple[float, ...], ...] = ()
    """What the combining rule noted at each draw: one row a token, less those that the constraint forced, and one
    more where the end was drawn too."""


class Combined(NamedTuple):
    """One token as a combining rule drew it."""

    token: int
    logprob: float
    """Of the token, in the combined distribution."""
    log: tuple[float, ...] = ()
    """Whatever the rule notes, for instance a payment per prompt."""


class Combine(Protocol):
    """A rule that draws one token from several distributions. Its `repr` is its name: see `EnsembleRequest`."""

    def __call__(self, logprobs: npt.NDArray[np.float64], rng: np.random.Generator) -> Combined:
        """Draws a token.

        Args:
            logprobs: One distribution a prompt after constraint and sampling, natural logarithms: shape (n, vocab).
            rng: Keyed by the request's key and the token's place.
        """
        ...


AnyRequest = Request | ScoreRequest | EnsembleRequest
