"""Checkable claims of an ad sentence: its numbers, prices and proper nouns.

A claim counts as supported if it occurs in the advertiser's texts (name, title, body, category), in the user's query
or elsewhere in the answer. This tests the origin of a claim, not its truth: a number may come from the ad's body and
still describe the wrong thing, and a claim without numbers or names ("the best of all") is not checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_][^\W_]*(?:['’&-][^\W_]+)*")
_SENTENCE_START = re.compile(r"(?:\A|[.!?:;\n]\s|[\"“(])\s*\Z")
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        "zero one two three four five six seven eight nine ten eleven twelve".split()  # noqa: SIM905 (reads as a list)
    )
} | {"twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "sixty": "60", "hundred": "100"}
_EMPTY_WORDS = """
    a an the and or but nor of in on at by for from with without to into onto as is are was were be been being am it its
    that this these those there here they them their theirs you your yours we our us i me my he him his she her hers one
    ones who whom whose which what when where while how so than then too also just very may might can could will would
    shall should must do does did done has have had having not no never if any all some each every both more most much
    many few other another such same up out over off about after before between through during under only own well now
    option worth look consider help helps try see find like get gets want need take offer offers offering offered
    provide provides providing include includes including included feature features featuring come comes make makes
    making made use uses used using available called known way ways thing things kind range choice
"""
"""Words that claim nothing by themselves: function words, and what recommends or presents."""
_EMPTY = frozenset(_EMPTY_WORDS.split())
_PRONOUNS = frozenset({"i", "i'm", "i'd", "i'll", "i've"})


def numbers(text: str) -> set[str]:
    """The numbers written in digits, without thousands separators: "1,150.00" is "1150", "4.10" is "4.1"."""
    return {_plain(match.group()) for match in _NUMBER.finditer(text)}


@lru_cache(maxsize=4096)
def proper_nouns(text: str) -> frozenset[str]:
    """Capitalised words that do not start a sentence, and all-capital words anywhere; returned in lower case."""
    nouns = set()
    for match in _WORD.finditer(text):
        word = match.group()
        capitals = len(word) > 1 and word.isupper()
        inside = word[0].isupper() and not _SENTENCE_START.search(text[: match.start()])
        if (capitals or inside) and word.lower().replace("’", "'") not in _PRONOUNS:
            nouns.add(word.lower())
    return frozenset(nouns)


@lru_cache(maxsize=4096)  # of ads and queries, and of answers that mechanisms share
def content_words(text: str) -> frozenset[str]:
    """The words that can be a claim, in lower case: all but numbers, function words and words that only recommend."""
    words = {match.group().lower().replace("’", "'").removesuffix("'s") for match in _WORD.finditer(text)}
    return frozenset(
        word for word in words if len(word) > 1 and word not in _EMPTY and not word.endswith(("n't", "'ll", "'re"))
    )


def unsupported(sentence: str, sources: Iterable[str]) -> tuple[set[str], int]:
    """Finds the claims of a sentence that occur in no source.

    Args:
        sentence: An ad sentence without its link.
        sources: Texts that claims may come from.

    Returns:
        The unsupported numbers and proper nouns, and the count of all numbers and proper nouns of the sentence.
    """
    said, names = numbers(sentence), proper_nouns(sentence)
    if not said and not names:
        return set(), 0
    known = " ".join(sources)
    words = {match.group().lower() for match in _WORD.finditer(known)}
    words |= {part for word in words for part in re.split(r"['’&-]", word)}
    spelled_out = {_NUMBER_WORDS[word] for word in words if word in _NUMBER_WORDS}
    new_numbers = said - numbers(known) - spelled_out
    new_names = {name for name in names if not {name, *re.split(r"['’&-]", name)} & words}
    return new_numbers | new_names, len(said) + len(names)


def _plain(number: str) -> str:
    whole = re.sub(r",(?=\d{3}(?:\D|$))", "", number)
    digits, point, rest = whole.replace(",", ".").partition(".")
    rest = rest.rstrip("0") if point and "." not in rest else rest
    return f"{digits}.{rest}" if rest else digits
