"""Where labelled ads go in a finished answer, and what stands before each of them.

The points are the ends of the answer's paragraphs (blocks between blank lines). An answer of one paragraph has its
sentence ends as points instead. An ad is one line of its own, so that the answer's own text can be told from the ads.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from simenv import markup
from simenv.records import Ad, Auction
from simenv.text import sentences_with_space

_BLANK = re.compile(r"\n[^\S\n]*\n\s*")


class Points(NamedTuple):
    """An answer cut at its insertion points: after each piece, one ad may stand."""

    answer: str
    pieces: list[str]
    paragraphs: bool
    """Whether the pieces are paragraphs; otherwise they are sentences with the white space around them."""

    @property
    def passages(self) -> list[str]:
        """The text right before each point."""
        return [piece.strip() for piece in self.pieces]

    def insert(self, lines: Mapping[int, str]) -> str:
        """The answer with lines at points: index of a piece -> the line after it."""
        if not lines:
            return self.answer
        if self.paragraphs:
            blocks = [[piece, *([lines[j]] if j in lines else [])] for j, piece in enumerate(self.pieces)]
            return "\n\n".join(block for pair in blocks for block in pair)
        text = ""
        for j, piece in enumerate(self.pieces):
            text += piece.lstrip() if text.endswith("\n") else piece
            if j in lines:
                text = f"{text.rstrip()}\n{lines[j]}\n".lstrip()
        return text.rstrip()


def points(answer: str) -> Points:
    """The insertion points of an answer without ads; an empty answer has one."""
    paragraphs = [block for block in _BLANK.split(answer.strip()) if block]
    if len(paragraphs) > 1:
        return Points(answer, paragraphs, True)
    sentences = [piece for piece in sentences_with_space(answer.strip()) if piece.strip()]
    return Points(answer, sentences or [""], False)


def passage_before(response: str, offset: int) -> str:
    """The answer's own paragraph or sentence before an ad, as `Points.passages` has it.

    Args:
        response: An answer in which lines with links are ads.
        offset: Where the ad's link begins.
    """
    paragraphs = points(_own_text(response)).paragraphs
    before = _own_text(response[: response.rfind("\n", 0, offset) + 1])
    pieces = _BLANK.split(before.strip()) if paragraphs else sentences_with_space(before.strip())
    return pieces[-1].strip() if pieces else ""


def disclosed(ad: Ad, auction: Auction) -> str:
    """The ad as one labelled line in the advertiser's own words."""
    return f"Sponsored: {ad.link} {' '.join(markup.neutral(ad.body, auction).split())}".rstrip()


def _own_text(response: str) -> str:
    return "\n".join(line for line in response.split("\n") if not markup.LINK.search(line))
