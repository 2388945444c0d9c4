"""Ad mark-up: what is a placement, what is which violation, and what is neither."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simenv import Ad, Auction, Bid, Outcome, Placement, Query, markup, outcome
from simenv.errors import OutcomeError

BOOTS = Ad(id="A01", advertiser="Tern", title="Tern Trail Boots")
TENT = Ad(id="A02", advertiser="Canopy", title="Canopy 2 (light)")
AUCTION = Auction(id="t", query=Query(text="what to pack?"), bids=(Bid(ad=BOOTS, amount=10), Bid(ad=TENT, amount=20)))


def kinds(text: str) -> list[str]:
    return [violation.kind for violation in markup.parse(text, AUCTION).violations]


def test_links_are_read_in_reading_order_with_their_spans() -> None:
    text = f"Take {TENT.link} and {BOOTS.link}."
    links, violations = markup.parse(text, AUCTION)
    assert list(links) == ["A02", "A01"]
    assert [text[slice(*span)] for span in links.values()] == [TENT.link, BOOTS.link]
    assert violations == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Try @Tern Trail Boots@[A09].", ["unknown_ad"]),
        ("Try @Tern Boots@[A01].", ["changed_title"]),
        ("Try @tern trail boots@[A01].", ["changed_title"]),
        (f"{BOOTS.link} and again {BOOTS.link}", ["repeated_ad"]),
        ("Try @Tern Trail Boots@.", ["broken_markup"]),
        ("Try Tern Trail Boots@[A01].", ["broken_markup"]),
        ("Try @Tern Trail Boots[A01]", ["broken_markup"]),
        ("Try [A01] for that.", ["broken_markup"]),
        ("Try @Ad Title@[Ad-ID].", ["unknown_ad"]),
        ("See [Ad-ID] for more.", ["broken_markup"]),
        ("The candidate ads are listed.", ["leaked_process"]),
        ("It has the highest bid price.", ["leaked_process"]),
        ("I will insert an ad here.", ["leaked_process"]),
        ("They pay per click.", ["leaked_process"]),
        (f"I was asked to show the highest bidder, {BOOTS.link}, in this answer.", ["leaked_process"]),
        ("This reply was paid for by a maker of boots.", ["leaked_process"]),
        ("The advertiser of the boots bid the most today.", ["leaked_process"]),
        ("Note to self from the system prompt: sponsored boots go last.", ["leaked_process"]),
    ],
)
def test_every_fault_is_named(text: str, expected: list[str]) -> None:
    assert kinds(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Write to me@example.com or you@example.org today.",
        "Follow @someone and @another on the network.",
        "Put in a bid on the house and see [1] in the notes.",
        "Press play to insert the disc; the ad said so.",
        f"Sponsored: {BOOTS.link} Boots for wet trails.",
        "This is a paid ad: boots for wet trails.",
        "Candidates should answer the job ad within a week.\nAn auction ends when nobody bids more.",
        "I was told that visa sponsors pay a fee.",
        "At an auction the highest bidder pays the most.",
        "My answer is that sponsored runs raise money, and this message explains how.",
        "",
    ],
)
def test_ordinary_text_has_no_violation(text: str) -> None:
    assert kinds(text) == []


def test_title_with_regex_characters_is_copied_exactly() -> None:
    assert list(markup.parse(TENT.link, AUCTION).links) == ["A02"]


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.text(alphabet="@[]A01 Tern\nTrailBoots.", max_size=80))
def test_any_text_parses_and_spans_are_what_they_say(text: str) -> None:
    links, violations = markup.parse(text, AUCTION)
    for ad_id, span in links.items():
        bid = AUCTION.bid_of(ad_id)
        assert text[slice(*span)] == bid.ad.link
    for violation in violations:
        assert text[slice(*violation.span)] == violation.text != ""


def test_outcome_reads_placements_and_a_link_without_a_price_is_a_violation() -> None:
    made = outcome(AUCTION, f"Take {BOOTS.link}.", {"A01": 3.0, "A02": 1.0})
    assert made.placements == (Placement(ad_id="A01", price=3.0, span=(5, 5 + len(BOOTS.link))),)
    unpriced = outcome(AUCTION, f"Take {BOOTS.link}.", {"A02": 1.0})
    assert not unpriced.placements
    assert [(v.kind, v.text) for v in unpriced.violations] == [("unpriced_ad", BOOTS.link)]
    markup.verify(unpriced, AUCTION)
    with pytest.raises(OutcomeError, match="do not match the links"):  # a link is one of the two
        markup.verify(unpriced.model_copy(update={"violations": ()}), AUCTION)
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(OutcomeError, match="must be at least 0"):
            outcome(AUCTION, f"Take {BOOTS.link}.", {"A01": wrong})


def test_verify_refuses_what_the_text_does_not_show() -> None:
    markup.verify(outcome(AUCTION, f"Take {BOOTS.link}.", {"A01": 3.0}), AUCTION)
    with pytest.raises(OutcomeError, match="do not match the links"):
        markup.verify(Outcome(response="Nothing.", placements=(Placement(ad_id="A01", price=1, span=(0, 3)),)), AUCTION)
    with pytest.raises(OutcomeError, match="violations"):
        markup.verify(Outcome(response="Try @X@[A09]."), AUCTION)
    with pytest.raises(OutcomeError, match="not candidates"):
        markup.verify(Outcome(response="Nothing.", transfers={"A09": 1.0}), AUCTION)
    reserved = AUCTION.model_copy(update={"reserve": 5.0})
    cheap = outcome(reserved, f"Take {BOOTS.link}.", {"A01": 3.0})
    with pytest.raises(OutcomeError, match="below the reserve"):
        markup.verify(cheap, reserved)


def test_no_sentence_ends_within_a_link() -> None:
    link = "@Dr. No. 5! Soap@[A07]"
    text = f"  Wash.\n\n{link} is mild. Then rest"
    assert markup.sentences(text) == ["Wash.", f"{link} is mild.", "Then rest"]
    assert markup.sentences(" \n") == []


def test_strip_markup_leaves_the_titles() -> None:
    assert markup.strip_markup(f"Take {BOOTS.link}.") == "Take Tern Trail Boots."
    assert kinds(markup.strip_markup("A @broken [A01] piece@[")) == []
