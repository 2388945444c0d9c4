"""The judge LLM: the User-LLM reads the answer as the persona and gives clicks with reasons (LLM-Auction, 5.1, step 3).

Capable models answer in strict JSON, one row per ad. A reply that cannot be read, or lacks an ad, is an abstention:
`clicked` is None and counted, never False. Small local models cannot hold a format, so theirs is constrained: the
frame of the JSON is given, and "true" or "false" is all that they may fill in before the reason.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from simenv.errors import UnreadableReply
from simenv.llm.base import LLM, Capability, JSONSchema, LinksOnly, OneOf, Prompt, Sampling, metered
from simenv.records import Auction, Click, Feedback, Outcome, Persona
from simenv.users.queries import read_prompt

_FENCE = re.compile(r"\A```(?:json)?\s*\n(?P<inner>.*)\n```\Z", re.DOTALL)
_TAG = re.compile(r"<(?=\s*/?\s*(?:answer|question)\b)", re.IGNORECASE)


class _Verdict(BaseModel):
    """One row of a judge's reply."""

    model_config = ConfigDict(extra="forbid", strict=True)

    ad_id: str
    clicked: bool
    reason: str = ""


class _Reply(BaseModel):
    """The whole reply: an object, because providers' schemas allow no array at the top."""

    model_config = ConfigDict(extra="forbid", strict=True)

    verdicts: list[_Verdict]


_REPLY: TypeAdapter[_Reply | list[_Verdict]] = TypeAdapter(_Reply | list[_Verdict])


def read_verdicts(reply: str, shown: Sequence[str]) -> dict[str, Click]:
    """Reads a judge's reply: ad id -> click, for the shown ads it decides on.

    {"verdicts": [...]} or the bare array. A Markdown fence around the whole reply is taken off; nothing is repaired.

    Raises:
        UnreadableReply: not a JSON array of verdicts, a verdict on an ad that is not shown, or two on one ad.
    """
    text = reply.strip()
    fenced = _FENCE.match(text)
    try:
        parsed = _REPLY.validate_json(fenced["inner"] if fenced else text)
    except ValidationError as error:
        raise UnreadableReply(f"no verdicts in JSON: {error.errors()[0]['msg']}; got {text[:120]!r}") from None
    rows = parsed.verdicts if isinstance(parsed, _Reply) else parsed
    ids = [row.ad_id for row in rows]
    if not set(ids) <= set(shown) or len(set(ids)) < len(ids):
        raise UnreadableReply(f"verdicts on {ids}, shown were {list(shown)}")
    return {row.ad_id: Click(ad_id=row.ad_id, clicked=row.clicked, reason=row.reason) for row in rows}


class LLMJudge:
    """A language model that clicks as the persona.

    Args:
        llm: The User-LLM. One that is not `capable` must be able to constrain and to prefill.
    """

    _SAMPLING = Sampling(temperature=0.3, top_p=1.0, top_k=None, max_tokens=400)  # T 0.3: the paper's User-LLM

    def __init__(self, llm: LLM) -> None:
        self.name = f"llm:{llm.name}"
        self._llm = llm
        if not llm.capable:
            llm.require(Capability.CONSTRAINT)
            llm.require(Capability.PREFILL)
        self._system = read_prompt("judge_system")
        self._user = read_prompt("judge_user")

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        shown = [placement.ad_id for placement in outcome.placements]
        if not shown:
            return Feedback()
        with metered() as meter:
            if self._llm.capable:
                verdicts = await self._free(persona, auction, outcome, shown)
            else:
                verdicts = await self._constrained(persona, auction, outcome, shown)
        return Feedback(
            clicks=tuple(verdicts.get(ad_id, Click(ad_id=ad_id, clicked=None, reason="no verdict")) for ad_id in shown),
            usage=meter.usage,
        )

    def prompt(self, persona: Persona, auction: Auction, outcome: Outcome) -> Prompt:
        """The judge's prompt. The answer is fenced, and whatever in it looks like a fence is neutralised."""
        return Prompt(
            system=self._system,
            user=self._user.format(
                info=persona.info,
                interests=", ".join(persona.interests) or "not stated",
                attitude=persona.attitude or "not stated",
                query=_neutral(auction.query.text),
                response=_neutral(outcome.response),
                ads=", ".join(placement.ad_id for placement in outcome.placements),
            ),
        )

    async def _free(self, persona: Persona, auction: Auction, outcome: Outcome, shown: list[str]) -> dict[str, Click]:
        prompt = self.prompt(persona, auction, outcome)
        schema = _schema(shown) if self._llm.can(Capability.JSON_SCHEMA) else None
        key = (auction.id, "judge", 0)
        reply = await self._llm.complete(prompt, key=key, sampling=self._SAMPLING, constraint=schema)
        try:
            return read_verdicts(reply.text, shown)
        except UnreadableReply as error:
            return {i: Click(ad_id=i, clicked=None, reason=f"unreadable: {error}"[:300]) for i in shown}

    async def _constrained(
        self, persona: Persona, auction: Auction, outcome: Outcome, shown: list[str]
    ) -> dict[str, Click]:
        prompt = self.prompt(persona, auction, outcome)
        so_far = "["
        clicks = {}
        for ad_id in shown:
            so_far += f'{{"ad_id": {json.dumps(ad_id)}, "clicked":'
            verdict = await self._llm.complete(
                prompt.model_copy(update={"prefill": so_far}),
                key=(auction.id, "judge", ad_id),
                sampling=self._SAMPLING,
                constraint=OneOf(options=(" true", " false")),
            )
            so_far += f'{verdict.text}, "reason": "'
            reason = await self._llm.complete(
                prompt.model_copy(update={"prefill": so_far}),
                key=(auction.id, "judge-reason", ad_id),
                sampling=self._SAMPLING.model_copy(update={"max_tokens": 40, "stop": ('"', "\n")}),
                constraint=LinksOnly(),
            )
            so_far += f'{reason.text}"}}, '
            clicked = verdict.text == " true"
            clicks[ad_id] = Click(
                ad_id=ad_id,
                clicked=clicked,
                click_prob=_prob_true(verdict.logprobs, clicked),
                reason=reason.text.strip(),
            )
        return clicks


def _schema(shown: Sequence[str]) -> JSONSchema:
    """One verdict on each shown ad."""
    verdict = {
        "type": "object",
        "properties": {
            "ad_id": {"type": "string", "enum": list(shown)},
            "clicked": {"type": "boolean"},
            "reason": {"type": "string"},
        },
        "required": ["ad_id", "clicked", "reason"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {"verdicts": {"type": "array", "items": verdict, "minItems": len(shown), "maxItems": len(shown)}},
        "required": ["verdicts"],
        "additionalProperties": False,
    }
    return JSONSchema(text=json.dumps(schema))


def _prob_true(logprobs: tuple[float, ...] | None, clicked: bool) -> float | None:
    """The probability of "true" among the two options, from that of the option sampled."""
    if logprobs is None:
        return None
    chosen = min(1.0, math.exp(sum(logprobs)))
    return chosen if clicked else 1.0 - chosen


def _neutral(text: str) -> str:
    """Takes the force out of fences in judged text: "</answer>" becomes "‹/answer>"."""
    return _TAG.sub("‹", text)
