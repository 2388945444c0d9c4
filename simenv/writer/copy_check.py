"""Whether a sentence about an ad says only what the advertiser's own copy says.

The check compares words; it does not understand them. In the part of a sentence after the ad's link

- every number, with its currency or percent sign, must be in the copy;
- every capitalised word must be in the copy;
- nothing may be denied that the copy does not deny, and nothing asserted that the copy denies.

Before the link, names and numbers of the user's question are allowed too ("For two days in Lisbon, @Harbour Inn@[A1]
...").  A small model invents in lower case too ("a car rental service"). Of its sentences every content word must be in
the copy, and there must be one; words are the same if they begin alike ("cleaned", "cleaning").

What the check does not see: words of the copy in a combination that the copy does not have ("a $98 hotel", of a ski
hire at $98 whose skis wait at the hotel), and, for a capable model, claims without a name and a number ("the best").
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from simenv import markup
from simenv.llm.scripted import is_filler
from simenv.records import Ad
from simenv.text import first_end, sentence_around, sentences
from simenv.writer.claims import content_words, proper_nouns

_AMOUNT = re.compile(r"[$€£]?\d+(?:[.,]\d+)*(?: ?%)?")
_JOINED = re.compile(r"['’&-]")
_BEGINNING = 5
"""Words of at least this many letters are the same if they begin alike."""
_DENIED = re.compile(r"\b(?:no|not|never|without|cannot|\w+n['’]t)\s+(?:an?\s+|any\s+|the\s+)?([a-z]+)", re.IGNORECASE)


@lru_cache(maxsize=4096)  # audits check the same sentences at every bid
def keeps_to_copy(sentence: str, ad: Ad, *, query: str = "", every_word: bool = False) -> bool:
    """Whether a sentence that links an ad says only what the ad's copy says.

    Args:
        sentence: One sentence with the ad's link.
        ad: The ad; its copy is title, advertiser, body and category.
        query: The user's question, whose names and numbers may stand before the link.
        every_word: Check all content words after the link, as for small models, and not only names and numbers.
    """
    before, _, after = sentence.partition(ad.link)
    if is_filler(after.lstrip(" ,:")):
        return True
    if unsupported(after, ad, every_word=every_word) or (every_word and not content_words(after)):
        return False
    copy = f"{_copy(ad)} {query}"
    names = {noun for noun in proper_nouns(before) if _stem(noun) not in _stems(copy)}
    return not names and set(_AMOUNT.findall(before)) <= set(_AMOUNT.findall(copy))


def unsupported(text: str, ad: Ad, *, every_word: bool = False) -> set[str]:
    """The claims about an ad that are not in its copy; lower case.

    Args:
        text: The part of the ad's sentence after its link.
        ad: The ad.
        every_word: Whether all content words are claims, or names, numbers and denials alone.
    """
    copy = _copy(ad)
    known = _stems(copy)
    claims = content_words(text)
    new = set(_AMOUNT.findall(text)) - set(_AMOUNT.findall(copy))
    # After a comma, so that the first word counts too: it does not start a sentence.
    names = proper_nouns(f", {text.lstrip(' ,.:;')}") & claims
    new |= {word for word in (claims if every_word else names) if not _is_known(word, known)}
    denied, denied_by_copy = denials(text), denials(copy)
    return new | (denied - denied_by_copy) | (set() if denied else denied_by_copy & claims)


def denials(text: str) -> set[str]:
    """The words that a text denies ("no app", "does not leak"): in lower case."""
    return {word.lower() for word in _DENIED.findall(text)}


def own_words(ad: Ad) -> str:
    """The first sentence of the advertiser's copy, without mark-up; without a copy, the advertiser's name."""
    return _own_words(ad.body, ad.advertiser)


@lru_cache(10_000)
def _own_words(body: str, advertiser: str) -> str:
    first = next(iter(sentences(markup.strip_markup(body))), advertiser)
    return first if first.endswith((".", "!", "?")) else f"{first}."


def in_own_words(response: str, ad: Ad) -> bool:
    """Whether an answer advertises an ad in the advertiser's own words: `own_words`, or the beginning of it.

    What follows the link to the end of its sentence is compared, so this can be told from any text, also of old logs.
    """
    _, link, after = response.partition(ad.link)
    if not link:
        return False
    masked = after.replace(link, "-" * len(link))  # no sentence ends within a link
    said = after[: first_end(masked)].strip(" :.!?")
    return bool(said) and own_words(ad).startswith(said)


def sentence_of(response: str, ad: Ad) -> tuple[int, int]:
    """Where the sentence with an ad's link is: half-open offsets. The response must have the link."""
    start = response.index(ad.link)
    masked = response.replace(ad.link, "-" * len(ad.link))  # no sentence ends within a link
    return sentence_around(masked, (start, start + len(ad.link)))


def _copy(ad: Ad) -> str:
    return f"{ad.title}. {ad.advertiser}. {ad.body} {ad.category}"


@lru_cache(maxsize=4096)
def _stems(text: str) -> frozenset[str]:
    words = content_words(text)
    return frozenset(_stem(part) for word in words for part in (word, *_JOINED.split(word)))


def _is_known(word: str, known: Collection[str]) -> bool:
    """Whether a word, or each part of a compound, is in the copy."""
    return _stem(word) in known or all(_stem(p) in known or len(p) < 2 or not content_words(p) for p in word.split("-"))


def _stem(word: str) -> str:
    return word[:_BEGINNING] if len(word) > _BEGINNING else word.removesuffix("s")
