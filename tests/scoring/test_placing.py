"""Each way in which an answer shows ads, and the mark-up that it becomes."""

from __future__ import annotations

import pytest

from simenv.errors import InputError
from simenv.records import Ad, Auction, Bid, Query
from simenv.scoring.ad_finder import AdFinder, Place
from simenv.scoring.placing import Given, linked, listed, marked, named, with_markup

BOOTS = Ad(id="ad-1", advertiser="TrailFox", title="TrailFox Boots", url="https://fox.example/boots")
SOAP = Ad(id="2", advertiser="Bubbles", title="Bubbles Soap")
FINDER = AdFinder([BOOTS, SOAP])
AUCTION = Auction(id="a", query=Query(text="what?"), bids=(Bid(ad=BOOTS, amount=1), Bid(ad=SOAP, amount=1)))


def rendered(text: str, places: list[Place]) -> str:
    return with_markup(text, places, AUCTION)[0]


def test_names_become_links() -> None:
    text = "Wear trailfox boots. **Bubbles Soap** cleans TrailFox Boots."
    assert rendered(text, named(text, FINDER)) == (
        "Wear @TrailFox Boots@[ad-1]. **@Bubbles Soap@[2]** cleans TrailFox Boots."
    )


def test_a_name_in_a_markdown_link_stands_for_the_whole_link() -> None:
    text = "[TrailFox Boots](https://other.example) or [Bubbles Soap and TrailFox](x)"
    assert rendered(text, named(text, FINDER)) == "@TrailFox Boots@[ad-1] or [@Bubbles Soap@[2] and TrailFox](x)"


def test_markdown_links_to_ads_become_links_also_where_one_is_repeated() -> None:
    text = "[these](https://fox.example/boots), [a page](https://w.example), ![x](https://fox.example/boots) [b](ad-1)"
    places = linked(text, FINDER)
    assert rendered(text, places) == (
        "@TrailFox Boots@[ad-1], [a page](https://w.example), ![x](https://fox.example/boots) @TrailFox Boots@[ad-1]"
    )
    assert with_markup(text, places, AUCTION)[1] == {"ad-1": "[these](https://fox.example/boots)"}


def test_what_would_be_read_as_markup_is_not() -> None:
    """Such as a citation [2], where an ad has the id 2, a label [Ad], and a link that the writer did not list."""
    text = "Bubbles Soap [2], [Ad] @Fake@[x], @TrailFox Boots@[ad-1], mail@example.org"
    assert rendered(text, named(text, AdFinder([SOAP]))) == (
        "@Bubbles Soap@[2] 2, Ad Fake, TrailFox Boots, mail@example.org"
    )


def test_marked_ads_are_those_of_the_catalog() -> None:
    text = "@TrailFox Boots@[ad-1] @Other@[ad-1] @Nobody@[zz]"
    assert [(it.ad.id, text[it.start : it.end]) for it in marked(text, FINDER)] == [
        ("ad-1", "@TrailFox Boots@[ad-1]"),
        ("ad-1", "@Other@[ad-1]"),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Try @Old Title@[ad-1].", "Try @TrailFox Boots@[ad-1]."),
        ("Try [them](https://fox.example/boots).", "Try @TrailFox Boots@[ad-1]."),
        ("Try TrailFox.", "Try @TrailFox Boots@[ad-1]."),
    ],
)
def test_listed_ads_are_found_as_markup_link_or_name(text: str, expected: str) -> None:
    assert rendered(text, listed(text, [Given(BOOTS)])) == expected


def test_a_span_is_the_name_in_it_or_itself() -> None:
    text = "Good: TrailFox Boots are dry. Also the blue ones."
    assert rendered(text, listed(text, [Given(BOOTS, (6, 29))])).startswith("Good: @TrailFox Boots@[ad-1] are dry.")
    short = listed(text, [Given(BOOTS, (35, 43))])
    assert rendered(text, short) == "Good: TrailFox Boots are dry. Also @TrailFox Boots@[ad-1] ones."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([Given(BOOTS), Given(BOOTS)], "ad ad-1 is listed twice"),
        ([Given(SOAP)], "ad 2 is listed and not in the response: neither a link to it nor its title 'Bubbles Soap'"),
        ([Given(BOOTS, (0, 99))], "the span of ad ad-1 must be 0 <= start < end <= 28, got 0 to 99"),
        ([Given(BOOTS, (5, 5))], "must be 0 <= start < end <= 28, got 5 to 5"),
        ([Given(BOOTS, (-2, 5))], "got -2 to 5"),
        ([Given(SOAP, (0, 28))], "the span of ad 2 holds neither .* and is more than a name: 'Wear these. Or"),
        ([Given(BOOTS, (0, 10)), Given(SOAP, (5, 11))], "ads ad-1 and 2 overlap in the response, from character 5 on"),
    ],
)
def test_a_listed_ad_that_has_no_place_is_refused(given: list[Given], message: str) -> None:
    with pytest.raises(InputError, match=message):
        listed("Wear these. Or TrailFox now.", given)
