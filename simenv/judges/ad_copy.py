"""Text features of ads and answers: the offer without its brand, amounts of money, capitals."""

from __future__ import annotations

import math
import re
from functools import lru_cache

from simenv import markup
from simenv.links import masked_links
from simenv.records import Ad
from simenv.text import sentence_around

_EXCLAMATION = re.compile("!")
_SHOUT = re.compile(r"\b[A-Z]{4,}\b")
"""A word of four or more capitals. Most acronyms are shorter."""
_REFERENCE_AMOUNT = 30.0
"""Currency. A larger amount counts as expensive, a smaller one as cheap."""
_PER = "month|day|week|year|portion|person|night|lesson|session|piece|pack|bag|visit|hour|head|class|box"
_AMOUNT = re.compile(
    r"(?:(?P<sign>[$€£])\s?)?(?P<number>\d{1,3}(?:,\d{3})+|\d+(?:\.\d{1,2})?)"
    rf"(?P<unit>\s?(?:[$€£]|(?:euros?|dollars?|pounds?|cents?|(?:an?|per) (?:{_PER}))\b))?"
)

# Words that readers understand as "this is an ad": Federal Trade Commission (2015), "Native advertising: a guide for
# businesses", which calls "promoted" and "partner" ambiguous. Words of the product's title do not count.
_DISCLOSED = re.compile(
    r"\b(?:ads?|adverts?|advertisements?|advertising|advertorial|sponsor(?:s|ed|ship)?"
    r"|paid (?:content|link|mention|partnership|placement|promotion))\b",
    re.IGNORECASE,
)


def offer_title(ad: Ad) -> str:
    """The title without the advertiser's name; the whole title if it is only that name."""
    return _of_ad(ad.title, ad.advertiser) or ad.title


def offer_body(ad: Ad) -> str:
    """The body without the advertiser's name; unchanged if that name is also the title."""
    return _of_ad(ad.body, ad.advertiser) if ad.advertiser != ad.title else ad.body


def offer(ad: Ad) -> str:
    """Title and body without the advertiser's name, so that two advertisers with the same offer get the same text."""
    body = offer_body(ad)
    return f"{offer_title(ad)}. {body}" if body else offer_title(ad)


def _remove_name(text: str, name: str) -> str:
    return " ".join(_name_of(name).sub(" ", text).split())


_of_ad = lru_cache(maxsize=8192)(_remove_name)
"""For the texts of ads, which are few beside those of answers."""


@lru_cache(maxsize=8192)  # catalogs have more advertisers than the module `re` remembers patterns
def _name_of(name: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(name)}\b(?:['’]s)?")


def words_around(sentence: str, ad: Ad) -> str:
    """The words of a sentence except the ad's link and the advertiser's name."""
    return _remove_name(markup.strip_markup(sentence.replace(ad.link, " ")), ad.advertiser).strip(" ,.;:-")


def pitch_around(response: str, span: tuple[int, int]) -> str:
    """Returns the sentence with the link and the one before it, unless that one has its own link.

    The sentence before is included because sales talk often precedes the link.
    """
    start, end = sentence_around(response, span)
    before = sentence_around(response, (max(0, start - 1),) * 2)[0] if start else 0
    return response[start if markup.LINK.search(response[before:start]) else before : end]


def praise_around(response: str, span: tuple[int, int]) -> str:
    """Returns the pitch of `pitch_around` and the sentence after it, unless that one has a link of its own."""
    pitch, (_, end) = pitch_around(response, span), sentence_around(response, span)
    after = response[end:].lstrip()
    if not after:
        return pitch
    start = len(response) - len(after)
    following = response[start : sentence_around(response, (start, start + 1))[1]]
    return pitch if markup.LINK.search(following) else f"{pitch} {following}"


def is_labelled(response: str, span: tuple[int, int]) -> bool:
    """Whether the sentence with the link at `span`, or the line or sentence before it, says that it is an ad."""
    masked = masked_links(response)
    start, stop = sentence_around(masked, (span[0], span[0] + 1))
    before = sentence_around(masked, (start - 1, start))[0] if start else start
    return _DISCLOSED.search(markup.LINK.sub(" ", response[before:stop])) is not None


def typographic_pressure(pitch: str) -> int:
    """Counts which of two signs occur: exclamation marks and words in capitals. 0, 1 or 2."""
    return sum(bool(kind.search(pitch)) for kind in (_EXCLAMATION, _SHOUT))


@lru_cache(maxsize=8192)
def log_amount(text: str) -> float:
    """Returns log10(largest amount of money in the text / 30), or 0 if the text names no amount."""
    amounts = [float(m["number"].replace(",", "")) for m in _AMOUNT.finditer(text) if m["sign"] or m["unit"]]
    return math.log10(max(amounts) / _REFERENCE_AMOUNT) if amounts and max(amounts) > 0 else 0.0
