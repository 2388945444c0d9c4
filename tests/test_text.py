"""Where sentences begin and end."""

from __future__ import annotations

import pytest

from simenv.text import (
    clause_spans,
    sentence_around,
    sentence_ends,
    sentence_spans,
    sentences,
    sentences_with_space,
    stops,
)

LIST = "Boots help.  Do they?\n\nYes!\n- A 2.5 mm sole.\n- Wool"


def test_sentences_end_at_stops_before_white_space_and_at_line_breaks() -> None:
    assert sentences(LIST) == ["Boots help.", "Do they?", "Yes!", "- A 2.5 mm sole.", "- Wool"]
    assert sentences("Wait... What?! See a.example now.") == ["Wait...", "What?!", "See a.example now."]
    assert sentences("") == sentences(" \n ") == []


@pytest.mark.parametrize("text", [LIST, "", "\n\n", "A.\n", " . ", "No end"])
def test_spans_and_sentences_with_space_cover_the_text(text: str) -> None:
    assert "".join(text[start:stop] for start, stop in sentence_spans(text)) == text
    assert "".join(sentences_with_space(text)) == text


def test_line_breaks_stay_with_the_sentence_before_them() -> None:
    assert sentences_with_space("Do they?\n\nYes!  No") == ["Do they?\n\n", "Yes!", "  No"]
    assert sentences_with_space("") == []


def test_stops_are_no_line_breaks_and_end_something() -> None:
    assert sentence_ends("One\ntwo. Three") == (4, 8)
    assert stops("One\ntwo. Three") == [8]
    assert stops(". Then this. ") == [12]
    assert stops("no end, 1.5") == []


def test_the_sentence_around_a_span() -> None:
    text = "First. You could try it, it fits. Last"
    start, stop = sentence_around(text, (text.index("try"), text.index("try") + 3))
    assert text[start:stop] == " You could try it, it fits."
    start, stop = sentence_around(text, (text.index("Last"),) * 2)
    assert text[start:stop] == " Last"
    start, stop = sentence_around(text, (0, text.index("Last")))
    assert (start, stop) == (0, len(text))  # a span may cross sentences


def test_clauses_end_at_any_stop() -> None:
    text = "It is 1.5 m.Then\nmore!"
    assert [text[start:stop] for start, stop in clause_spans(text)] == ["It is 1", "5 m", "Then", "more"]
