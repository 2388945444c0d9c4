"""Which follow-up question a user chooses, decided by a language model as the persona.

Capable models reply in JSON. A reply that cannot be read is asked for once more; then the judge abstains, and the user
counts as choosing none. Other models are constrained to a number after the beginning of the JSON, and the probabilities
of the numbers are the user's, if the model knows them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simenv.background_loop import gather
from simenv.errors import UnreadableReply
from simenv.files.prompts import read_prompt
from simenv.judges.base import reader_fields
from simenv.judges.fence import fence_code, neutralize
from simenv.judges.questions import drawn
from simenv.llm.base import LLM, PLAIN, Capability, JSONSchema, OneOf, Prompt, Sampling
from simenv.llm.replies import read_json, without_reasoning
from simenv.records import Auction, Choice, Persona, Suggestion

_OBJECT = re.compile(r"\{[^{}]*\}")
_MAX_CHARS = 2_000
"""Characters of the query, and of each question."""


class _Reply(BaseModel):
    model_config = ConfigDict(strict=True)

    choice: int = Field(ge=0)
    reason: str | None = None


def choice_prompt(persona: Persona, auction: Auction, questions: Sequence[Suggestion]) -> Prompt:
    """The prompt, with query and questions fenced and neutralized."""
    query = neutralize(auction.query.text, _MAX_CHARS)
    offer = "\n".join(
        f"{number}. {neutralize(it.text, _MAX_CHARS)}{' (sponsored)' if it.ad_id else ''}"
        for number, it in enumerate(questions, 1)
    )
    return Prompt(
        system=read_prompt("simenv.judges", "choose_system"),
        user=read_prompt("simenv.judges", "choose_user").format(
            **reader_fields(persona),
            query=query,
            offer=offer,
            code=fence_code(auction.id, "choice", texts=(query, offer)),
        ),
    )


async def choose_framed(llm: LLM, persona: Persona, auction: Auction, questions: Sequence[Suggestion]) -> Choice:
    """The choice of a model that is constrained to a number."""
    prompt = choice_prompt(persona, auction, questions).model_copy(update={"prefill": '{"choice":'})
    options = OneOf(options=tuple(f" {number}" for number in range(len(questions) + 1)))
    if llm.can(Capability.LOGPROBS):
        rows = await llm.logprob(prompt, options.options, sampling=PLAIN, constraint=options)
        chances = [math.exp(sum(row)) for row in rows]
        probs = tuple(chance / sum(chances) for chance in chances[1:])
        return Choice(place=drawn(auction, questions, probs), probs=probs)
    reply = await llm.complete(prompt, key=(auction.id, "choice"), sampling=PLAIN, constraint=options)
    return Choice(place=_place(int(reply.text)))


async def choose_freely(
    llm: LLM,
    persona: Persona,
    auction: Auction,
    questions: Sequence[Suggestion],
    *,
    samples: int,
    sampling: Sampling,
    again: str,
) -> Choice:
    """The choice of a model that follows formats.

    Args:
        llm, persona, auction, questions: Who chooses what.
        samples: Replies. With two or more, the shares of the readable ones are the probabilities, and the first
            readable one is the choice.
        sampling: How replies are drawn.
        again: The request after an unreadable reply, with a place for the error.
    """
    prompt = choice_prompt(persona, auction, questions)
    schema = _schema(len(questions)) if llm.can(Capability.JSON_SCHEMA) else None

    async def one(sample: int) -> _Reply | UnreadableReply:
        key = (auction.id, "choice", sample)
        reply = await llm.complete(prompt, key=key, sampling=sampling, constraint=schema)
        try:
            return _read(reply.text, len(questions))
        except UnreadableReply as error:
            user = f"{prompt.user}\n\n{again.format(error=neutralize(str(error), 300))}"
            second = prompt.model_copy(update={"user": user})
            reply = await llm.complete(second, key=(*key, "again"), sampling=sampling, constraint=schema)
        try:
            return _read(reply.text, len(questions))
        except UnreadableReply as error:
            return error

    replies = await gather(one(sample) for sample in range(samples))
    read = [reply for reply in replies if isinstance(reply, _Reply)]
    if not read:
        return Choice(reason=f"unreadable: {replies[0]}"[:300], abstained=True)
    reason = (read[0].reason or "").encode(errors="replace").decode()  # a lone surrogate cannot be written
    probs = None
    if samples > 1:
        probs = tuple(sum(it.choice == n for it in read) / len(read) for n in range(1, len(questions) + 1))
    return Choice(place=_place(read[0].choice), probs=probs, reason=reason)


def _read(reply: str, n: int) -> _Reply:
    """The choice among n questions in a model's reply.

    Raises:
        UnreadableReply: there is no choice in JSON, or it is of no question.
    """
    text = without_reasoning(reply)
    try:
        try:
            values = [read_json(text)]
        except ValueError:
            values = [read_json(found[0]) for found in _OBJECT.finditer(text)]
            if not values:
                raise
        read = [_Reply.model_validate(value) for value in values]
    except ValueError as error:  # ValidationError and JSONDecodeError are among them
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UnreadableReply(f"no choice in JSON: {why}; got {reply.strip()[:120]!r}") from None
    choices = sorted({it.choice for it in read})
    if len(choices) > 1:
        raise UnreadableReply(f"one choice is asked for, got {choices}")
    if choices[0] > n:
        raise UnreadableReply(f"choice must be 0 to {n}, got {choices[0]}")
    return read[0]


def _place(number: int) -> int | None:
    return number - 1 if number else None


def _schema(n: int) -> JSONSchema:
    schema = {
        "type": "object",
        "properties": {"choice": {"type": "integer", "enum": list(range(n + 1))}, "reason": {"type": "string"}},
        "required": ["choice", "reason"],
        "additionalProperties": False,
    }
    return JSONSchema(text=json.dumps(schema))
