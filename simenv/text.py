"""Where the sentences of a text begin and end, and how text from outside is shown.

One rule serves almost all: a sentence ends after `.`, `!` or `?`, or a run of them, before white space or the end of
the text; a line break ends one too. So "1.5" and "simenv.org" end none. `clause_spans` is the one exception.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_END = re.compile(r"(?<![.!?])[.!?]++(?=\s|$)|\n")  # a run is tried once, as a whole: linear in the text's length
_CLAUSE = re.compile(r"[^.!?\n]+")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
"""Invisible, but parts of words and emoji; they move no cursor and turn no direction."""


@lru_cache(maxsize=1024)  # an answer is cut into sentences for each of its ads, and for each measure
def sentence_ends(text: str) -> tuple[int, ...]:
    """Where sentences and lines end: offsets of what comes after, ascending."""
    return tuple(match.end() for match in _END.finditer(text))


def first_end(text: str) -> int:
    """Where the first sentence or line ends: the first of `sentence_ends`, or the end of the text."""
    match = _END.search(text)
    return len(text) if match is None else match.end()


def stops(text: str) -> list[int]:
    """The sentence ends that are not line breaks, but for one right at the beginning, which ends no sentence."""
    return [end for end in sentence_ends(text) if end > 1 and text[end - 1] != "\n"]


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """The text cut at its sentence ends: half-open offsets that cover all of it. Some may be empty or blank."""
    ends = sentence_ends(text)
    return list(zip([0, *ends], [*ends, len(text)], strict=True))


def sentences(text: str) -> list[str]:
    """The sentences of a text, without white space around them and without blank ones."""
    pieces = [text[start:stop].strip() for start, stop in sentence_spans(text)]
    return [piece for piece in pieces if piece]


def sentences_with_space(text: str) -> list[str]:
    """The sentences of a text with their white space, so that they join to the text again.

    Line breaks stay with the sentence before them.
    """
    cuts = [end for end in sentence_ends(text) if text[end : end + 1] != "\n"]
    return [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True) if start < stop]


def sentence_around(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Where the sentence that contains `span` begins and ends: half-open offsets."""
    ends = sentence_ends(text)
    start = max((end for end in ends if end <= span[0]), default=0)
    return start, min((end for end in ends if end >= span[1]), default=len(text))


def clause_spans(text: str) -> list[tuple[int, int]]:
    """What stands between any `.`, `!`, `?` or line break, with or without white space after it: half-open offsets.

    For the search for leaks in model output: their offsets are logged as violations, so this cut must not change, and
    a sentence whose space a model forgot must not carry its words over to the next one.
    """
    return [match.span() for match in _CLAUSE.finditer(text)]


def printable(text: str, *, keep: str = "\n\t") -> str:
    """Text that a terminal shows and does not obey: control characters and direction marks become escapes (`\\x1b`).

    Args:
        text: Text from outside.
        keep: Control characters that stay.
    """
    if text.isascii() and text.isprintable():
        return text
    hidden = {ord(c): escaped(c) for c in set(text) if not _is_shown(c) and c not in keep}
    return text.translate(hidden) if hidden else text


def escaped(character: str) -> str:
    """The character as Python writes it in ASCII, such as `\\x1b` or `\\u202e`."""
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def _is_shown(character: str) -> bool:
    return character in _JOINERS or unicodedata.category(character) not in _HIDDEN
