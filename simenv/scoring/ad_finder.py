"""Finds the ads of a catalog: by id, by name, by the target of a link, and by their names in a text."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from simenv.errors import InputError
from simenv.files.characters import as_seen
from simenv.records import Ad
from simenv.scoring.plain_text import Plain, plain, plain_name

_ALONE = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, Kana, Han and Hangul: scripts without spaces around each word, whose characters count as
words."""
_WORD = re.compile(rf"[{_ALONE}]|[^\W{_ALONE}]+")
_JOINED = re.compile(rf"[^\W{_ALONE}]")
_MOST_SHOWN = 3


class Place(NamedTuple):
    """An ad in a text: half-open character offsets of what stands for it."""

    start: int
    end: int
    ad: Ad


class _Name(NamedTuple):
    """A name of ads in the form for comparison."""

    text: str
    is_title: bool
    """Of a title; else of an advertiser."""
    as_written: str | None
    """How a name of one word is written: it counts in this spelling alone, because it may be a word of the language."""


class AdFinder:
    """The ads that answers may show.

    Args:
        ads: The ads, each id once.
    """

    def __init__(self, ads: Iterable[Ad] = ()) -> None:
        self.ads: dict[str, Ad] = {}
        self._names: dict[_Name, list[Ad]] = {}
        self._by_first_word: dict[str, list[_Name]] = {}
        self._targets: dict[str, list[Ad]] = {}
        for ad in ads:
            self.add(ad)

    def add(self, ad: Ad) -> None:
        """Adds one ad."""
        self.ads[ad.id] = ad
        self._add_name(ad.title, ad, True)
        if plain_name(ad.advertiser) != plain_name(ad.title):
            self._add_name(ad.advertiser, ad, False)
        for target in dict.fromkeys(_targets(ad.url)):
            self._targets.setdefault(target, []).append(ad)

    def _add_name(self, text: str, ad: Ad, is_title: bool) -> None:
        folded = plain_name(text)
        words = _WORD.findall(folded)
        if not words:
            return
        name = _Name(folded, is_title, None if len(words) > 1 else _spelling(text))
        if name not in self._names:
            self._names[name] = []
            self._by_first_word.setdefault(words[0], []).append(name)
        self._names[name].append(ad)

    def knows(self, text: str) -> bool:
        """Whether a cell names an ad, or several."""
        return bool(self._named(text.strip()))

    def named(self, text: str) -> Ad:
        """The ad that a cell names: by id, title, target or advertiser, in this order.

        Raises:
            InputError: no ad of the catalog, or several.
        """
        return self._only(self._named(text.strip()), f"ad {text.strip()!r:.80}")

    def _named(self, text: str) -> list[Ad]:
        if (ad := self.ads.get(text)) is not None:
            return [ad]
        folded = plain_name(text)
        return self._called(folded, True) or self._at(text) or self._called(folded, False)

    def _called(self, folded: str, is_title: bool) -> list[Ad]:
        first = next(iter(_WORD.findall(folded)), "")
        names = [it for it in self._by_first_word.get(first, ()) if it.text == folded and it.is_title == is_title]
        return [ad for name in names for ad in self._names[name]]

    def linked(self, target: str, text: str) -> Ad | None:
        """The ad that a Markdown link leads to: by its target (id or address), else by its text (a title).

        Raises:
            InputError: several ads.
        """
        if (ad := self.ads.get(target)) is not None:
            return ad
        at = self._at(target)
        titled = self._called(plain_name(text), True)
        if len(at) > 1 and (both := [ad for ad in at if ad in titled]):
            at = both
        if at or titled:
            return self._only(at or titled, f"link {text!r:.80} to {target!r:.80}")
        return None

    def _at(self, target: str) -> list[Ad]:
        return next((ads for key in _targets(target) if (ads := self._targets.get(key))), [])

    def _only(self, found: list[Ad], what: str) -> Ad:
        if len(found) == 1:
            return found[0]
        if found:
            ids = ", ".join(ad.id for ad in found[:_MOST_SHOWN]) + (", ..." if len(found) > _MOST_SHOWN else "")
            raise InputError(f"{what} may be {len(found)} ads: {ids}", hint="name one by its id in the column of ads")
        known = ", ".join(list(self.ads)[:_MOST_SHOWN])
        raise InputError(f"{what} is not among the {len(self.ads)} ads: expected an id such as {known}, or a title")

    def in_text(self, text: str) -> list[Place]:
        """The ads whose title or advertiser is in a text, each where it is named first, in reading order.

        Whole words count, in any case and in any form of Unicode; a name of one word must be written as in the catalog.
        Of names that overlap the longest counts. An advertiser counts if its ad's title is not in the text.

        Raises:
            InputError: a name that several ads have.
        """
        comparable = plain(text)
        taken = bytearray(len(comparable.text))
        places: dict[str, Place] = {}
        matches = sorted(self._matches(comparable, text), key=lambda it: (-len(it[0].text), it[1], not it[0].is_title))
        for wanted in (True, False):
            for name, start, stop in matches:
                if name.is_title != wanted or any(taken[start:stop]):
                    continue
                taken[start:stop] = b"\1" * (stop - start)
                ads = self._names[name]
                if not name.is_title and any(ad.id in places for ad in ads):
                    continue
                ad = self._only(ads, f"the name {text[slice(*comparable.origin(start, stop))]!r:.80} in the text")
                place = Place(*comparable.origin(start, stop), ad)
                if ad.id not in places or place.start < places[ad.id].start:
                    places[ad.id] = place
        return sorted(places.values(), key=lambda place: place.start)

    def _matches(self, comparable: Plain, text: str) -> Iterator[tuple[_Name, int, int]]:
        folded = comparable.text
        for word in _WORD.finditer(folded):
            for name in self._by_first_word.get(word[0], ()):
                start = word.start() - name.text.index(word[0])
                stop = start + len(name.text)
                if start < 0 or not folded.startswith(name.text, start) or _inside_word(folded, start, stop):
                    continue
                written = text[slice(*comparable.origin(start, stop))]
                if name.as_written is None or _spelling(written) == name.as_written:
                    yield name, start, stop


def _spelling(text: str) -> str:
    return as_seen(unicodedata.normalize("NFKC", text))


def _inside_word(text: str, start: int, stop: int) -> bool:
    before, after = text[start - 1 : start] if start else "", text[stop : stop + 1]
    return _both_words(before, text[start]) or _both_words(text[stop - 1], after)


def _both_words(one: str, other: str) -> bool:
    return bool(_JOINED.match(one) and _JOINED.match(other))


def _targets(url: str) -> Iterator[str]:
    """The forms in which an address may be given: with its query, then without; no scheme, no www. and no last /."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return
    host = parts.netloc.lower().removeprefix("www.")
    if host:
        path = parts.path.rstrip("/")
        if parts.query:
            yield f"{host}{path}?{parts.query}"
        yield f"{host}{path}"
