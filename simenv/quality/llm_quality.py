"""Answer quality graded by a language model: a rubric of integers 1 to 5, mapped to [0, 1] as (score - 1) / 4.

The model gets the answer and the ad-free one without labels, in an order drawn by key, because models have a position
bias (Zheng et al. 2023, "Judging LLM-as-a-judge", section 3.3). An unreadable reply is an abstention: every score is
None, not 0.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from simenv.errors import InputError, UnreadableReply
from simenv.files.prompts import read_prompt
from simenv.judges.fence import fence_code, neutralize
from simenv.judges.llm_judge import unfenced
from simenv.llm.base import LLM, Capability, JSONSchema, Prompt, Sampling, metered
from simenv.quality.embedded import ad_text_share
from simenv.records import AdQuality, Auction, Feedback, Outcome, Persona, Quality
from simenv.seeding import keyed_rng

_MAX_CHARS = 20_000
"""Characters of an answer that are graded, as in the judge."""
_NO_ANSWER = "(no answer)"

Score = Annotated[int, Field(ge=1, le=5)]


class _Ad(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    ad_id: str
    factuality: Score
    disclosure: Score


class Grades(BaseModel):
    """A grader's whole reply."""

    model_config = ConfigDict(extra="forbid", strict=True)

    helpfulness_a: Score
    helpfulness_b: Score
    ads: list[_Ad]


def read_grades(reply: str, shown: list[str]) -> Grades:
    """Parses a grader's reply. Removes a Markdown fence around the whole reply; repairs nothing else.

    Raises:
        UnreadableReply: not the requested JSON, or not one row per shown ad, in order.
    """
    try:
        grades = Grades.model_validate_json(unfenced(reply))
    except ValidationError as error:
        raise UnreadableReply(f"no grades in JSON: {error.errors()[0]['msg']}; got {reply.strip()[:120]!r}") from None
    if [ad.ad_id for ad in grades.ads] != shown:
        raise UnreadableReply(f"grades of {[ad.ad_id for ad in grades.ads]}, shown were {shown}")
    return grades


class LLMQuality:
    """Grades answers with a language model, one call per answer.

    Args:
        llm: The User-LLM.

    Raises:
        InputError: the model does not follow formats; grades of such small models carry no information.
    """

    _SAMPLING = Sampling(temperature=0.3, top_p=1.0, top_k=None, max_tokens=400)  # as in the judge

    def __init__(self, llm: LLM) -> None:
        if not llm.follows_formats:
            raise InputError(f"quality llm needs a capable model, {llm.name!r} is not", hint="measure it embedded")
        self.name = f"llm:{llm.name}"
        self._llm = llm
        self._system = read_prompt("simenv.quality", "quality_system")
        self._user = read_prompt("simenv.quality", "quality_user")
        self.sha256 = hashlib.sha256(f"{self._system}\n{self._user}\n{self._SAMPLING!r}".encode()).hexdigest()

    async def measure(self, persona: Persona, auction: Auction, outcome: Outcome, ad_free: str | None) -> Feedback:
        shown = [placement.ad_id for placement in outcome.placements]
        ads = [auction.bid_of(ad_id).ad for ad_id in shown]
        # Without an ad-free answer the same answer is on both sides, and the loss stays None.
        swapped = bool(keyed_rng("quality-order", auction.id).integers(2)) and ad_free is not None
        sides = [outcome.response, outcome.response if ad_free is None else ad_free]
        query, a, b, copy = (
            neutralize(text, _MAX_CHARS) or _NO_ANSWER
            for text in (
                auction.query.text,
                *(reversed(sides) if swapped else sides),
                "\n".join(f"[{ad.id}] {ad.text}" for ad in ads) or "(no ads)",
            )
        )
        user = self._user.format(
            info=persona.info,
            interests=", ".join(persona.interests) or "not stated",
            query=query,
            a=a,
            b=b,
            copy=copy,
            code=fence_code(auction.id, "quality", texts=(query, a, b, copy)),
            ads=", ".join(shown) or "none",
        )
        with metered() as meter:
            reply = await self._llm.complete(
                Prompt(system=self._system, user=user),
                key=(auction.id, "quality", 0),
                sampling=self._SAMPLING,
                constraint=_schema(shown) if self._llm.can(Capability.JSON_SCHEMA) else None,
            )
        known = Quality(ad_free=ad_free, ad_text_share=ad_text_share(outcome.response, ads), usage=meter.usage)
        try:
            grades = read_grades(reply.text, shown)
        except UnreadableReply:
            return Feedback(quality=known.model_copy(update={"ads": tuple(AdQuality(ad_id=i) for i in shown)}))
        ours, theirs = _unit(grades.helpfulness_a), _unit(grades.helpfulness_b)
        if swapped:
            ours, theirs = theirs, ours
        rows = tuple(
            AdQuality(ad_id=ad.ad_id, factuality=_unit(ad.factuality), disclosure=_unit(ad.disclosure))
            for ad in grades.ads
        )
        loss = None if ad_free is None else theirs - ours
        return Feedback(satisfaction=ours, quality=known.model_copy(update={"quality_loss": loss, "ads": rows}))


def _unit(score: int) -> float:
    return (score - 1) / 4


def _schema(shown: list[str]) -> JSONSchema:
    score = {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    ad = {
        "type": "object",
        "properties": {
            "ad_id": {"type": "string", **({"enum": shown} if shown else {})},
            "factuality": score,
            "disclosure": score,
        },
        "required": ["ad_id", "factuality", "disclosure"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {
            "helpfulness_a": score,
            "helpfulness_b": score,
            "ads": {"type": "array", "items": ad, "minItems": len(shown), "maxItems": len(shown)},
        },
        "required": ["helpfulness_a", "helpfulness_b", "ads"],
        "additionalProperties": False,
    }
    return JSONSchema(text=json.dumps(schema))
