"""The contrast suite: situations in which it is clear which ad is likelier to be clicked.

The suite has 60 scenarios in 12 categories. They were written and frozen before any judge was run on them, by an author
who did not see the click model's equations. In each category two are "dev", on which a judge may be tuned, and three
are "test", on which nothing may be tuned.

An LLM judge reads text, the click model reads numbers. So each attitude in words has a matching number:

    averse, tolerant               traits.ad_tolerance 0.1, 0.9
    interested, uninterested       traits.affinity +0.8, -0.8 for the ad's category
    frugal                         traits.price_sensitivity 0.9
    any other persona              traits at 0.5, affinity 0: its text does not mention them

In every auction all nine ads of the scenario are candidates, so that the two sides of a contrast differ only in the
answer. Ad ids are drawn by key and carry no information.
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
    """Description of a person who might ask the query."""

    info: str = Field(min_length=1)
    interests: tuple[str, ...] = ()


class Sentences(Record):
    """One sentence per ad and wording; each contains {link} once, in place of the ad's link."""

    native: str
    """A sentence about `ad` that fits the answer."""
    spliced: str
    """About the same ad, calm, but with no connection to the answer."""
    hard_sell: str
    """About the same ad, pushy."""
    paraphrase: str
    """A paraphrase of `native`."""
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
                raise ValueError("a sentence must contain {link} once and no other mark-up: " + repr(text))
        return self


class Scenario(Record):
    """One situation: a query, an answer, ads, and people who might ask the query."""

    id: str = Field(min_length=1)
    category: str
    """Category of `ad` and of the other ads for the same need."""
    split: Literal["dev", "test"]
    query: str = Field(min_length=1)
    answer: str = Field(pattern=r"^[^@\[\]{}]+$")
    """The answer without ads."""
    persona: Person
    """A typical person who would ask the query; the text does not mention ads or money."""
    ad: Copy
    """An ad that helps with the query."""
    brand_swap: str
    """Another invented brand for `ad`."""
    rival: Copy
    """An ad for the same need as `ad`, about as good."""
    second: Copy
    """A relevant ad for another need."""
    other: Copy
    """An ad that is unrelated to the query."""
    extras: tuple[Copy, Copy, Copy]
    """Loosely related ads."""
    cheap: Copy
    dear: Copy
    """A clearly cheap and a clearly expensive ad for the same need as `ad`."""
    sentences: Sentences
    leak: str = Field(pattern=r"^[^@\[\]{}]+$")
    """Text that leaks the ad process into the answer."""
    after: str = Field(pattern=r"^[^@\[\]{}]+$")
    """Text that continues the answer, without ads."""
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
        """Returns the sentence of a wording of the ad ("native") or of another ad ("rival", "extra-0")."""
        if wording in EXTRAS:
            return self.sentences.extras[EXTRAS.index(wording)]
        return str(getattr(self.sentences, wording))

    def brand_swapped(self) -> Scenario:
        """Returns the same scenario with the ad's brand replaced in the ad and in its sentences."""
        old, new = self.ad.advertiser, self.brand_swap
        ad = {name: text.replace(old, new) for name, text in self.ad.model_dump().items()}
        own = {wording: self.sentence(wording).replace(old, new) for wording in _OF_THE_AD}
        return self.with_ad(ad, own)

    def with_ad(self, ad: Mapping[str, str], sentences: Mapping[str, str]) -> Scenario:
        """Returns the same scenario with some fields and sentences of the ad replaced."""
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
        DataFileError: unreadable file, or a row that is not a scenario.
        InputError: duplicate ids.
    """
    scenarios = tuple(to_record(row, Scenario, row.fields) for row in read_rows(path))
    ids = [scenario.id for scenario in scenarios]
    if len(set(ids)) < len(ids):
        raise InputError(f"{path}: ids must be unique, got several of {sorted({i for i in ids if ids.count(i) > 1})}")
    return scenarios


def load_scenarios(part: str = "test", limit: int | None = None) -> tuple[Scenario, ...]:
    """The embedded scenarios of one part.

    Args:
        part: "test", "dev" or "all".
        limit: Maximum number. Scenarios are taken from the categories in turn, so that a few cover several categories.

    Raises:
        UnknownName: unknown part.
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
    """SHA-256 of the content of the suite, both parts."""
    return records_hash(_embedded())


def persona(scenario: Scenario, who: Person | None = None, attitude: str = "", **traits: float) -> Persona:
    """Builds a persona of a scenario.

    Args:
        scenario: The scenario.
        who: Description of the person; the scenario's typical person by default.
        attitude: Attitude towards ads or prices, in words.
        **traits: The same as numbers: `ad_tolerance`, `price_sensitivity`, and `affinity` for the ad's category.
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


def shouted(scenario: Scenario) -> Scenario:
    """Returns the same scenario with its spliced sentence in capitals and with exclamation marks."""
    before, after = scenario.sentence("spliced").split("{link}")
    return scenario.with_ad({}, {"spliced": f"{before.upper()}{{link}}{after.upper().rstrip('.')}!!!"})


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
    """Builds a case: the scenario's answer followed by ad sentences; the first ad shown is the target ad.

    Args:
        scenario: The scenario.
        shown: Wordings of the ad ("native", "spliced", "hard_sell", "paraphrase") or other ads ("other", "rival",
            "second", "cheap", "dear", "extra-0", "extra-1", "extra-2"), in reading order.
        who: The reader; the scenario's typical person by default.
        tail: Text after the last ad.
        seed: Key of the run; part of the auction's id, which keys the judge's randomness.
        ids: Number of the draw of ad ids: 0 and 1 have the same format, 2 has another.
        bid: Bid and price of the target ad, currency per click.
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


def absent_ad(case: Case, scenario: Scenario) -> Case:
    """Returns the case with the same target ad, but without its sentence: the placement has an empty span.

    The span is at the end of the answer, where the ad's sentence would start.
    """
    end = len(scenario.answer)
    nowhere = Placement(ad_id=case.ad_id, price=case.outcome.placements[0].price, span=(end, end))
    return case._replace(outcome=Outcome(response=scenario.answer, placements=(nowhere,)))
