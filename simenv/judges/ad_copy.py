"""What the click model reads in ads and answers: the offer without its brand, amounts, shouting."""

from __future__ import annotations

import math
import re

from simenv import markup
from simenv.records import Ad
from simenv.text import sentence_around

_EXCLAMATION = re.compile("!")
_SHOUT = re.compile(r"\b[A-Z]{4,}\b")
"""A word of four capitals or more: acronyms are mostly shorter."""
_MIDDLING_AMOUNT = 30.0
"""Currency: amounts above say dear, those below say cheap."""
_PER = "month|day|week|year|portion|person|night|lesson|session|piece|pack|bag|visit|hour|head|class|box"
_AMOUNT = re.compile(
    r"(?:(?P<sign>[$€£])\s?)?(?P<number>\d{1,3}(?:,\d{3})+|\d+(?:\.\d{1,2})?)"
    rf"(?P<unit>\s?(?:[$€£]|(?:euros?|dollars?|pounds?|cents?|(?:an?|per) (?:{_PER}))\b))?"
)


def offer_title(ad: Ad) -> str:
    """The title without the firm's name; the whole title where nothing else is in it."""
    rest = _without(ad.title, ad.advertiser)
    return rest or ad.title


def offer_body(ad: Ad) -> str:
    """The copy without the firm's name, as far as that is not all that names the ad."""
    return _without(ad.body, ad.advertiser) if ad.advertiser != ad.title else ad.body


def offer(ad: Ad) -> str:
    """Title and copy without the firm's name: what is offered, whoever offers it."""
    body = offer_body(ad)
    return f"{offer_title(ad)}. {body}" if body else offer_title(ad)


def _without(text: str, name: str) -> str:
    return " ".join(re.sub(rf"\b{re.escape(name)}\b(?:['’]s)?", " ", text).split())


def words_around(sentence: str, ad: Ad) -> str:
    """What a sentence says besides the ad's link and the firm's name."""
    return _without(markup.strip_markup(sentence.replace(ad.link, " ")), ad.advertiser).strip(" ,.;:-")


def pitch_around(response: str, span: tuple[int, int]) -> str:
    """The sentence with the link, and the one before it unless that has a link of its own: hype leads up to a link."""
    start, end = sentence_around(response, span)
    before = sentence_around(response, (max(0, start - 1),) * 2)[0] if start else 0
    return response[start if markup.LINK.search(response[before:start]) else before : end]


def typographic_pressure(pitch: str) -> int:
    """How many of two kinds there are: exclamation marks, shouted words. 0 to 2."""
    return sum(bool(kind.search(pitch)) for kind in (_EXCLAMATION, _SHOUT))


def log_amount(text: str) -> float:
    """How large the largest amount of money is that a text names: log10 of its multiple of 30; 0 if it names none."""
    amounts = [float(m["number"].replace(",", "")) for m in _AMOUNT.finditer(text) if m["sign"] or m["unit"]]
    return math.log10(max(amounts) / _MIDDLING_AMOUNT) if amounts and max(amounts) > 0 else 0.0
