"""The kinds of pack: personas, ads and queries, each with its prompt, reply format and checks."""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from simenv.errors import UnknownName
from simenv.llm.base import JSONSchema
from simenv.market.catalog import load_catalog
from simenv.packmaker.cells import Cell
from simenv.packmaker.filters import bad_query, bad_text, commercial
from simenv.records import Ad, Persona, Traits
from simenv.runs.folder import records_hash
from simenv.users.personas import load_personas
from simenv.users.queries import FileQueries, Question, load_queries

AGES = {"18-29": (18, 29), "30-44": (30, 44), "45-59": (45, 59), "60-79": (60, 79)}
REGIONS = ("north america", "europe", "latin america", "africa", "south asia", "east asia", "middle east", "oceania")
INCOMES = ("low", "middle", "high")
ATTITUDES = {"against ads": (0.0, 1 / 3), "in between": (1 / 3, 2 / 3), "open to ads": (2 / 3, 1.0)}
TOPICS = (
    *("history", "language and words", "arithmetic and mathematics", "astronomy and physics", "animals and plants"),
    *("geography", "philosophy and ethics", "riddles, jokes and verse", "chess and rules of games"),
    *("manners and feelings", "myths and customs", "everyday science"),
)

R = TypeVar("R")


class RejectedRecord(Exception):
    """A record failed a check; the message is the reason."""


class _Reply(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    number: int
    """Number of the cell that the record is written for, from 1."""


class _Taste(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    category: str
    taste: float


class _PersonaReply(_Reply):
    info: str
    age: int
    interests: list[str]
    attitude: str
    ad_tolerance: float
    price_sensitivity: float
    patience: float
    affinity: list[_Taste]
    queries: list[str]


class _AdReply(_Reply):
    advertiser: str
    title: str
    body: str


class _QueryReply(_Reply):
    text: str


class Kind(ABC, Generic[R]):
    """One kind of pack.

    Args:
        categories: Categories of ads or of personas' tastes, or topics of queries; those of the embedded packs by
            default.
    """

    name: ClassVar[str]
    like: ClassVar[str]
    """The embedded pack that new records are compared with by default."""
    prompt: ClassVar[str]
    by_cosine: ClassVar[frozenset[str]]
    """Fields of `texts` that are checked for near-duplicates."""
    batch: ClassVar[int]
    """Records requested in one call."""
    reply: ClassVar[type[_Reply]]

    def __init__(self, categories: Sequence[str] = ()) -> None:
        self.categories = tuple(categories) or self._categories()

    @property
    @abstractmethod
    def factors(self) -> Mapping[str, Sequence[str]]:
        """Factor -> levels over which a pack is balanced."""

    @abstractmethod
    def load(self, path: str | Path) -> list[R]:
        """The records of a pack or a file."""

    @abstractmethod
    def build(self, fields: Any, cell: Cell, name: str) -> R:
        """Builds a record from the model's fields; `name` is unique in its pack.

        Raises:
            RejectedRecord: the record does not fit its cell, or a filter rejects one of its texts.
        """

    @abstractmethod
    def texts(self, record: R) -> dict[str, Sequence[str]]:
        """Field -> texts that must differ between records."""

    @abstractmethod
    def row(self, record: R) -> dict[str, Any]:
        """The record as a line of a file."""

    @abstractmethod
    def sha256(self, path: str | Path) -> str:
        """Hash of the records of a pack or file, as in the manifest of a run."""

    @abstractmethod
    def _categories(self) -> tuple[str, ...]: ...

    def read(self, row: object, cells: Mapping[int, Cell], name: str) -> tuple[int, R]:
        """Reads one record of a reply; returns the number of its cell and the record.

        Raises:
            RejectedRecord: the row does not match the schema, or as `build`.
        """
        try:
            fields = self.reply.model_validate_json(json.dumps(row))
        except (ValidationError, ValueError):
            raise RejectedRecord("unreadable") from None
        if fields.number not in cells:
            raise RejectedRecord("unreadable")
        return fields.number, self.build(fields, cells[fields.number], name)

    def schema(self) -> JSONSchema:
        """The schema {"records": [...]}, for models that support schema-constrained replies."""
        schema = self.reply.model_json_schema()
        definitions = schema.pop("$defs", None)
        records = {
            "type": "object",
            "properties": {"records": {"type": "array", "items": schema}},
            "required": ["records"],
            "additionalProperties": False,
        }
        return JSONSchema(text=json.dumps(records | ({"$defs": definitions} if definitions else {})))


class Personas(Kind[Persona]):
    """People with their attitudes, tastes and queries."""

    name, like, prompt, batch, reply = "personas", "everyday", "pack_personas", 4, _PersonaReply
    by_cosine = frozenset({"info", "attitude", "queries"})

    @property
    def factors(self) -> Mapping[str, Sequence[str]]:
        return {"age": tuple(AGES), "region": REGIONS, "income": INCOMES, "attitude": tuple(ATTITUDES)}

    def load(self, path: str | Path) -> list[Persona]:
        return list(load_personas(path))

    def build(self, fields: _PersonaReply, cell: Cell, name: str) -> Persona:
        tastes = {taste.category: taste.taste for taste in fields.affinity}
        (youngest, oldest), (least, most) = AGES[cell["age"]], ATTITUDES[cell["attitude"]]
        numbers = (fields.ad_tolerance, fields.price_sensitivity, fields.patience)
        fits = [
            youngest <= fields.age <= oldest,
            least <= fields.ad_tolerance <= most,
            all(0 <= number <= 1 for number in numbers),
            all(-1 <= taste <= 1 for taste in tastes.values()),
            set(tastes) <= set(self.categories),
        ]
        if not all(fits):
            raise RejectedRecord("misfit")
        negative = min(tastes.values(), default=0) < 0
        if (len(fields.queries), 3 <= len(fields.interests) <= 6, 3 <= len(tastes) <= 8, negative) != (5, *(True,) * 3):
            raise RejectedRecord("length")
        _reject_first([bad_text(fields.info, 8, 45), bad_text(fields.attitude, 8, 55)])
        _reject_first([bad_text(interest, 1, 6) for interest in fields.interests])
        _reject_first(map(bad_query, fields.queries))
        return Persona(
            id=name,
            info=fields.info,
            interests=tuple(fields.interests),
            age=fields.age,
            region=cell["region"],
            income=cell["income"],
            attitude=fields.attitude,
            traits=Traits(
                ad_tolerance=fields.ad_tolerance,
                price_sensitivity=fields.price_sensitivity,
                patience=fields.patience,
                affinity=tastes,
            ),
            queries=tuple(fields.queries),
        )

    def texts(self, record: Persona) -> dict[str, Sequence[str]]:
        return {
            "info": (record.info,),
            "attitude": (record.attitude,) if record.attitude else (),
            "queries": record.queries,
        }

    def row(self, record: Persona) -> dict[str, Any]:
        return record.model_dump(mode="json")

    def sha256(self, path: str | Path) -> str:
        return records_hash(load_personas(path))

    def _categories(self) -> tuple[str, ...]:
        return _catalog_categories()


class Ads(Kind[Ad]):
    """Ads of fictional companies."""

    name, like, prompt, batch, reply = "ads", "everyday", "pack_ads", 8, _AdReply
    by_cosine = frozenset({"ad"})

    @property
    def factors(self) -> Mapping[str, Sequence[str]]:
        return {"category": self.categories, "price": ("low-cost", "mid-range", "premium")}

    def load(self, path: str | Path) -> list[Ad]:
        return list(load_catalog(path))

    def build(self, fields: _AdReply, cell: Cell, name: str) -> Ad:
        _reject_first([bad_text(fields.advertiser, 1, 4), bad_text(fields.title, 2, 7), bad_text(fields.body, 15, 45)])
        domain = re.sub(r"[^a-z0-9]+", "", fields.advertiser.lower())
        if not domain or len(fields.title) > 60:
            raise RejectedRecord("length")
        return Ad(
            id=name,
            advertiser=fields.advertiser,
            title=fields.title,
            body=fields.body,
            category=cell["category"],
            url=f"https://{domain[:63]}.example/",
        )

    def texts(self, record: Ad) -> dict[str, Sequence[str]]:
        body = (record.body,) if record.body else ()
        return {"advertiser": (record.advertiser,), "title": (record.title,), "body": body, "ad": (record.text,)}

    def row(self, record: Ad) -> dict[str, Any]:
        return record.model_dump(mode="json")

    def sha256(self, path: str | Path) -> str:
        return records_hash(load_catalog(path))

    def _categories(self) -> tuple[str, ...]:
        return _catalog_categories()


class Queries(Kind[Question]):
    """Questions without commercial intent."""

    name, like, prompt, batch, reply = "queries", "no_commercial_intent", "pack_queries", 12, _QueryReply
    by_cosine = frozenset({"queries"})

    @property
    def factors(self) -> Mapping[str, Sequence[str]]:
        return {"topic": self.categories, "way of writing": ("plain", "hasty", "chatty")}

    def load(self, path: str | Path) -> list[Question]:
        return load_queries(path)

    def build(self, fields: _QueryReply, cell: Cell, name: str) -> Question:
        _reject_first([bad_query(fields.text), "commercial" if commercial(fields.text) else None])
        return Question(fields.text, cell["topic"])

    def texts(self, record: Question) -> dict[str, Sequence[str]]:
        return {"queries": (record.text,)}

    def row(self, record: Question) -> dict[str, Any]:
        return record._asdict()

    def sha256(self, path: str | Path) -> str:
        return FileQueries(path).hash

    def _categories(self) -> tuple[str, ...]:
        return TOPICS


KINDS: dict[str, Callable[[Sequence[str]], Kind[Any]]] = {"personas": Personas, "ads": Ads, "queries": Queries}


def make_kind(name: str, categories: Sequence[str] = ()) -> Kind[Any]:
    """Builds a kind of pack by name.

    Raises:
        UnknownName: unknown kind.
    """
    if name not in KINDS:
        raise UnknownName("kind of pack", name, KINDS)
    return KINDS[name](categories)


def _catalog_categories() -> tuple[str, ...]:
    return tuple(sorted({ad.category for ad in load_catalog()}))


def _reject_first(reasons: Iterable[str | None]) -> None:
    for reason in reasons:
        if reason is not None:
            raise RejectedRecord(reason)
