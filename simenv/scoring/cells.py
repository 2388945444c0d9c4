"""What the cells of an answer's row say: ads, amounts, the user."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from simenv.errors import InputError
from simenv.files.characters import hidden_in_name, hidden_in_text
from simenv.files.rows import as_text, to_record
from simenv.files.tables import Row
from simenv.records import Ad, Persona
from simenv.scoring.ad_finder import AdFinder
from simenv.scoring.placing import Given
from simenv.seeding import keyed_int

_AD_KEYS: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "ad_id", "ad"),
    "title": ("title", "name"),
    "advertiser": ("advertiser", "brand"),
    "body": ("body", "description", "copy"),
    "category": ("category",),
    "url": ("url", "link"),
    "start": ("start",),
    "end": ("end",),
    "span": ("span",),
    "text": ("text",),
    "bid": ("bid",),
    "price": ("price",),
    "value": ("value",),
}
_KNOWN_KEYS = {name: key for key, names in _AD_KEYS.items() for name in names}
_OF_THE_AD = ("id", "title", "advertiser", "body", "category", "url")
MONEY = ("bid", "price", "value")


_MESSAGES = re.compile(r'\s*\[\s*\{\s*"')


class Amounts(NamedTuple):
    """What a cell says of money: for every ad, by ad id, or in the order of the ads."""

    each: float | None = None
    by_id: Mapping[str, float] = {}
    in_order: Sequence[float | None] = ()

    def of(self, ad_id: str, place: int) -> float | None:
        """The amount of the ad at a place of the list of ads."""
        if self.in_order:
            return self.in_order[place] if place < len(self.in_order) else None
        return self.by_id.get(ad_id, self.each)


def text_of(cell: Any, name: str) -> str:
    """A text.

    Raises:
        InputError: the cell holds something else.
    """
    if cell is None:
        return ""
    cell = as_text(cell)
    if not isinstance(cell, str):
        raise InputError(f"{name}: expected a text, got {cell!r:.80}")
    if any("\ud800" <= character <= "\udfff" for character in cell):
        raise InputError(f"{name}: holds a lone surrogate, which is no character")
    return cell


def said_by(role: str, cell: Any, name: str) -> str:
    """A text; of a cell that holds the messages of a chat, the last one of a role.

    Args:
        role: "user" or "assistant".
        cell: A text, or a list of {"role", "content"}, in Python or as JSON. The content is a text, or a list of parts,
            of which those with "text" count.
        name: The column, for messages.

    Raises:
        InputError: the cell holds something else, or no message of this role.
    """
    if isinstance(cell, str) and _MESSAGES.match(cell):
        with suppress(InputError):  # a text may begin so
            cell = as_json(cell, name)
    if not isinstance(cell, list | tuple) or not all(isinstance(it, Mapping) and "role" in it for it in cell):
        return text_of(cell, name)
    contents = [it.get("content") for it in cell if it["role"] == role]
    if not contents:
        raise InputError(f"{name}: none of the {len(cell)} messages is of the role {role}")
    content = contents[-1]
    if isinstance(content, list | tuple):
        content = "".join(text_of(it.get("text"), name) for it in content if isinstance(it, Mapping))
    return text_of(content, name)


def as_json(cell: Any, name: str) -> Any:
    """The value of a cell: of a text that begins like JSON, what it says.

    Raises:
        InputError: it begins so, and is not JSON, or a text in it holds a lone surrogate.
    """
    if isinstance(cell, str) and cell.strip()[:1] in ("[", "{"):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{name}: begins like JSON and is not: {error}") from None
    if isinstance(cell, Mapping | list | tuple):
        try:
            json.dumps(cell, ensure_ascii=False, default=repr).encode()
        except (UnicodeEncodeError, TypeError, ValueError, RecursionError) as error:
            raise InputError(f"{name}: {error}") from None
    return cell


def read_ads(cell: Any, response: str, finder: AdFinder, known: dict[str, Ad]) -> list[Given]:
    """The ads of a cell: ids, titles or addresses with | between them, a JSON list of these, of [start, end, ad], or of
    objects. Without a catalog, a title that no row has described is a new ad.

    Args:
        cell: The cell.
        response: The answer.
        finder: The ads of the catalog, and those that earlier cells described; new ones are added.
        known: The ads of the catalog, by id. Those that a cell describes must not contradict them.

    Raises:
        InputError: an ad that is not known, or an entry of another form.
    """
    cell = as_json(cell, "ads")
    if isinstance(cell, Mapping):
        cell = [cell]
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return []
    if isinstance(cell, str | int | float):
        text = text_of(cell, "ads")
        cell = [part for part in text.split("|") if part.strip()]
    if not isinstance(cell, Sequence):
        raise InputError(f"ads: expected ids with | between them or a JSON list, got {cell!r:.80}")
    return [_read_ad(entry, response, finder, known) for entry in cell]


def _read_ad(entry: Any, response: str, finder: AdFinder, known: dict[str, Ad]) -> Given:
    if isinstance(entry, Sequence) and not isinstance(entry, str):
        if len(entry) != 3:
            raise InputError(f"ads: expected [start, end, ad], got {entry!r:.80}")
        entry = {"start": entry[0], "end": entry[1], "id": entry[2]}
    if not isinstance(entry, Mapping):
        return Given(_described({"title": text_of(entry, "ads").strip()}, finder, known))
    fields: dict[str, Any] = {}
    for name, value in entry.items():
        if name not in _KNOWN_KEYS:
            raise InputError(f"ads: unknown key {name!r:.60}: known are {', '.join(_AD_KEYS)}")
        if value is not None and value != "":
            fields[_KNOWN_KEYS[name]] = value
    money = {name: amount(fields[name], name) for name in MONEY if name in fields}
    ad = _described({name: fields[name] for name in _OF_THE_AD if name in fields}, finder, known)
    return Given(ad, _span(fields, response), **money)


def _described(fields: dict[str, Any], finder: AdFinder, known: dict[str, Ad]) -> Ad:
    if not fields.keys() & {"id", "title"}:
        raise InputError("ads: an entry has neither id nor title")
    fields = {name: as_text(value) for name, value in fields.items()}
    ad = finder.ads.get(fields["id"]) if isinstance(fields.get("id"), str) else None
    if "title" not in fields:
        if ad is not None:
            return ad
        fields["title"] = text_of(fields.pop("id"), "ads").strip()
    if ad is None and "id" not in fields:
        if fields.keys() == {"title"} and (known or finder.knows(text_of(fields["title"], "ads"))):
            return finder.named(text_of(fields["title"], "ads"))
        fields["id"] = f"ad-{keyed_int(*(str(fields.get(name, '')) for name in _OF_THE_AD)):032x}"[:15]
        ad = finder.ads.get(fields["id"])
    made = to_record(Row("ads", {}), Ad, {"advertiser": fields["title"], **fields})
    if character := hidden_in_name(made.title) or hidden_in_text(made.body):
        raise InputError(f"ads: ad {made.id} contains {character}, which nobody sees: remove it")
    if ad is None:
        finder.add(made)
        return made
    different = [name for name in fields if getattr(ad, name) != getattr(made, name)]
    if different:
        whose = "the catalog" if ad.id in known else "a row before"
        was = getattr(ad, different[0])
        raise InputError(
            f"ads: the {different[0]} of ad {ad.id} is {fields[different[0]]!r:.60}, in {whose} it is {was!r:.60}"
        )
    return ad


def _span(fields: Mapping[str, Any], response: str) -> tuple[int, int] | None:
    ends = fields.get("span", [fields.get("start"), fields.get("end")])
    if not isinstance(ends, Sequence) or len(ends) != 2:
        raise InputError(f"ads: span: expected [start, end], got {ends!r:.60}")
    if ends[0] is None and ends[1] is None:
        return None
    start, end = (_offset(it) for it in ends)
    if "text" in fields and response[max(0, start) : end] != fields["text"]:
        raise InputError(
            f"ads: the characters {start} to {end} of the response are {response[max(0, start) : end]!r:.60}, not "
            f"{fields['text']!r:.60}",
            hint="offsets count Unicode characters, from 0",
        )
    return start, end


def _offset(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"ads: start and end must be whole numbers, got {value!r:.60}")
    return value


def amount(value: Any, name: str) -> float:
    """A sum of money: finite, at least 0.

    Raises:
        InputError: something else.
    """
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 <= number < math.inf:
        comma = isinstance(value, str) and re.fullmatch(r"\s*\d+,\d+\s*", value)
        hint = f": write {value.strip().replace(',', '.')}, with a decimal point" if comma else ""
        raise InputError(f"{name}: expected a finite number of at least 0, got {value!r:.60}{hint}")
    return number


def read_amounts(cell: Any, name: str) -> Amounts:
    """The amounts of a cell: a number for every ad, a JSON object by ad id, or as many numbers as ads, in a JSON list
    or with | between them.

    Raises:
        InputError: something else.
    """
    cell = as_json(cell, name)
    if cell is None or (isinstance(cell, str) and not cell.strip()):
        return Amounts()
    if isinstance(cell, Mapping):
        return Amounts(by_id={str(key): amount(value, name) for key, value in cell.items()})
    if isinstance(cell, str) and "|" in cell:
        cell = cell.split("|")
    if isinstance(cell, Sequence) and not isinstance(cell, str):
        return Amounts(in_order=[None if it in (None, "") else amount(it, name) for it in cell])
    return Amounts(each=amount(cell, name))


def read_persona(cell: Any, personas: Mapping[str, Persona]) -> Persona | None:
    """The user of a cell: a persona's id, a description in words, or an object with the fields of a persona. None if
    the cell is empty.

    Raises:
        InputError: one word that is no id, or fields that are no persona.
    """
    cell = as_json(cell, "persona")
    if isinstance(cell, Mapping):
        fields = {key: value for key, value in cell.items() if value is not None}
        if "id" not in fields:
            fields["id"] = f"described-{keyed_int(json.dumps(fields, sort_keys=True, default=str)):032x}"[:22]
        return to_record(Row("persona", {}), Persona, fields)
    text = text_of(cell, "persona").strip()
    if not text:
        return None
    if text in personas:
        return personas[text]
    if len(text.split()) < 2:
        known = ", ".join(list(personas)[:3])
        raise InputError(
            f"persona: {text!r:.60} is none of the {len(personas)} personas: expected an id such as {known}, or a "
            "description of several words"
        )
    return to_record(Row("persona", {}), Persona, {"id": f"described-{keyed_int(text):032x}"[:22], "info": text})
