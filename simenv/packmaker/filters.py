"""Filters for unsuitable texts. Each filter returns the reason for rejecting a text, or None."""

from __future__ import annotations

import re
import unicodedata

MARKUP = frozenset("@[]{}<>|\\`#*~")
"""Characters of this project's mark-up, of Markdown and HTML, and the list separator in .csv files."""
_PLACEHOLDER = re.compile(
    r"lorem ipsum|language model|as an ai\b|\b(xyz|acme|todo|tbd|placeholder|john doe|jane doe|persona)\b"
    r"|\bexample\.(com|org|net)\b|https?:|www\.|insert \w+ here|\byour name\b",
    re.IGNORECASE,
)
_ADS = re.compile(r"\b(ads?|advert\w*|sponsor\w*|pop-?ups?|affiliates?)\b", re.IGNORECASE)
_COMMERCE = re.compile(
    r"[$€£¥]|\b(buy\w*|bought|purchas\w*|pric(es?|ed|ey|ing)|cheap\w*|afford\w*|discount\w*|brands?|shop(s|ping)?"
    r"|(a|the|which|any|in|online|app) stores?|(good|best|better) deals?|rent(al|als|ing)?|subscri\w*|hire"
    r"|order(ing)? (online|a|an|some|from)|recommend\w*|budget|costs?|for sale)\b",
    re.IGNORECASE,
)


def bad_text(text: str, least: int, most: int) -> str | None:
    """Returns "markup", "length" (number of words not in [least, most]) or "banned"; None if the text passes."""
    if set(text) & MARKUP or any(unicodedata.category(character) in ("Cc", "Cs", "Co") for character in text):
        return "markup"
    if not least <= len(text.split()) <= most or len(text) > 12 * most or text != text.strip():
        return "length"
    return "banned" if _PLACEHOLDER.search(text) else None


def bad_query(text: str) -> str | None:
    """As `bad_text`, and "mentions-ads": models answer a question about ads differently from others."""
    return bad_text(text, 3, 40) or ("mentions-ads" if _ADS.search(text) else None)


def commercial(text: str) -> bool:
    """Whether the words of a question show that the user intends to spend money."""
    return bool(_COMMERCE.search(text))
