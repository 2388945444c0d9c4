"""Text as it is compared with names: composed, without case, with single spaces, each character with its origin."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

_SAME = str.maketrans({"‘": "'", "’": "'", "ʼ": "'", "“": '"', "”": '"', "‐": "-", "‑": "-", "–": "-", "—": "-"})
_RUN = re.compile(r"\s+|\S+")
_JAMO = range(0x1160, 0x1200)
"""Vowels and final consonants of Korean: they join the character before them."""


class Plain(NamedTuple):
    """A text for comparison."""

    text: str
    """In Unicode's compatibility form (NFKC), without case and without characters that nobody sees. A run of white
    space is one space, or one line break if a blank line is in it."""
    starts: list[int]
    """Where each of its characters begins in the original."""
    ends: list[int]
    """Where each of its characters ends in the original."""

    def origin(self, start: int, stop: int) -> tuple[int, int]:
        """The span in the original of a span that is not empty."""
        return self.starts[start], self.ends[stop - 1]


def plain(text: str) -> Plain:
    """The text for comparison, with the origin of each character."""
    found: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    for run in _RUN.finditer(text):
        begin, end = run.span()
        piece = run[0]
        if piece[0].isspace():
            found.append("\n" if piece.count("\n") > 1 else " ")
            starts.append(begin)
            ends.append(end)
        elif piece.isascii() and piece.isprintable():
            found.append(piece.lower())
            starts += range(begin, end)
            ends += range(begin + 1, end + 1)
        else:
            while begin < end:
                stop = begin + 1
                while stop < end and _joins(text[stop]):
                    stop += 1
                folded = _folded(text[begin:stop])
                found.append(folded)
                starts += [begin] * len(folded)
                ends += [stop] * len(folded)
                begin = stop
    return Plain("".join(found), starts, ends)


def plain_name(text: str) -> str:
    """A name as `plain` has it, without white space around it."""
    return plain(text).text.strip()


def _joins(character: str) -> bool:
    return not character.isascii() and (unicodedata.combining(character) > 0 or ord(character) in _JAMO)


def _folded(piece: str) -> str:
    if piece.isascii():
        return piece.lower() if piece.isprintable() else ""
    if unicodedata.category(piece[0]) in ("Cf", "Cc"):
        return ""
    return unicodedata.normalize("NFKC", piece).casefold().translate(_SAME)
