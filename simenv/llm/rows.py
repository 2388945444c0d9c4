"""One completion that is being decoded: its tokens, its noise and its constraint."""

from __future__ import annotations

from typing import Any

from simenv.llm.constraints import Guide, LabelGuide, TokenTable
from simenv.llm.distributions import draw
from simenv.llm.requests import Completion, Constraint, EnsembleRequest, LabelledLinks, LinksOnly, OneOf, Request
from simenv.llm.runtime import Logits
from simenv.records import Usage
from simenv.seeding import keyed_rng


def guide_of(constraint: Constraint | None, table: TokenTable, prefill: str = "") -> Guide | LabelGuide | None:
    """What keeps a text to the constraint, behind the prompt's prefill; None where nothing does."""
    if isinstance(constraint, LabelledLinks):
        return LabelGuide(constraint, table, prefill)
    return Guide(constraint, table) if isinstance(constraint, LinksOnly | OneOf) else None


class Row:
    """One completion that is being decoded.

    Args:
        request: What is asked for.
        table: The tokenizer's table.
        tokenizer: The tokenizer.

    Attributes:
        finish: Why the text is complete, as in `Completion`; None while it is not.
    """

    def __init__(self, request: Request | EnsembleRequest, table: TokenTable, tokenizer: Any) -> None:
        self.request = request
        prefill = request.prompt.prefill if isinstance(request, Request) else ""
        self.guide = guide_of(request.constraint, table, prefill)
        self.finish: str | None = None
        self._tokenizer = tokenizer
        self._eos = table.eos
        # An option of OneOf is always completed, so the limit is at least its length.
        self._limit = max(request.sampling.max_tokens, self.guide.needs if self.guide is not None else 0)
        # One uniform per token, keyed only by the request's key: another prompt with the same key gets the same noise.
        self._noise = keyed_rng("completion", *request.key).random(self._limit)
        self._given: list[int] = []  # the rest of a link whose label was sampled
        self._tokens: list[int] = []
        self._logprobs: list[float] = []

    def sample(self, logits: Logits) -> int:
        """Samples the next token, or takes the one that is given. `logits`: shape (vocab,); changed in place."""
        if self._given:
            token = self._given.pop(0)
            self._append(token, 0.0)
            return token
        if self.guide is not None:
            self.guide.mask(logits)
        token, logprob = draw(logits, self.request.sampling, float(self._noise[len(self._tokens)]))
        if isinstance(self.guide, LabelGuide) and self.guide.unfinished:
            token, *self._given = self.guide.written_for(token)
            self._append(token, logprob)
        else:
            self.take(token, logprob)
        return token

    def take(self, token: int, logprob: float) -> None:
        """Adds a sampled token, and notes whether the text is complete."""
        over = self.guide.advance(token) if self.guide is not None else False
        if token == self._eos:
            self.finish = "stop"
            if isinstance(self.request.constraint, OneOf) and self._logprobs:
                self._logprobs[-1] += logprob  # the option is a prefix of another one, so its end was sampled too
            return
        self._append(token, logprob, over)

    def _append(self, token: int, logprob: float, over: bool = False) -> None:
        """Appends a token of the text. A link that is being written is written to its end."""
        self._tokens.append(token)
        self._logprobs.append(logprob)
        if over or self._stopped():
            self.finish = "stop"
        elif len(self._tokens) >= self._limit and not self._given:
            self.finish = "length"

    def forced(self) -> list[int]:
        """Takes the tokens that the constraint forces, and returns them."""
        forced: list[int] = []
        while self.finish is None and self.guide is not None and len(allowed := self.guide.allowed() or []) == 1:
            self.take(allowed[0], 0.0)
            forced.append(allowed[0])
        return forced

    def completion(self, prompt_tokens: int) -> Completion:
        """The reply.

        Args:
            prompt_tokens: Number of the prompt's tokens.
        """
        used = len(self._tokens)
        tokens, logprobs = self._tokens, self._logprobs
        free = isinstance(self.request.constraint, LinksOnly | LabelledLinks)
        if free and self.guide is not None and self.guide.unfinished:
            whole = used - self.guide.unfinished  # an incomplete link is dropped
            tokens, logprobs = tokens[:whole], logprobs[:whole]
        text: str = self._tokenizer.decode(tokens)
        for stop in self.request.sampling.stop:
            text = text.split(stop, 1)[0]
        return Completion.model_validate(
            {
                "text": text,
                "finish": self.finish,
                "tokens": tuple(self._tokenizer.convert_ids_to_tokens(tokens)),
                "logprobs": tuple(logprobs),
                "usage": Usage(calls=1, prompt_tokens=prompt_tokens, completion_tokens=used),
            }
        )

    def _stopped(self) -> bool:
        stop = self.request.sampling.stop
        if not stop:
            return False
        tail = self._tokenizer.decode(self._tokens[-16:])
        return any(s in tail for s in stop)
