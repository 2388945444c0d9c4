"""Worlds of the click model: its numbers, as named and hashed TOML files.

Worlds that ship with simenv are in the folder `worlds`: v1 (the default), rare (clicks as rare as on cards in answer
engines), labels (odds ratios measured on people) and fatigue (users remember the ads of their session). A file of your
own has the same form; `simenv fit-world` writes one. `like = "v1"` takes from another world every number that the file
does not name.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from simenv.errors import DataFileError, InputError, UnknownName
from simenv.files.limits import read_bytes
from simenv.files.tables import decoded
from simenv.judges.cues import Examples, read_examples
from simenv.records import Record

WORLDS = ("v1", "rare", "labels", "fatigue")
"""The worlds that ship with simenv."""


class Attraction(Record):
    """Weights of the attraction term, in log-odds."""

    base: float
    relevance: float = Field(ge=0)
    relevance_centre: float
    relevance_scale: float = Field(gt=0)
    affinity: float = Field(ge=0)
    affinity_spread: float = Field(ge=0)
    appeal: float
    tolerance: float = Field(ge=0)
    price: float = Field(ge=0)
    price_slope: float = Field(ge=0)
    amount_weight: float = Field(ge=0)


class Examination(Record):
    """Decay of attention with rank and with the number of words read."""

    rank_discount: float = Field(ge=0, le=1)
    depth_loss: float = Field(ge=0)


class Nativeness(Record):
    """Penalty for an ad sentence that does not fit the text or presses to buy."""

    floor: float = Field(ge=0, le=1)
    coherence_none: float
    coherence_full: float
    hard_sell: float = Field(ge=0, le=1)
    pressure_none: float
    pressure_full: float
    shouting: float = Field(ge=0, le=1)


class Leaks(Record):
    """Scores of the "leak" cue at which a sentence counts as no leak and as a full leak."""

    cue_none: float
    cue_full: float


class Competition(Record):
    """Cosines at which two ads start to be substitutes and at which they are full substitutes."""

    substitutes_from: float
    substitutes_full: float


class Flooding(Record):
    """Penalty for too many ads in one answer."""

    free_ads: int = Field(ge=0)
    rate: float = Field(ge=0)


class Readers(Record):
    """What promoting words do, and what a reader does who notices that a sentence is an ad. World v1 has none of it."""

    persuasion: float
    """Log-odds that a fully promoting pitch adds to attraction."""
    persuasion_none: float
    """Cue "persuasion" of the pitch up to which it promotes nothing."""
    persuasion_full: float
    """And from which on it promotes fully."""
    noticed: float
    """Log-odds that attraction changes by for a reader who notices the ad."""
    notice: float
    """Log-odds of noticing an ad that is not labelled and promotes nothing."""
    notice_label: float
    """What a label adds to them."""
    notice_persuasion: float
    """What a fully promoting pitch adds to them."""


class Fatigue(Record):
    """What ads that earlier answers of the session showed do to attraction, in log-odds. World v1 has none of it."""

    repeated: float
    """For each earlier answer that showed the same ad."""
    earlier: float
    """For each other ad that an earlier answer showed; an ad counts once per answer."""


class QuestionParams(Record):
    """Which follow-up question a user chooses, in log-weights: see `questions.py`."""

    query: float = 6.0
    """Per unit of cosine of query and question."""
    interests: float = 6.0
    """Per unit of the largest cosine of an interest and the question."""
    none: float = 3.4
    """Of choosing none of them."""


_RAMPS = (
    ("nativeness", "coherence_none", "coherence_full"),
    ("nativeness", "pressure_none", "pressure_full"),
    ("leaks", "cue_none", "cue_full"),
    ("competition", "substitutes_from", "substitutes_full"),
    ("readers", "persuasion_none", "persuasion_full"),
)
"""Section, and the two of its numbers between which something grows: the first must be smaller."""


class ClickParams(Record):
    """All parameters of the click model. Comments in the files of `worlds` explain each one."""

    world: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]{0,79}$")
    """Key of the hidden draws: another name gives another world."""
    attraction: Attraction
    examination: Examination
    nativeness: Nativeness
    competition: Competition
    leaks: Leaks
    flooding: Flooding
    readers: Readers | None = Field(default=None, exclude_if=lambda readers: readers is None)
    fatigue: Fatigue | None = Field(default=None, exclude_if=lambda fatigue: fatigue is None)
    questions: QuestionParams = Field(default=QuestionParams(), exclude_if=lambda it: it == QuestionParams())
    """Left out of files and hashes where it is the default, as in the worlds that ship."""
    examples: dict[str, Examples] = Field(default_factory=read_examples)
    """Cue name -> the example sentences that the cue is fitted to. A file adds its own to those of simenv."""
    appeals: dict[str, float] = Field(default_factory=dict, exclude_if=lambda appeals: not appeals)
    """Offer (an ad's title without its advertiser, in lower case) -> its appeal, in place of the hidden draw."""

    @field_validator("examples", mode="before")
    @classmethod
    def _with_ours(cls, value: Any) -> Any:
        return {**read_examples(), **value} if isinstance(value, dict) else value

    @model_validator(mode="after")
    def _check(self) -> ClickParams:
        for section, low, high in _RAMPS:
            part = getattr(self, section)
            if part is not None and not getattr(part, low) < getattr(part, high):
                got = f"{getattr(part, low)} and {getattr(part, high)}"
                raise ValueError(f"{section}.{low} must be below {section}.{high}, got {got}")
        if self.readers is not None and "persuasion" not in self.examples:
            raise ValueError("readers needs sentences of the cue persuasion in examples.persuasion, got none")
        return self

    def changed(self, changes: Mapping[str, Any]) -> ClickParams:
        """Returns a copy with some parameters changed, each named "section.name" (or "world").

        Raises:
            InputError: unknown parameter, or value out of range.
        """
        numbers: dict[str, Any] = {"questions": self.questions.model_dump(), **self.model_dump()}
        for name, value in changes.items():
            section, dot, field = name.partition(".")
            target = numbers if not dot else numbers.get(section)
            key = field if dot else section
            if not isinstance(target, dict) or key not in target or isinstance(target[key], dict):
                raise InputError(f"the click model has no parameter {name!r}: known are {', '.join(self.numbers())}")
            target[key] = value
        try:
            return ClickParams.model_validate(numbers)
        except ValidationError as error:
            raise InputError(f"changed click model: {_said(error)}") from None

    def numbers(self) -> dict[str, float]:
        """All numeric parameters: "section.name" -> value."""
        return {
            f"{section}.{name}": value
            for section, part in self.model_dump().items()
            if isinstance(part, dict) and section not in ("examples", "appeals")
            for name, value in part.items()
        }

    @property
    def sha256(self) -> str:
        """Hash of all parameters, for manifests: two runs with the same hash used the same click model."""
        return hashlib.sha256(json.dumps(self.model_dump(), sort_keys=True).encode()).hexdigest()


def load_world(name: str | Path) -> ClickParams:
    """The click model's numbers in a world.

    Args:
        name: The name of a world that ships with simenv (`WORLDS`), or a .toml file.

    Raises:
        UnknownName: no world of that name.
        DataFileError: the file cannot be read; one line per field that is wrong.
    """
    if str(name) in WORLDS:
        return _shipped(str(name))
    path = Path(name).expanduser()
    if path.suffix.lower() != ".toml":
        raise UnknownName("click world", str(name), WORLDS, hint="or give a .toml file, as simenv fit-world writes it")
    params = _read(decoded(path, read_bytes(path, ".toml file")), str(path))
    if params.world in WORLDS:
        raise DataFileError(f"{path}: world: {params.world!r} is the name of a world of simenv: give it another name")
    return params


def world_v1() -> ClickParams:
    """The frozen parameters of world "v1"."""
    return load_world("v1")


@cache
def _shipped(name: str) -> ClickParams:
    text = (files("simenv.judges") / "worlds" / f"{name}.toml").read_text(encoding="utf-8")
    return _read(text, f"{name}.toml")


def _read(text: str, where: str) -> ClickParams:
    try:
        fields = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DataFileError(f"{where}: not TOML: {error}") from None
    like = fields.pop("like", None)
    if like is not None:
        if like not in WORLDS:
            raise DataFileError(f"{where}: like: unknown world {like!r}, known are {', '.join(WORLDS)}")
        fields = _over(_shipped(like).model_dump(), fields)
    try:
        return ClickParams.model_validate(fields)
    except ValidationError as error:
        raise DataFileError(f"{where}: {_said(error)}") from None


def _over(base: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with what `fields` names instead: a section keeps the numbers that are not named."""
    merged = dict(base)
    for name, value in fields.items():
        old = base.get(name)
        merged[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _said(error: ValidationError) -> str:
    """Every field that is wrong, with what was got."""
    parts = []
    for one in error.errors():
        where = ".".join(map(str, one["loc"]))
        message = one["msg"].removeprefix("Value error, ")
        message = message[:1].lower() + message[1:]
        got = "" if one["type"] in ("missing", "value_error") else f", got {one['input']!r:.60}"
        parts.append(f"{where}: {message}{got}" if where else message)
    return "; ".join(parts)
