"""Guards against what small models do wrong in any text: endless repetition, and an end in the middle of a word.

Repetition is measured on words without their digits too, so that a loop that counts ("1. Wait. 2. Wait.") is one.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from simenv.text import sentences, sentences_with_space, stops

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*|[$€£%]")
_DIGITS = re.compile(r"\d+")
_SIZE = 3
"""Length of the word sequences that are counted: shorter ones repeat in good texts too."""
_MOST_REPEATED = 0.2
"""A text loops if more than this share of its sequences are repetitions. Good answers of the query packs stay below
0.1."""
_SAME = 0.8
"""Two sentences are the same if they share this part of their words."""
_DANGLING = re.compile(
    r"(?:\s+(?:an?|the|and|or|of|to|with|for|in|on|at|by|from|as|is|are|which|that))+$", re.IGNORECASE
)
_CLAUSE = re.compile(r"[,;:](?=\s)")


@lru_cache(maxsize=4096)  # mechanisms share answers, and audits ask for the same ones at every bid
def loops(text: str) -> bool:
    """Whether a text repeats itself: the same words three times in a row, the same sentences, or the same sequences.

    A sentence or line may occur once more if its numbers differ, as in a list of sizes.
    """
    words = _words(text)
    if _stutters(words):
        return True
    lines = [line for line in map(_words, sentences(text)) if len(line) >= _SIZE]
    for i, line in enumerate(lines):
        similar = [other for other in lines[:i] if _same(_countless(line), _countless(other))]
        if len(similar) > 1 or any(_numbers(line) == _numbers(other) for other in similar):
            return True
    runs = Counter(zip(*(_countless(words)[start:] for start in range(_SIZE)), strict=False))
    runs = Counter({run: count for run, count in runs.items() if sum(map(str.isalpha, (w[0] for w in run))) > 1})
    repeated = sum(count - 1 for count in runs.values())
    return repeated > 1 and repeated > _MOST_REPEATED * runs.total()


def without_loops(text: str) -> str:
    """The sentences of a text up to the first that loops or that repeats an earlier one; empty if the first loops."""
    kept: list[str] = []
    for piece in sentences_with_space(text):
        if loops("".join([*kept, piece])):
            break
        kept.append(piece)
    return "".join(kept).strip()


def without_dangling(text: str) -> str:
    """The text without punctuation and words at its end that need something after them ("a model, and")."""
    return _DANGLING.sub("", text.rstrip(" ,;:-"))


@lru_cache(maxsize=4096)
def echoes(text: str, query: str) -> bool:
    """Whether a text only repeats the question."""
    words = _words(text)
    return bool(words) and _same(words, _words(query))


def alike(sentence: str, other: str) -> bool:
    """Whether two sentences have nearly the same words."""
    return _same(_words(sentence), _words(other))


def whole_sentences(text: str) -> str:
    """The text up to its last whole sentence or line; empty if it has none."""
    text = text.strip()
    end = max([*stops(text), text.rfind("\n"), 0])
    return text[:end].strip()


def whole_clauses(text: str) -> str:
    """What can be kept of a text without a whole sentence: its clauses before one that loops, else all whole words.

    The last clause may be cut in the middle of a word, so it goes; so do words that need another after them.
    """
    cuts = [match.start() for match in _CLAUSE.finditer(text)]
    kept = next((text[:cut] for cut in reversed(cuts) if not loops(text[:cut])), "") or text.rpartition(" ")[0]
    kept = without_dangling(kept)
    return f"{kept}." if re.search(r"\w", kept) and not loops(kept) else ""


def _words(text: str) -> list[str]:
    return [match.group().lower() for match in _WORD.finditer(text)]


def _countless(words: list[str]) -> list[str]:
    """The words with every number replaced by 0."""
    return [word if word.isalpha() else _DIGITS.sub("0", word) for word in words]


def _numbers(words: list[str]) -> list[str]:
    return [word for word in words if _DIGITS.search(word)]


def _stutters(words: list[str]) -> bool:
    """Whether one to eight words, not all of them numbers that differ, occur three times in a row."""
    bare = _countless(words)
    return any(
        bare[i] == bare[i + size]  # most often not: faster than the lists
        and bare[i : i + size] == bare[i + size : i + 2 * size] == bare[i + 2 * size : i + 3 * size]
        and (any(word.strip("0") for word in bare[i : i + size]) or len({*words[i : i + 3 * size]}) <= size)
        for size in range(1, 9)
        for i in range(len(words) - 3 * size + 1)
    )


def _same(line: list[str], other: list[str]) -> bool:
    """Whether two sentences have nearly the same words."""
    shared = (Counter(line) & Counter(other)).total()
    return shared >= _SAME * max(len(line), len(other))
