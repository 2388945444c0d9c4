"""What mechanisms make of the texts that small models give them."""

from __future__ import annotations

import pytest

from mechanisms.writer import end_of_sentence


@pytest.mark.parametrize(
    ("tail", "end"),
    [
        (" a quiet choice. And more", " a quiet choice."),
        (" cut at the limit of", " cut at the limit of."),
        ("", " which may help."),
        (" gold gold gold gold and", " gold and."),
        (" made of gold, of gold, of gold, of gold", " made of gold."),
        (" very, very good.", " very, very good."),
    ],
)
def test_a_sentence_ends_and_does_not_stutter(tail: str, end: str) -> None:
    assert end_of_sentence(tail) == end
