"""From rows to answers: who asked what, what was answered, and which ads are where in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from simenv import markup
from simenv.errors import InputError
from simenv.files.tables import Row
from simenv.links import without_links
from simenv.records import Ad, Persona
from simenv.runs.options import ScoreOptions
from simenv.scoring.ad_finder import AdFinder, Place
from simenv.scoring.cells import MONEY, Amounts, read_ads, read_amounts, read_persona, said_by, text_of
from simenv.scoring.columns import Source
from simenv.scoring.markdown import links
from simenv.scoring.placing import FORMS, Form, Given, linked, listed, marked, named

_LONGEST_LABEL = 80


class Written(NamedTuple):
    """One answer as it was read."""

    where: str
    """FILE:LINE, or "answer 3"."""
    system: str
    query: str
    response: str
    """As it was written."""
    id: str
    """The caller's name for the auction; empty if there is none."""
    persona: Persona | None
    """None: not given."""
    form: Form
    places: tuple[Place, ...]
    """The ads, in reading order; in the form markup one for each link."""
    money: Mapping[str, Mapping[str, float]]
    """bid, price and value -> ad id -> currency per click, where given."""
    reference: str | None
    """The answer without ads; None: not given."""


class Reading(NamedTuple):
    """What the rows of a source came to."""

    answers: list[Written]
    bad: list[str]
    """Rows that cannot be scored, one message each."""
    forms: dict[str, Form]
    """System -> how its answers show ads."""
    plain_links: int
    """Markdown links that lead to no ad."""


def forms_of(source: Source, finder: AdFinder, asked: str) -> dict[str, Form]:
    """How the answers of each system of a source show ads: one may write links, and another names.

    Args:
        source: The rows.
        finder: The ads.
        asked: The option `ads_as`.

    Raises:
        InputError: another form, or "list" without a column of ads.
    """
    if asked != "auto":
        form = next((it for it in FORMS if it == asked), None)
        if form is None:
            raise InputError(f"ads_as must be auto, {', '.join(FORMS)}, got {asked!r}")
        if form == "list" and "ads" not in source.columns:
            raise InputError(f"{source.name}: ads_as is list, and there is no column of ads")
        return {system: form for system, _ in _responses(source)}
    if "ads" in source.columns:
        return {system: "list" for system, _ in _responses(source)}
    responses: dict[str, list[str]] = {}
    for system, text in _responses(source):
        responses.setdefault(system, []).append(text)
    return {system: _detected(texts, finder) for system, texts in responses.items()}


def _detected(responses: Sequence[str], finder: AdFinder) -> Form:
    if any(markup.LINK.search(text) for text in responses):
        return "markup"
    return "links" if any(_leads_to_ad(text, finder) for text in responses) else "names"


def _responses(source: Source) -> Iterator[tuple[str, str]]:
    """System and response of each row."""
    for row in source.rows:
        with suppress(InputError):  # the row says so when it is read
            response = said_by("assistant", row.fields.get(source.columns["response"]), "response")
            yield _system(row, source), response


def _system(row: Row, source: Source) -> str:
    cell = row.fields.get(source.columns["system"]) if "system" in source.columns else None
    return text_of(cell, "system").strip() or source.label


def _leads_to_ad(response: str, finder: AdFinder) -> bool:
    for link in links(response):
        try:
            if finder.linked(link.target, link.text) is not None:
                return True
        except InputError:  # several ads: the row says so
            return True
    return False


class Reader:
    """Reads the answers of sources.

    Args:
        options: The options.
        finder: The ads; those that rows describe are added.
        personas: The pack.
    """

    def __init__(self, options: ScoreOptions, finder: AdFinder, personas: Iterable[Persona]) -> None:
        self._options = options
        self._finder = finder
        self._catalog: dict[str, Ad] = dict(finder.ads)
        self._personas = {persona.id: persona for persona in personas}
        self._described: dict[str, Persona] = {}
        self._seen: dict[tuple[str, ...], str] = {}
        self._queries: dict[str, tuple[str, str]] = {}
        """Id of an auction -> its query, and the row that has it first."""

    def read(self, source: Source) -> Reading:
        """The answers of a source.

        Raises:
            InputError: as `forms_of`.
        """
        forms = forms_of(source, self._finder, self._options.ads_as)
        reading = Reading([], list(source.bad), forms, 0)
        plain = 0
        for row in source.rows:
            try:
                written = self._answer(row, source, forms)
            except InputError as error:
                text = str(error)
                reading.bad.append(text if text.startswith(row.where) else f"{row.where}: {text}")
                continue
            reading.answers.append(written)
            if written.form == "links":
                plain += sum(1 for _ in links(written.response)) - len(written.places)
        return reading._replace(plain_links=plain)

    def _answer(self, row: Row, source: Source, forms: Mapping[str, Form]) -> Written:
        cells = {name: row.fields.get(column) for name, column in source.columns.items()}
        query = without_links(said_by("user", cells["query"], "query").strip())
        if not query:
            raise InputError("query: is empty, expected a question")
        response = said_by("assistant", cells["response"], "response")
        system = _system(row, source)
        form = forms[system]
        if not system.isprintable() or len(system) > _LONGEST_LABEL:
            raise InputError(
                f"system: expected a name of printable characters, at most {_LONGEST_LABEL}, got {system!r:.60}"
            )
        persona = self._known(read_persona(cells.get("persona"), self._personas))
        key = text_of(cells.get("id"), "id").strip()
        double = self._double(row.where, system, query, response, key, persona)
        given = read_ads(cells.get("ads"), response, self._finder, self._catalog) if form == "list" else []
        places = self._places(form, response, given)
        amounts = {name: read_amounts(cells.get(name), name) for name in MONEY}
        reference = said_by("assistant", cells.get("reference"), "reference") or None
        money = {name: dict(_money(name, it, given, places)) for name, it in amounts.items()}
        self._seen[double] = row.where
        return Written(row.where, system, query, response, key, persona, form, tuple(places), money, reference)

    def _places(self, form: Form, response: str, given: Sequence[Given]) -> list[Place]:
        if form == "list":
            return listed(response, given)
        if form == "none":
            return []
        find = {"markup": marked, "links": linked, "names": named}[form]
        return find(response, self._finder)

    def _known(self, persona: Persona | None) -> Persona | None:
        if persona is None:
            return None
        known = self._personas.get(persona.id) or self._described.setdefault(persona.id, persona)
        if known != persona:
            raise InputError(f"persona: {persona.id!r} is described otherwise in the pack or in a row before")
        return persona

    def _double(
        self, where: str, system: str, query: str, response: str, key: str, persona: Persona | None
    ) -> tuple[str, ...]:
        """What no other row may share with this one.

        Raises:
            InputError: a row before does, or has another query for this id.
        """
        if key:
            asked, first = self._queries.setdefault(key, (query, where))
            if asked != query:
                raise InputError(f"id: {key!r:.60} has another query at {first}: {asked!r:.60}")
        same = ("id", system, key) if key else ("text", system, query, response, persona.id if persona else "")
        if same in self._seen:
            what = f"auction {key}" if key else "this question with this text"
            raise InputError(
                f"system {system!r} answers {what} at {self._seen[same]} already",
                hint="name the auctions in a column, option id, if the same was answered twice",
            )
        return same


def _money(name: str, amounts: Amounts, given: Sequence[Given], places: Iterable[Place]) -> Iterator[tuple[str, float]]:
    """Ad id -> what the ad's own entry says, else what the column says of it."""
    own: dict[str, Any] = {it.ad.id: getattr(it, name) for it in given}
    order = list(own) or list(dict.fromkeys(place.ad.id for place in places))
    if amounts.in_order and len(amounts.in_order) != len(order):
        raise InputError(f"{name}: {len(amounts.in_order)} amounts for {len(order)} ads: expected one for each")
    if unknown := [ad_id for ad_id in amounts.by_id if ad_id not in order]:
        raise InputError(f"{name}: {unknown[0]!r:.60} is none of the answer's ads: {', '.join(order) or 'it has none'}")
    for place, ad_id in enumerate(order):
        number = own.get(ad_id) if own.get(ad_id) is not None else amounts.of(ad_id, place)
        if number is not None:
            yield ad_id, number
