"""The LLM judge: the User-LLM reads the answer as the persona and gives clicks with reasons (LLM-Auction, 5.1, step 3).

Capable models reply in JSON, one row per ad. A reply without one clear meaning, or without a row for an ad, is an
abstention: `clicked` is None, not False, and the abstention is counted; before that, the model is asked once more with
the error. Small local models cannot follow a format, so
decoding is constrained: the judge supplies a JSON frame, and the model fills in "true" or "false" and then a reason.
Capable local models can be constrained to the frame too; the probability of "true" is then the click probability.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, field_validator

from simenv.background_loop import gather
from simenv.errors import InputError, UnreadableReply
from simenv.files.prompts import read_prompt
from simenv.judges.base import Judge, reader_fields
from simenv.judges.fence import fence_code, neutralize
from simenv.judges.llm_choice import choose_framed, choose_freely
from simenv.llm.base import LLM, PLAIN, Capability, JSONSchema, Key, LinksOnly, OneOf, Prompt, Sampling, metered
from simenv.llm.replies import read_json, start_of, without_reasoning
from simenv.records import Auction, Choice, Click, Feedback, Outcome, Persona, Suggestion

_log = logging.getLogger(__name__)

_FENCE = re.compile(r"```(?:json)?[^\S\n]*", re.IGNORECASE)
_BLOCK = re.compile(r"```(?:json)?\s(?P<inner>.*?)```", re.DOTALL | re.IGNORECASE)
_AGAIN = "Your reply could not be read: {error}\nReply again, with nothing but the JSON that was asked for."
_FIRST = 10
"""Verdicts after which a judge that cannot be read is reported."""
_MAX_CHARS = 20_000
"""Characters of an answer that are judged, about 5,000 tokens, so that no advertiser can fill the model's context."""


_YES_NO = {"yes": True, "true": True, "no": False, "false": False}


class _Verdict(BaseModel):
    """One row of a judge's reply; other fields, such as a confidence, are left aside."""

    model_config = ConfigDict(strict=True)

    ad_id: str
    clicked: bool
    reason: str | None = None

    @field_validator("clicked", mode="before")
    @classmethod
    def _in_words(cls, value: object) -> object:
        return _YES_NO.get(value.strip().lower(), value) if isinstance(value, str) else value


class _Reply(BaseModel):
    """The whole reply: an object, because providers' schemas do not allow a top-level array."""

    model_config = ConfigDict(strict=True)

    verdicts: list[_Verdict]


_REPLY: TypeAdapter[_Reply | list[_Verdict]] = TypeAdapter(_Reply | list[_Verdict])


def unfenced(reply: str) -> str:
    """Removes a Markdown fence that encloses the whole reply."""
    text = reply.strip()
    first, _, rest = text.partition("\n")
    fenced = _FENCE.fullmatch(first) and rest.endswith("\n```")
    return rest.removesuffix("\n```") if fenced else text


def read_verdicts(reply: str, shown: Sequence[str]) -> dict[str, Click]:
    """Parses a judge's reply: ad id -> click, for the shown ads that it has a verdict on.

    Accepts {"verdicts": [...]} or the bare array, also in a Markdown fence with prose around it. What has one meaning
    is read: small faults of JSON (`read_json`), "yes" and "no", ids in another case or with invisible characters, and
    verdicts on ads that are not shown if all shown ones have theirs.

    Raises:
        UnreadableReply: no verdicts in JSON, two different ones on an ad, or an id of no shown ad or of two.
    """
    text = without_reasoning(reply)
    try:
        try:
            replies = [read_json(text)]
        except ValueError:
            replies = [read_json(block["inner"]) for block in _BLOCK.finditer(text)]
            if not replies:
                raise
        parsed = [_REPLY.validate_python(value) for value in replies]
    except ValueError as error:  # ValidationError and JSONDecodeError are among them
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise UnreadableReply(f"no verdicts in JSON: {why}; got {reply.strip()[:120]!r}") from None
    rows = [row for one in parsed for row in (one.verdicts if isinstance(one, _Reply) else one)]
    ids = [row.ad_id for row in rows]
    clicks: dict[str, Click] = {}
    for row in rows:
        meant = [row.ad_id] if row.ad_id in shown else [i for i in shown if _plain(i) == _plain(row.ad_id)]
        if len(meant) > 1:
            raise UnreadableReply(f"{row.ad_id!r} may be any of {meant}")
        for ad_id in meant:
            reason = (row.reason or "").encode(errors="replace").decode()  # a lone surrogate cannot be written
            click = Click(ad_id=ad_id, clicked=row.clicked, reason=reason)
            if clicks.setdefault(ad_id, click).clicked != row.clicked:
                raise UnreadableReply(f"two different verdicts on {ad_id!r}")
    if set(map(_plain, ids)) - set(map(_plain, shown)) and len(clicks) < len(set(shown)):
        raise UnreadableReply(f"verdicts on {ids}, shown were {list(shown)}")  # one of them may be misnamed
    return clicks


def _plain(ad_id: str) -> str:
    """An id without what one does not see: case, invisible characters, the kind of hyphen."""
    visible = (c for c in ad_id if unicodedata.category(c) != "Cf")
    return "".join("-" if unicodedata.category(c) == "Pd" else c for c in visible).strip().casefold()


class LLMJudge:
    """A language model that clicks as the persona.

    The prompt starts with the text that all judgements share, then gives the persona, then question and answer, so that
    a server can cache the common prefix. Where many personas judge one answer, `persona_last` makes the common prefix
    longer.

    Args:
        llm: The User-LLM.
        samples: Completions per judgement without a frame. With two or more, the share of clicks among the readable
            verdicts is the click probability, and the first readable verdict is the click.
        frame: Whether decoding is constrained to a JSON frame. The probability of "true" is then the click
            probability, and every reply is readable; the model needs the capabilities CONSTRAINT and PREFILL. By
            default, the frame is used for models without `follows_formats`.
        wording: Version of the system prompt, 1 to 3. Versions 2 and 3 are `variants` of version 1.
        persona_last: Whether the prompt gives the persona after question and answer. A run judges several answers as
            one persona, so by default the persona comes first.

    Raises:
        InputError: samples below 1.
        MissingCapability: a frame is needed and the model cannot be constrained to one.
    """

    _SAMPLING = Sampling(temperature=0.3, top_p=1.0, top_k=None, max_tokens=400)  # T 0.3: the paper's User-LLM

    def __init__(
        self,
        llm: LLM,
        *,
        samples: int = 1,
        frame: bool | None = None,
        wording: int = 1,
        persona_last: bool = False,
    ) -> None:
        if samples < 1:
            raise InputError(f"samples must be at least 1, got {samples}")
        self._frame = not llm.follows_formats if frame is None else frame
        if self._frame:
            llm.require(Capability.CONSTRAINT)
            llm.require(Capability.PREFILL)
        self.name = f"llm:{llm.name}" + (f"#wording{wording}" if wording > 1 else "")
        self.llms = (llm,)
        self._llm = llm
        self._samples = samples
        self._read = 0
        self._unread = 0
        self._first_unread = ""
        self._wording = wording
        self._system = read_prompt("simenv.judges", "judge_system" + (f"_{wording}" if wording > 1 else ""))
        self._persona_last = persona_last
        self._user = read_prompt("simenv.judges", "judge_user_persona_last" if persona_last else "judge_user")

    @property
    def variants(self) -> dict[str, Judge]:
        """The same judge with other wordings of its system prompt."""
        if self._wording > 1:
            return {}
        return {f"wording{n}": self._worded(n) for n in (2, 3)}

    def _worded(self, wording: int) -> LLMJudge:
        return LLMJudge(
            self._llm, samples=self._samples, frame=self._frame, wording=wording, persona_last=self._persona_last
        )

    @property
    def sha256(self) -> str:
        """Hash of prompts, samples, frame and sampling parameters, for manifests."""
        settings = f"{self._samples} {self._frame} {self._SAMPLING.model_dump_json()}"
        settings += "" if self._frame else _AGAIN
        return hashlib.sha256("\n".join((self._system, self._user, settings)).encode()).hexdigest()

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        shown = [placement.ad_id for placement in outcome.placements]
        if not shown:
            return Feedback()
        prompt, again = self.prompt(persona, auction, outcome), 0
        with metered() as meter:
            if self._frame:
                verdicts = await self._framed(prompt, auction, shown)
            else:
                samples = await gather(self._free(prompt, auction, shown, sample) for sample in range(self._samples))
                verdicts = _pooled(shown, [clicks for clicks, _ in samples])
                again = sum(asked_again for _, asked_again in samples)
        return Feedback(clicks=tuple(verdicts[ad_id] for ad_id in shown), usage=meter.usage, asked_again=again)

    async def choose(self, persona: Persona, auction: Auction, questions: Sequence[Suggestion]) -> Choice:
        """Which follow-up question the persona goes on with."""
        if self._frame:
            return await choose_framed(self._llm, persona, auction, questions)
        return await choose_freely(
            self._llm, persona, auction, questions, samples=self._samples, sampling=self._SAMPLING, again=_AGAIN
        )

    def prompt(self, persona: Persona, auction: Auction, outcome: Outcome) -> Prompt:
        """Builds the judge's prompt. Question and answer are fenced and neutralized."""
        query, response = neutralize(auction.query.text, _MAX_CHARS), neutralize(outcome.response, _MAX_CHARS)
        return Prompt(
            system=self._system,
            user=self._user.format(
                **reader_fields(persona),
                query=query,
                response=response,
                code=fence_code(auction.id, texts=(query, response)),
                ads=", ".join(placement.ad_id for placement in outcome.placements),
            ),
        )

    async def _free(
        self, prompt: Prompt, auction: Auction, shown: list[str], sample: int
    ) -> tuple[dict[str, Click], bool]:
        """The verdicts of one sample, and whether the model was asked once more."""
        schema = _schema(shown) if self._llm.can(Capability.JSON_SCHEMA) else None
        key: Key = (auction.id, "judge", sample)
        reply = await self._llm.complete(prompt, key=key, sampling=self._SAMPLING, constraint=schema)
        try:
            clicks = read_verdicts(reply.text, shown)
        except UnreadableReply as unreadable:
            asked = f"{prompt.user}\n\n{_AGAIN.format(error=neutralize(str(unreadable), 300))}"
            prompt, key = prompt.model_copy(update={"user": asked}), (*key, "again")
            second = await self._llm.complete(prompt, key=key, sampling=self._SAMPLING, constraint=schema)
            try:
                clicks = read_verdicts(second.text, shown)
            except UnreadableReply as error:
                self._count(reply.text)
                return {i: Click(ad_id=i, clicked=None, reason=f"unreadable: {error}"[:300]) for i in shown}, True
            self._read += 1
            return clicks, True
        self._read += 1
        return clicks, False

    def _count(self, reply: str) -> None:
        """Counts a verdict that cannot be read, and warns once if the first ten are of this kind."""
        self._unread += 1
        self._first_unread = self._first_unread or start_of(reply) or "(empty)"
        if self._unread == _FIRST and not self._read:
            _log.warning(
                "%s: none of the first %d verdicts could be read, so no click is known; the first reply begins: %s",
                self.name,
                _FIRST,
                self._first_unread,
            )

    async def _framed(self, prompt: Prompt, auction: Auction, shown: list[str]) -> dict[str, Click]:
        so_far = "["
        clicks = {}
        for ad_id in shown:
            so_far += f'{{"ad_id": {json.dumps(ad_id)}, "clicked":'
            verdict = await self._llm.complete(
                prompt.model_copy(update={"prefill": so_far}),
                key=(auction.id, "judge", ad_id),
                sampling=PLAIN,  # temperature 1: 0.3 would push the probability towards 0 or 1
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


def _pooled(shown: Sequence[str], samples: Sequence[Mapping[str, Click]]) -> dict[str, Click]:
    """Merges samples into one verdict per ad; abstentions do not count in the probability."""
    pooled = {}
    for ad_id in shown:
        given = [sample[ad_id] for sample in samples if ad_id in sample]
        decided = [click for click in given if click.clicked is not None]
        first = next(iter(decided or given), Click(ad_id=ad_id, clicked=None, reason="no verdict"))
        if decided and len(samples) > 1:
            clicks = sum(bool(click.clicked) for click in decided)
            counts = f"{clicks} of {len(decided)} verdicts click, {len(samples) - len(decided)} abstain"
            update = {"click_prob": clicks / len(decided), "reason": f"{first.reason} ({counts})".strip()}
            first = first.model_copy(update=update)
        pooled[ad_id] = first
    return pooled


def _schema(shown: Sequence[str]) -> JSONSchema:
    """The schema of a reply with one verdict per shown ad."""
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
    """The probability of "true" among the two options, computed from the probability of the sampled option."""
    if logprobs is None:
        return None
    chosen = min(1.0, math.exp(sum(logprobs)))
    return chosen if clicked else 1.0 - chosen
