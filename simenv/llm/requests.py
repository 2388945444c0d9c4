"""Requests to language models and their replies.

All are frozen records. A request is also the key under which its reply is remembered and recorded.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ConfigDict, Field, model_validator

from simenv.links import LINK
from simenv.records import Record, Usage
from simenv.seeding import KeyPart

Key = tuple[KeyPart, ...]
"""Names the randomness of one completion, usually (auction id, role, sample index). It is not derived from the prompt:
the same auction with other bids has the same noise, so that counterfactuals differ only by the bids."""


class Sampling(Record):
    """Sampling parameters. Defaults are those of the paper's Ad-LLM (section 5.1): T 0.7, top-p 0.8, top-k 20."""

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
    """Beginning of the assistant's turn; the completion continues it and does not repeat it."""


class LinksOnly(Record):
    """Free text in which the mark-up characters @ [ ] occur only in exact copies of these ad links."""

    links: tuple[str, ...] = ()


class OneOf(Record):
    """The completion is exactly one of these strings."""

    options: tuple[str, ...] = Field(min_length=1)


class LabelledLinks(Record):
    """Free text in which the model may insert ad links by their labels.

    At any place after its first token that is not white space the model may open a link, with " @"; behind a prefill,
    at once. It then chooses one of the labels, and the link is written in its place: its tokens are given, not sampled.
    A link is inserted at most once. No other mark-up occurs. The prompt has to tell the model which label stands for
    which ad; a model that was not trained for it opens no link.

    Attributes:
        links: Ad links, such as "@Harbour Inn@[A1]".
        labels: As many labels; each must be one token of the model after a space, such as the letters A to X.
        required: Whether the text may end by itself only when it has all links, or `most` of them. At the limit of
            tokens it ends without.
        most: Number of links that are inserted at most; those of a prefill do not count. None: all of them.
    """

    links: tuple[str, ...]
    labels: tuple[str, ...]
    required: bool = False
    most: int | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _as_many(self) -> LabelledLinks:
        if len(self.links) != len(self.labels) or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"each link needs its own label, got {len(self.links)} links and labels {self.labels}")
        if not all(self.labels) or not all(LINK.fullmatch(link) for link in self.links):
            raise ValueError(f"expected labels and links such as @Title@[id], got {self.labels} for {self.links}")
        return self


class JSONSchema(Record):
    """The completion is JSON of this schema."""

    text: str
    """The schema, as JSON."""


Constraint = LinksOnly | LabelledLinks | OneOf | JSONSchema


class Request(Record):
    """A request for one completion."""

    prompt: Prompt
    sampling: Sampling
    key: Key
    constraint: Constraint | None = None
    options: str = Field(default="", exclude_if=lambda options: not options)
    """Further options of the server, as JSON; see `ServerOptions.key`."""

    def __hash__(self) -> int:  # of every field it would take longer than the rest of a look-up
        return hash((self.key, self.prompt.user))


class Completion(Record):
    """The reply to a request."""

    text: str
    finish: Literal["stop", "length"] = "stop"
    """length: cut at max_tokens."""
    tokens: tuple[str, ...] = ()
    logprobs: tuple[float, ...] | None = None
    """Natural logarithm per token, under the sampling distribution with temperature, top-p, top-k and constraint. A
    forced token has 0. None if the backend does not give log-probabilities."""
    usage: Usage = Usage(calls=1)


class ScoreRequest(Record):
    """A request to score continuations. It involves no randomness, so it has no key."""

    prompt: Prompt
    continuations: tuple[str, ...] = Field(min_length=1)
    sampling: Sampling
    constraint: Constraint | None = None


class Scores(Record):
    """Log-probabilities of continuations."""

    model_config = ConfigDict(allow_inf_nan=True)

    logprobs: tuple[tuple[float, ...], ...]
    """One row per continuation, one number per token."""
    usage: Usage = Usage(calls=1)


class EnsembleRequest(Record):
    """A request for one text decoded from several prompts together."""

    prompts: tuple[Prompt, ...] = Field(min_length=1)
    rule: str
    """The combining rule's `repr`: it must name the rule and all its numbers."""
    sampling: Sampling
    key: Key
    constraint: Constraint | None = None


class EnsembleCompletion(Completion):
    """A text decoded from several prompts together. `logprobs` are those of the combined distribution."""

    log: tuple[tuple[float, ...], ...] = ()
    """The combining rule's log of each draw: one row per token, without forced tokens, and one more row if the end was
    drawn too."""


class Combined(NamedTuple):
    """One token drawn by a combining rule."""

    token: int
    logprob: float
    """Log-probability of the token in the combined distribution."""
    log: tuple[float, ...] = ()
    """Numbers that the rule logs, for instance a payment per prompt."""


class Combine(Protocol):
    """A rule that draws one token from several distributions. Its `repr` identifies it: see `EnsembleRequest`."""

    def __call__(self, logprobs: npt.NDArray[np.float64], rng: np.random.Generator) -> Combined:
        """Draws a token.

        Args:
            logprobs: One distribution per prompt, after constraint and sampling, natural logarithms: shape (n, vocab).
            rng: Keyed by the request's key and the token's place.
        """
        ...


AnyRequest = Request | ScoreRequest | EnsembleRequest
