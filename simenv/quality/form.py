"""Whether a text has the form of an answer: it does not only repeat the question, refuse, repeat itself, or break off.

Repetition and a missing end are read from the words. A refusal is told by `simenv.refusals`, and by similarity to the
examples of `refusals.txt`, so one in other words, or in another language than English, may pass.
"""

from __future__ import annotations

import re

from simenv.records import Record
from simenv.writer.claims import content_words
from simenv.writer.guards import loops

_WHOLE = re.compile(r"[.!?…。！？][\"'”’)\]*_]*\s*\Z")
_ITEM = re.compile(r"\s*(?:[-*•]|\d+[.)])\s")


class FormWorth(Record):
    """Worth of an answer of each form, relative to a plain one. The order is what counts; the numbers are chosen."""

    echo: float = 0.0
    """It only repeats the question."""
    refusal: float = 0.25
    """It declines to answer."""
    loop: float = 0.5
    """It repeats its own words."""
    cut: float = 0.8
    """It breaks off in a sentence."""


def form(text: str, query: str, refuses: bool, worth: FormWorth) -> float:
    """The worth of a text as an answer by its form alone, in [0, 1]; 1 for a plain one, and for an empty one.

    Args:
        text: An answer without its ads and without mark-up.
        query: The question.
        refuses: Whether most of it declines to answer.
        worth: The worth of each fault. Of several, the worst counts.
    """
    found = [1.0]
    if repeats_question(text, query):
        found.append(worth.echo)
    if refuses:
        found.append(worth.refusal)
    if loops(text):
        found.append(worth.loop)
    if breaks_off(text):
        found.append(worth.cut)
    return min(found)


def repeats_question(text: str, query: str) -> bool:
    """Whether a text has most of the question's content words, and hardly any of its own."""
    said, asked = content_words(text), content_words(query)
    if not said or not asked:
        return bool(text.strip()) and text.strip(" .!?").lower() == query.strip(" .!?").lower()
    return len(said & asked) >= 0.6 * len(asked) and len(said - asked) <= 0.2 * len(said)


def breaks_off(text: str) -> bool:
    """Whether a text ends within a sentence. An item at the end of a list needs no full stop."""
    last = text.strip().rpartition("\n")[2]
    return bool(last) and not _WHOLE.search(last) and not _ITEM.match(last)
