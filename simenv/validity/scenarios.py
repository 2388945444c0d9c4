"""The contrast suite: situations in which it is plain which ad is likelier to be clicked.

60 scenarios in 12 categories, written and frozen before any judge was run on them and without sight of the click
model's equations. In each category two are "dev", on which a judge may be tuned, and three "test", on which nothing
may be.

A judge LLM reads words, the click model reads numbers. So each attitude in words has its number beside it:

    averse, tolerant               traits.ad_tolerance 0.1, 0.9
    interested, uninterested       traits.affinity +0.8, -0.8 for the ad's category
    frugal                         traits.price_sensitivity 0.9
    any other persona              traits at 0.5, affinity 0: its words say nothing of these

Every auction holds all nine ads of its scenario as candidates, so that two answers of a contrast differ in the answer
alone. Ad ids are drawn by key and say nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from simenv.errors import InputError, UnknownName
from simenv.files.rows import read_rows, to_record
from simenv.markup import outcome
from simenv.records import Ad, Auction, Bid, Outcome, Persona, Placement, Query, Record, Traits
from simenv.runs.folder import records_hash
from simenv.seeding import keyed_rng
from simenv.validity.cases import Case

PARTS = ("dev", "test", "all")
_ROLES = ("ad", "rival", "second", "other", "cheap", "dear", "extra-0", "extra-1", "extra-2")
_SAME_NEED = ("ad", "rival", "cheap", "dear")
_OF_THE_AD = ("native", "spliced", "hard_sell", "paraphrase")
EXTRAS = ("extra-0", "extra-1", "extra-2")


class Copy(Record):
    """An ad without an id."""

    advertiser: str = Field(min_length=1)
    title: str = Field(min_length=1, pattern=r"^[^@\[\]{}\n]+$")
    body: str


class Person(Record):
    """Who asks, in words."""

    info: str = Field(min_length=1)
    interests: tuple[str, ...] = ()


class Sentences(Record):
    """One sentence per ad and wording; each holds {link} once, where the ad's link stands."""

    native: str
    """Fits the answer."""
    spliced: str
    """Of the same ad, calm, but with no connection to the answer."""
    hard_sell: str
    """Of the same ad, pushy."""
    paraphrase: str
    """`native` in other words."""
    other: str
    rival: str
    second: str
    cheap: str
    dear: str
    extras: tuple[str, str, str]

    @model_validator(mode="after")
    def _one_link(self) -> Sentences:
        for text in (*self.model_dump(exclude={"extras"}).values(), *self.extras):
            if text.count("{link}") != 1 or any(mark in text.replace("{link}", "") for mark in "@[]{}"):
                raise ValueError("a sentence must hold {link} once and no other mark-up: " + repr(text))
        return self


class Scenario(Record):
    """One situation: a query, an answer, ads around it and people who might ask."""

    id: str = Field(min_length=1)
    category: str
    """Of `ad` and of what fills the same need."""
    split: Literal["dev", "test"]
    query: str = Field(min_length=1)
    answer: str = Field(pattern=r"^[^@\[\]{}]+$")
    """Without ads."""
    persona: Person
    """An ordinary person who would ask this; nothing is said of ads or money."""
    ad: Copy
    """Helps with the query."""
    brand_swap: str
    """Another invented brand for `ad`."""
    rival: Copy
    """For the same need as `ad`, about as good."""
    second: Copy
    """Relevant too, for another need."""
    other: Copy
    """Has nothing to do with the query."""
    extras: tuple[Copy, Copy, Copy]
    """Loosely related."""
    cheap: Copy
    dear: Copy
    """For the same need as `ad`, plainly cheap and plainly expensive."""
    sentences: Sentences
    leak: str = Field(pattern=r"^[^@\[\]{}]+$")
    """Leaks the ad process into the answer."""
    after: str = Field(pattern=r"^[^@\[\]{}]+$")
    """Goes on with the answer, without ads."""
    interested: Person
    uninterested: Person
    averse: str
    tolerant: str
    frugal: str

    @property
    def ads(self) -> dict[str, Copy]:
        """Role -> ad, in the order of `_ROLES`."""
        named = [self.ad, self.rival, self.second, self.other, self.cheap, self.dear, *self.extras]
        return dict(zip(_ROLES, named, strict=True))

    def sentence(self, wording: str) -> str:
        """The sentence of a wording of the ad ("native") or of another ad ("rival", "extra-0")."""
        if wording in EXTRAS:
            return self.sentences.extras[EXTRAS.index(wording)]
        return str(getattr(self.sentences, wording))

    def brand_swapped(self) -> Scenario:
        """The same scenario with the ad's brand replaced wherever it stands in the ad and its sentences."""
        old, new = self.ad.advertiser, self.brand_swap
        ad = {name: text.replace(old, new) for name, text in self.ad.model_dump().items()}
        own = {wording: self.sentence(wording).replace(old, new) for wording in _OF_THE_AD}
        return self.with_ad(ad, own)

    def with_ad(self, ad: Mapping[str, str], sentences: Mapping[str, str]) -> Scenario:
        """The same scenario with fields of the ad and sentences of it replaced."""
        update: dict[str, Any] = {
            "ad": self.ad.model_copy(update=dict(ad)),
            "sentences": self.sentences.model_copy(update=dict(sentences)),
        }
        return self.model_copy(update=update)


@cache
def _embedded() -> tuple[Scenario, ...]:
    return read_scenarios(Path(str(files("simenv.validity") / "scenarios.jsonl")))


def read_scenarios(path: str | Path) -> tuple[Scenario, ...]:
    """Reads scenarios from a .jsonl file.

    Raises:
        DataFileError: unreadable, or a row that is no scenario.
        InputError: an id that is there twice.
    """
    scenarios = tuple(to_record(row, Scenario, row.fields) for row in read_rows(path))
    ids = [scenario.id for scenario in scenarios]
    if len(set(ids)) < len(ids):
        raise InputError(f"{path}: ids that are there twice: {sorted({i for i in ids if ids.count(i) > 1})}")
    return scenarios


def load_scenarios(part: str = "test", limit: int | None = None) -> tuple[Scenario, ...]:
    """The embedded scenarios of one part.

    Args:
        part: "test", "dev" or "all".
        limit: The first so many; taken category by category in turn, so that few are of different categories.

    Raises:
        UnknownName: no such part.
        InputError: limit below 1.
    """
    if part not in PARTS:
        raise UnknownName("part of the suite", part, PARTS)
    if limit is not None and limit < 1:
        raise InputError(f"limit must be at least 1, got {limit}")
    chosen = [scenario for scenario in _embedded() if part in ("all", scenario.split)]
    seen: dict[str, int] = {}
    turns = []
    for scenario in chosen:
        seen[scenario.category] = seen.get(scenario.category, 0) + 1
        turns.append(seen[scenario.category])
    in_turn = sorted(zip(turns, range(len(chosen)), strict=True))
    return tuple(chosen[i] for _, i in in_turn)[:limit]


def suite_hash() -> str:
    """SHA-256 of the whole suite's content, both parts."""
    return records_hash(_embedded())


def persona(scenario: Scenario, who: Person | None = None, attitude: str = "", **traits: float) -> Persona:
    """A persona of a scenario.

    Args:
        scenario: Whose.
        who: Basic facts; the scenario's ordinary person by default.
        attitude: Towards ads or prices, in words.
        **traits: The same in numbers: `ad_tolerance`, `price_sensitivity`, and `affinity` for the ad's category.
    """
    who = who or scenario.persona
    taste = {scenario.category: traits.pop("affinity", 0.0), "general": 0.0}
    return Persona(
        id=scenario.id,
        info=who.info,
        interests=who.interests,
        attitude=attitude,
        traits=Traits.model_validate({"affinity": taste, **traits}),
    )


def build(
    scenario: Scenario,
    shown: Sequence[str] = ("native",),
    *,
    who: Persona | None = None,
    tail: str = "",
    seed: int = 0,
    ids: int = 0,
    bid: float = 10.0,
    other_bids: float | None = None,
) -> Case:
    """The scenario's answer followed by ad sentences; the first ad shown is the ad in question.

    Args:
        scenario: Which.
        shown: Wordings of the ad ("native", "spliced", "hard_sell", "paraphrase") or other ads ("other", "rival",
            "second", "cheap", "dear", "extra-0", "extra-1", "extra-2"), in reading order.
        who: Who reads it; the scenario's ordinary person by default.
        tail: Text after the last ad.
        seed: Names the run; part of the auction's id and so of the judge's randomness.
        ids: Which draw of ad ids: 0 and 1 look alike, 2 looks different.
        bid: Bid and price of the ad in question, currency per click.
        other_bids: Bid and price of the other ads; as `bid` by default.
    """
    roles = ["ad" if wording in _OF_THE_AD else wording for wording in shown]
    numbers = keyed_rng("validity-ids", scenario.id, ids).choice(900, size=len(_ROLES), replace=False) + 100
    ads = {
        role: Ad(
            id=f"{'offer-' if ids == 2 else 'A'}{number}",
            category=scenario.category if role in _SAME_NEED else "general",
            **copy.model_dump(),
        )
        for (role, copy), number in zip(scenario.ads.items(), numbers, strict=True)
    }
    amounts = {role: bid if role == roles[0] or other_bids is None else other_bids for role in ads}
    auction = Auction(
        id=f"validity.{seed}.{scenario.id}",
        query=Query(text=scenario.query),
        bids=tuple(Bid(ad=ad, amount=amounts[role]) for role, ad in ads.items()),
    )
    sentences = [
        scenario.sentence(wording).replace("{link}", ads[role].link) for wording, role in zip(shown, roles, strict=True)
    ]
    text = " ".join(part for part in (scenario.answer, *sentences, tail) if part)
    result = outcome(auction, text, {ads[role].id: amounts[role] for role in ads})
    return Case(who or persona(scenario), auction, result, ads[roles[0]].id)


def absent(case: Case, scenario: Scenario) -> Case:
    """The same judge asked about the same ad, whose link is nowhere in the answer: a placement with an empty span.

    It stands at the end of the answer, where the ad would have stood.
    """
    end = len(scenario.answer)
    nowhere = Placement(ad_id=case.ad_id, price=case.outcome.placements[0].price, span=(end, end))
    return case._replace(outcome=Outcome(response=scenario.answer, placements=(nowhere,)))
