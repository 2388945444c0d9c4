"""What an advertiser did not say is found in a sentence about its ad."""

from __future__ import annotations

import pytest

from simenv.records import Ad
from simenv.writer.copy_check import in_own_words, keeps_to_copy, own_words, unsupported

VODKA = Ad(
    id="A1",
    advertiser="Absolut",
    title="Absolut Vodka",
    body="Vodka from one source in Sweden, in 40 flavours. No added sugar; bottles from $18.",
    category="drinks",
)
PARK = Ad(id="A2", advertiser="Disneyland", title="Disneyland Paris", body="Tickets for two parks, open 10 to 21.")


@pytest.mark.parametrize(
    ("sentence", "ad"),
    [
        ("You could try {link}, now owned by a new company called Espresso-Luxury.", VODKA),
        ("You could try {link}: Espresso-Luxury from one source in Sweden.", VODKA),
        ("{link} offers a 24-hour ticket for the Colosseum.", PARK),
        ("{link} offers tickets for the Colosseum.", PARK),
        ("{link} has 41 flavours.", VODKA),
        ("{link} has bottles from £18.", VODKA),
        ("{link} has added sugar.", VODKA),
        ("{link} has no flavours.", VODKA),
        ("The best of Norway, {link} is vodka.", VODKA),
    ],
)
def test_names_numbers_and_denials_must_be_in_the_copy(sentence: str, ad: Ad) -> None:
    query = "How do I get into the Colosseum?"
    for every_word in (False, True):
        assert not keeps_to_copy(sentence.format(link=ad.link), ad, query=query, every_word=every_word)


@pytest.mark.parametrize(
    "sentence",
    [
        "You could also consider {link}: vodka from one source in Sweden.",
        "After the Colosseum, {link} has 40 flavours from Sweden.",
        "{link}, a source of flavoured vodka with no added sugar, offers bottles from $18.",
    ],
)
def test_what_the_copy_says_is_accepted(sentence: str) -> None:
    query = "How do I get into the Colosseum?"
    assert keeps_to_copy(sentence.format(link=VODKA.link), VODKA, query=query)


def test_of_small_models_every_word_must_be_in_the_copy() -> None:
    said = f"{VODKA.link}: a luxury car rental service."
    assert keeps_to_copy(said, VODKA)
    assert not keeps_to_copy(said, VODKA, every_word=True)
    assert unsupported(": a luxury car rental service.", VODKA, every_word=True) == {
        "luxury",
        "car",
        "rental",
        "service",
    }
    assert not keeps_to_copy(f"{VODKA.link} is one of a kind.", VODKA, every_word=True)  # says nothing of the ad


def test_own_words_are_the_first_sentence_of_the_copy() -> None:
    assert own_words(VODKA) == "Vodka from one source in Sweden, in 40 flavours."
    assert own_words(VODKA.model_copy(update={"body": ""})) == "Absolut."
    assert own_words(VODKA.model_copy(update={"body": "See @Other@[B1]!"})) == "See Other!"
    for ad in (VODKA, PARK, VODKA.model_copy(update={"body": "Good"})):
        answer = f"Take your time. You could also consider {ad.link}: {own_words(ad)}"
        assert keeps_to_copy(answer.removeprefix("Take your time. "), ad, every_word=True)
        assert in_own_words(answer, ad)
    assert not in_own_words(f"You could try {VODKA.link}: vodka from Sweden.", VODKA)
    assert not in_own_words("No ad. Vodka from one source in Sweden, in 40 flavours.", VODKA)
