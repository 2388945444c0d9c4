"""Text from outside without links: whatever goes in, nothing comes out that `markup.parse` takes for mark-up."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simenv import markup
from simenv.links import without_links
from simenv.market.catalog import load_catalog
from simenv.records import Ad, Auction, Bid, Persona, Query
from simenv.users.personas import load_personas

TRAINS = Ad(id="A2", advertiser="Hill Trains", title="Hill Trains", body="Day trips by train.")
AUCTION = Auction(id="x", query=Query(text="How?"), bids=(Bid(ad=TRAINS, amount=1),))
_PIECES = ["@", "[", "]", "A2", "Hill Trains", TRAINS.link, "[A2]", "@[", "Ad-ID", "ad", " ", "\n", "x", ".", "@Hill"]


def _mark_up(text: str) -> set[str]:
    links, violations = markup.parse(text, AUCTION)
    return {text[slice(*span)] for span in links.values()} | {v.text for v in violations if v.kind != "leaked_process"}


@given(st.lists(st.sampled_from(_PIECES), max_size=24).map("".join))
@settings(max_examples=150, deadline=None)
def test_nothing_is_left_of_mark_up(text: str) -> None:
    plain = markup.neutral(text, AUCTION)
    assert not _mark_up(plain)
    assert markup.neutral(plain, AUCTION) == plain
    assert _mark_up(without_links(text)) <= {"[A2]"}  # an id alone is known only with the auction


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        (f"Better than {TRAINS.link}.", "Better than Hill Trains."),
        ("@Hill Trains@, or ask Hill Trains@[A2]", "@Hill Trains, or ask Hill Trains"),
        ("@Hill Trains@ is good.\nHill Trains@[A2] too.", "Hill Trains is good.\nHill TrainsA2 too."),
        ("Write to a.b@example.org, or to @anna and @ben [sic] x[0].", None),
        ("5 @ 3 euros, [1] and a[b](c) and @media", None),
    ],
)
def test_what_becomes_of_a_text(text: str, plain: str | None) -> None:
    assert without_links(text) == (text if plain is None else plain)


def test_records_of_what_comes_from_outside_hold_no_links() -> None:
    link = TRAINS.link
    ad = Ad(id="A1", advertiser=link, title="T", body=f"Not {link}.")
    assert (ad.advertiser, ad.body) == ("Hill Trains", "Not Hill Trains.")
    assert Ad(id="A1", advertiser="A", title="Cafe\u0301").title == "Caf\u00e9", "as tokenizers with NFC write it"
    assert Query(text=link).text == Auction(id="x", query=Query(text="?"), profile=link).profile == "Hill Trains"
    persona = Persona(id="p", info=link, interests=(link,), queries=(f"Is {link} good?",))
    assert persona.profile == "Hill Trains. Interests: Hill Trains."
    assert persona.queries == ("Is Hill Trains good?",)


@pytest.mark.parametrize("text", ["@" * 10_000, "[" * 10_000, "@a" * 5_000, "@[A2]" * 2_000, "@a@[" * 2_500])
def test_a_long_hostile_text_takes_no_time(text: str) -> None:
    start = time.perf_counter()
    markup.neutral(text, AUCTION)
    assert time.perf_counter() - start < 2  # it takes milliseconds


def test_no_shipped_text_is_changed() -> None:
    texts = [text for ad in load_catalog() for text in (ad.body, ad.advertiser)]
    texts += [text for p in load_personas() for text in (p.profile, *p.queries)]
    assert all("@" not in text and "[" not in text for text in texts)


def test_a_models_sentence_has_one_link() -> None:
    link = TRAINS.link
    assert markup.links_only(TRAINS, f"Take {link} [1] now.", AUCTION)
    for text in ("Take it.", f"{link} {link}", f"{link} or @X@[A9]", f"{link} a@b", f"{link} [A2]"):
        assert not markup.links_only(TRAINS, text, AUCTION)
