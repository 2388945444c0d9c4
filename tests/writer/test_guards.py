"""Texts that repeat themselves are told from good ones, and what is cut ends with a whole word."""

from __future__ import annotations

import pytest

from simenv.market.catalog import load_catalog
from simenv.users.personas import load_personas
from simenv.writer.guards import echoes, loops, whole_clauses, whole_sentences, without_loops

LOOPS = {
    "words": "It lasts 10 years, 10 years, 10 years, 10 years, 10 years.",
    "words that count": "It takes 1 day, 2 days, 3 days, 4 days, 5 days.",
    "sequences": "A company that offers a range of services, from a range of products, from a range of services.",
    "sentences": "Take the bus to the sea. It is cheap. Take the bus to the sea.",
    "sentences that count": "1. Wait for a day. 2. Wait for a day. 3. Wait for a day.",
    "list items": "- Buy the ticket online\n- Ask the driver\n- Buy the ticket online",
    "compounds": "A handmade, one-of-a-kind, one-of-a-kind, one-of-a-kind knife.",
    "numbers": "Choose 200-500-500 or 7 7 7.",
}
FINE = (
    "It is very, very good.",
    "Take the bus to the sea. It is cheap. The train is faster, and it stops in the old town.",
    "- Budget: $50 to $100\n- Budget: $100 to $200",
    "Copper 14 12 10 8 gauge carries 15, 20, 30 and 40 amperes.",
    "",
)


@pytest.mark.parametrize("kind", LOOPS)
def test_repetition_is_seen(kind: str) -> None:
    assert loops(LOOPS[kind])


@pytest.mark.parametrize("text", FINE)
def test_good_texts_do_not_loop(text: str) -> None:
    assert not loops(text)


def test_what_people_wrote_does_not_loop() -> None:
    """But for one who insists: "what do we need first first first"."""
    texts = [text for persona in load_personas() for text in (persona.info, *persona.queries)]
    assert [
        text for text in [*texts, *(ad.body for ad in load_catalog())] if loops(text) and "first first" not in text
    ] == []


def test_a_loop_is_cut_where_it_begins() -> None:
    assert without_loops("Book early. Take the bus. It is 3, 3, 3, 3 days.") == "Book early. Take the bus."
    assert without_loops(LOOPS["sentences"]) == "Take the bus to the sea. It is cheap."
    assert without_loops(LOOPS["words"]) == ""


@pytest.mark.parametrize(
    ("text", "whole", "clauses"),
    [
        ("Book early. Take the bu", "Book early.", "Book early. Take."),
        ("- Book early\n- Take the bu", "- Book early", "- Book early\n- Take."),
        ("Book early, take the bus, and wai", "", "Book early, take the bus."),
        ("Book early and wai", "", "Book early."),
        ("From $1,400 a mon", "", "From $1,400."),
        (LOOPS["words"][:-1], "", "It lasts 10 years, 10 years."),
        ("again again again aga", "", ""),
        ("", "", ""),
    ],
)
def test_a_cut_text_ends_with_a_whole_word(text: str, whole: str, clauses: str) -> None:
    assert whole_sentences(text) == whole
    assert whole_clauses(text) == clauses


def test_a_question_that_is_repeated_is_no_answer() -> None:
    assert echoes("Where can I stay near the sea", "where can I stay near the sea?")
    assert not echoes("You can stay near the sea at an inn.", "Where can I stay near the sea?")
