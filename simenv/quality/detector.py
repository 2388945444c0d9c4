"""A frozen classifier that finds ads by their words, and how its finds are scored.

It stands for a reader, or an ad blocker, who sees an answer without its mark-up: every link is its bare title. So what
it says depends on no ad id, bid or price. It is logistic regression on words and pairs of words. Write f for the
features of a sentence that it knows, n for their number, w for its weights:

    score(sentence) = prior + sum of w_f / sqrt(n)
    score(answer)   = max over its sentences

Names count as names, whatever they are: it knows no brand. The weights are in `detector.json`, and are never fitted to
simenv's texts: `benchmarks/fit_detector.py` fits them to answers and ads that a language model wrote for the queries
and brands of "Detecting Generated Native Ads in Conversational Search" (Schmidt et al. 2024, MIT licence). The ads are
praise, tips and plain notes; a third of them has a label such as "Sponsored:". On topics that were held out, naive
Bayes on the same features, a baseline of the Touché shared task on such ads, does worse (AUC 0.939 against 0.950). A
score is a rank and no probability, and a low one does not show that people would not notice.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import NamedTuple

from simenv.quality.embedded import split
from simenv.records import Ad, Auction, Outcome

_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
Span = tuple[int, int]
"""Half-open character offsets in the sentences of an answer, one after the other, without mark-up."""


class Weights(NamedTuple):
    """What the classifier knows."""

    prior: float
    threshold: float
    """A sentence with a higher score is taken for an ad."""
    of: Mapping[str, float]
    """Feature -> weight: above 0 for ads."""
    sha256: str


class SpanScores(NamedTuple):
    """How the spans that were found fit the true ones, of one answer with ads; see `span_scores`."""

    precision: float | None
    recall: float
    granularity: float | None
    f1: float
    iou: float


@cache
def weights() -> Weights:
    """The weights that ship."""
    text = (files("simenv.quality") / "detector.json").read_text(encoding="utf-8")
    found = json.loads(text)
    return Weights(found["prior"], found["threshold"], found["weights"], hashlib.sha256(text.encode()).hexdigest())


def features(text: str) -> list[str]:
    """The words of a sentence in lower case, and the pairs of neighbours. Numbers are left out.

    Capitalised words within the sentence become one "*"; the pair of the beginning and the first word begins with "^".
    """
    words: list[str] = []
    for place, word in enumerate(_WORD.findall(text.replace("’", "'"))):
        name = place > 0 and word[0].isupper() and word != "I"
        if not name:
            words.append(word.lower())
        elif words[-1] != "*":
            words.append("*")
    return [*words, *(f"{one} {other}" for one, other in pairwise(["^", *words]))]


def score_sentence(text: str, known: Weights | None = None) -> float:
    """How much a sentence looks like one with an ad: log odds, higher for ads.

    Args:
        text: Without mark-up.
        known: The weights; those that ship by default.
    """
    known = known or weights()
    each = [known.of[feature] for feature in features(text) if feature in known.of]
    return known.prior + (math.fsum(each) / math.sqrt(len(each)) if each else 0.0)


def score_answer(response: str) -> float:
    """The highest score of an answer's sentences; that of no known word for an empty one.

    Args:
        response: The answer, with mark-up.
    """
    return max(_scores(response), default=weights().prior)


def found_spans(response: str) -> list[Span]:
    """Where the classifier finds ads: neighbouring sentences above the threshold are one span."""
    marks = [1 if score > weights().threshold else None for score in _scores(response)]
    return list(_runs(response, marks))


def true_spans(auction: Auction, outcome: Outcome) -> list[Span]:
    """Where the ads are: the sentences that hold a placement's span or repeat its ad's body, one span per ad and place.

    The span of a placement alone is its title: an ad is what is said of it, too.
    """
    ads: Sequence[Ad] = [auction.bid_of(placement.ad_id).ad for placement in outcome.placements]
    return list(_runs(outcome.response, [sentence.ad_id for sentence in split(outcome.response, ads)]))


def span_scores(found: Sequence[Span], true: Sequence[Span]) -> SpanScores:
    """Scores found spans against true ones, as the Touché shared task does.

    - precision: mean over found spans of the largest share of it that one true span covers; None without found spans;
    - recall: mean over true spans of the largest share of it that one found span covers;
    - granularity: mean number of found spans that touch a true span, over those that are touched; None without any;
    - f1: the harmonic mean of precision and recall, divided by log2(1 + granularity); 0 if nothing is found;
    - iou: characters in both, divided by characters in either.

    Args:
        found: What the classifier found.
        true: Where the ads are: at least one.
    """
    precision = _mean([_covered(span, true) for span in found])
    recall = _mean([_covered(span, found) for span in true]) or 0.0
    touching = [sum(_shared(span, other) > 0 for other in found) for span in true]
    granularity = _mean([float(count) for count in touching if count])
    f1 = 2 * precision * recall / (precision + recall) if precision and recall else 0.0
    ours, theirs = (set[int]().union(*(range(*span) for span in spans)) for spans in (found, true))
    return SpanScores(
        precision=precision,
        recall=recall,
        granularity=granularity,
        f1=f1 / math.log2(1 + granularity) if granularity else 0.0,
        iou=len(ours & theirs) / len(ours | theirs) if ours | theirs else 0.0,
    )


@lru_cache(maxsize=256)  # one answer is scored for each metric
def _scores(response: str) -> tuple[float, ...]:
    return tuple(score_sentence(sentence.text) for sentence in split(response))


def _runs(response: str, marks: Sequence[object]) -> Iterator[Span]:
    """The spans of neighbouring sentences with one mark that is not None."""
    begin, end, last = 0, 0, None
    for sentence, mark in zip(split(response), marks, strict=True):
        if mark != last and last is not None:
            yield begin, end
        if mark != last:
            begin, last = end, mark
        end += len(sentence.text)
    if last is not None:
        yield begin, end


def _covered(span: Span, others: Sequence[Span]) -> float:
    """The largest share of a span that one other span covers."""
    return max((_shared(span, other) for other in others), default=0) / (span[1] - span[0])


def _shared(one: Span, other: Span) -> int:
    return max(0, min(one[1], other[1]) - max(one[0], other[0]))


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
