"""A language model reads an answer as a persona and grades its ads from 1 to 5: labels of a click-intent evaluator."""

from __future__ import annotations

import json
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simenv.errors import InputError, UnreadableReply
from simenv.files.prompts import read_prompt
from simenv.judges.base import reader_fields
from simenv.judges.fence import fence_code, neutralize
from simenv.judges.llm_judge import unfenced
from simenv.llm.base import LLM, Capability, JSONSchema, Prompt, Sampling
from simenv.records import Auction, Outcome, Persona

_MAX_CHARS = 20_000
"""Characters of an answer that are graded, as in the judge."""
_GRADE = Annotated[int, Field(ge=1, le=5)]


class IntentGrades(NamedTuple):
    """Grades of one ad, 1 to 5."""

    intent: int
    """Whether the reader would click."""
    relevance: int
    coherence: int
    effectiveness: int


class _Ad(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    ad_id: str
    intent: _GRADE
    relevance: _GRADE
    coherence: _GRADE
    effectiveness: _GRADE


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    ads: list[_Ad]


def read_intent_grades(reply: str, shown: list[str]) -> dict[str, IntentGrades]:
    """Parses a grader's reply: ad id -> grades. Removes a Markdown fence around all of it; repairs nothing else.

    Raises:
        UnreadableReply: not the requested JSON, or not one row per shown ad, in order.
    """
    try:
        ads = _Reply.model_validate_json(unfenced(reply)).ads
    except ValidationError as error:
        raise UnreadableReply(f"no grades in JSON: {error.errors()[0]['msg']}; got {reply.strip()[:120]!r}") from None
    if [ad.ad_id for ad in ads] != shown:
        raise UnreadableReply(f"grades of {[ad.ad_id for ad in ads]}, shown were {shown}")
    return {ad.ad_id: IntentGrades(ad.intent, ad.relevance, ad.coherence, ad.effectiveness) for ad in ads}


class IntentGrader:
    """Grades the ads of answers with a language model, one call per answer and reader.

    Args:
        llm: The model.

    Raises:
        InputError: the model does not follow formats; grades of such small models carry no information.
    """

    _SAMPLING = Sampling(temperature=0.3, top_p=1.0, top_k=None, max_tokens=400)  # as in the judge

    def __init__(self, llm: LLM) -> None:
        if not llm.follows_formats:
            raise InputError(
                f"grades of click intent need a model that follows formats, {llm.name!r} does not",
                hint="without a model, the readers' click probabilities are cut into grades",
            )
        self.name = f"llm:{llm.name}"
        self._llm = llm
        self._system = read_prompt("simenv.judges", "intent_system")
        self._user = read_prompt("simenv.judges", "intent_user")

    async def grade(self, persona: Persona, auction: Auction, outcome: Outcome) -> dict[str, IntentGrades]:
        """Ad id -> grades of every shown ad; empty if the reply cannot be read: an abstention."""
        shown = [placement.ad_id for placement in outcome.placements]
        query, response = neutralize(auction.query.text, _MAX_CHARS), neutralize(outcome.response, _MAX_CHARS)
        user = self._user.format(
            **reader_fields(persona),
            query=query,
            response=response,
            code=fence_code(auction.id, "intent", texts=(query, response)),
            ads=", ".join(shown),
        )
        reply = await self._llm.complete(
            Prompt(system=self._system, user=user),
            key=(auction.id, "intent", 0),
            sampling=self._SAMPLING,
            constraint=_schema(shown) if self._llm.can(Capability.JSON_SCHEMA) else None,
        )
        try:
            return read_intent_grades(reply.text, shown)
        except UnreadableReply:
            return {}


def _schema(shown: list[str]) -> JSONSchema:
    grade = {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    ad = {
        "type": "object",
        "properties": {"ad_id": {"type": "string", "enum": shown}} | dict.fromkeys(IntentGrades._fields, grade),
        "required": ["ad_id", *IntentGrades._fields],
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": ad, "minItems": len(shown), "maxItems": len(shown)}
    schema = {"type": "object", "properties": {"ads": rows}, "required": ["ads"], "additionalProperties": False}
    return JSONSchema(text=json.dumps(schema))
