"""The frozen classifier of ads: what it must and must not see, and the scores of spans."""

from __future__ import annotations

import math

import pytest

from simenv import outcome
from simenv.quality.detector import (
    SpanScores,
    features,
    found_spans,
    score_answer,
    score_sentence,
    span_scores,
    true_spans,
    weights,
)
from simenv.records import Ad, Auction, Bid, Query
from simenv.testing import ADS

BOOTS, BANK = ADS[0], ADS[3]
PLAIN = "To choose boots, think about where you walk. There are several types, and it depends on the weather."


def auction_of(*ads: Ad, bid: float = 1.0) -> Auction:
    return Auction(id="a", query=Query(text="Which boots?"), bids=tuple(Bid(ad=ad, amount=bid) for ad in ads))


def test_the_weights_are_frozen() -> None:
    """Figures with other weights cannot be compared: whoever fits them again changes this, and says so."""
    assert weights().sha256 == "8faa35d68af2458b2c420c1e65da0a29258b82786d67edbf4d0ec0e5fa8affbc"


def test_features_know_no_name_and_no_number() -> None:
    assert features("Try Acme Super Boots from $80 today.") == [
        *("try", "*", "from", "today"),
        *("^ try", "try *", "* from", "from today"),
    ]
    assert features("42!") == []


def test_labels_and_praise_are_seen_and_advice_is_not() -> None:
    labelled = score_sentence("Sponsored: Acme Boots are a leading choice.")
    assert labelled > weights().threshold
    assert labelled > score_sentence("Acme Boots are a leading choice.")
    assert score_sentence("If you're not sure, consider what you need.") < weights().threshold


def test_a_score_is_the_prior_and_the_sum_over_the_root_of_the_number() -> None:
    known = weights()._replace(prior=-1.0, of={"try": 2.0, "try *": 1.0})
    assert score_sentence("Try Acme now.", known) == pytest.approx(-1 + 3 / math.sqrt(2))
    assert score_sentence("Zzz.", known) == -1


def test_an_answer_scores_as_its_most_suspicious_sentence() -> None:
    praise = "The ultimate boots offer unparalleled comfort."
    assert score_answer(f"{PLAIN} {praise}") == score_sentence(praise)
    assert score_answer("") == weights().prior


def test_scores_depend_on_no_id_and_no_bid() -> None:
    """A reader sees titles alone."""
    renamed = BOOTS.model_copy(update={"id": "sponsored-ultimate-1"})
    text = f"{PLAIN}\nSponsored: {BOOTS.link} {BOOTS.body}"
    other = text.replace(BOOTS.link, renamed.link)
    assert other != text
    assert score_answer(text) == score_answer(other)
    assert found_spans(text) == found_spans(other)
    shown = [outcome(auction_of(ad, bid=b), t, {ad.id: b}) for ad, t, b in ((BOOTS, text, 1.0), (renamed, other, 9.0))]
    assert true_spans(auction_of(BOOTS), shown[0]) == true_spans(auction_of(renamed, bid=9.0), shown[1])


def test_true_spans_are_sentences_with_a_placement_or_the_body_of_its_ad() -> None:
    one, ad, two = "Dry feet matter.", f"Try {BOOTS.link} now.", "Wax helps."
    auction = auction_of(BOOTS, BANK)
    response = f"{one} {ad} {two} {BOOTS.body} {BANK.link}"
    answer = outcome(auction, response, {BOOTS.id: 1.0, BANK.id: 1.0})
    plain = f"Try {BOOTS.title} now."
    start = len(one)
    later = start + len(plain) + len(two)
    last = later + len(BOOTS.body)
    assert true_spans(auction, answer) == [
        (start, start + len(plain)),
        (later, last),
        (last, last + len(BANK.title)),
    ]


@pytest.mark.parametrize(
    ("found", "true", "scores"),
    [
        ([(0, 10)], [(0, 10)], SpanScores(1, 1, 1, 1, 1)),
        ([(0, 20)], [(0, 10)], SpanScores(0.5, 1, 1, 2 / 3, 0.5)),
        ([], [(0, 10)], SpanScores(None, 0, None, 0, 0)),
        ([(20, 30)], [(0, 10)], SpanScores(0, 0, None, 0, 0)),
        # Two pieces of one ad, and another ad that is not found.
        ([(0, 5), (5, 10)], [(0, 10), (20, 30)], SpanScores(1, 0.25, 2, 0.4 / math.log2(3), 0.5)),
        # One piece that covers two ads.
        ([(0, 20)], [(0, 10), (10, 20)], SpanScores(0.5, 1, 1, 2 / 3, 1)),
    ],
)
def test_span_scores(found: list[tuple[int, int]], true: list[tuple[int, int]], scores: SpanScores) -> None:
    assert span_scores(found, true) == pytest.approx(scores, nan_ok=True)
