"""Where an answer shows its ads, and the answer with the ads in mark-up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

from simenv import markup
from simenv.errors import InputError
from simenv.records import Ad, Auction
from simenv.scoring.ad_finder import AdFinder, Place
from simenv.scoring.markdown import links
from simenv.text import first_end

Form = Literal["markup", "links", "names", "list", "none"]
"""How answers show ads. markup: `@Title@[id]`. links: Markdown links to them. names: their names in the text. list: a
column lists them. none: they show none."""
FORMS: tuple[Form, ...] = get_args(Form)
_LONGEST = 120
"""Characters of a span that holds no name of its ad: a longer one is more than the name."""


class Given(NamedTuple):
    """An ad that a column lists for an answer."""

    ad: Ad
    span: tuple[int, int] | None = None
    """Half-open character offsets in the response."""
    bid: float | None = None
    price: float | None = None
    value: float | None = None


def marked(response: str, finder: AdFinder) -> list[Place]:
    """The ads of the catalog that a response links in mark-up, each link with its title as it is there."""
    found = ((match, finder.ads.get(match["id"])) for match in markup.LINK.finditer(response))
    return [Place(*match.span(), ad) for match, ad in found if ad is not None]


def linked(response: str, finder: AdFinder) -> list[Place]:
    """The Markdown links of a response that lead to ads of the catalog.

    Raises:
        InputError: one may lead to several ads.
    """
    found = ((link, finder.linked(link.target, link.text)) for link in links(response))
    return [Place(link.start, link.end, ad) for link, ad in found if ad is not None]


def named(response: str, finder: AdFinder) -> list[Place]:
    """The ads that a response names, see `AdFinder.in_text`; of a Markdown link whose text is a name, all of it.

    Raises:
        InputError: a name that several ads have.
    """
    return list(_whole_links(response, finder.in_text(response)))


def listed(response: str, given: Sequence[Given]) -> list[Place]:
    """The places of the ads that a column lists.

    An ad stands in its span, or anywhere if it has none: as mark-up, as a Markdown link, or by its title or advertiser.
    A short span without any of these is the ad's own wording.

    Raises:
        InputError: an ad is listed twice, is not in the text, has a span outside of it, or overlaps with another one.
    """
    ids = [it.ad.id for it in given]
    if twice := next((ad_id for ad_id in ids if ids.count(ad_id) > 1), None):
        raise InputError(f"ad {twice} is listed twice")
    spans = [_in_span(response, it.ad, it.span) for it in given if it.span is not None]
    places = sorted([*spans, *_anywhere(response, [it.ad for it in given if it.span is None])], key=lambda it: it.start)
    for one, other in pairwise(places):
        if other.start < one.end:
            raise InputError(
                f"ads {one.ad.id} and {other.ad.id} overlap in the response, from character {other.start} on"
            )
    return places


def _anywhere(response: str, ads: Sequence[Ad]) -> Iterator[Place]:
    if not ads:
        return
    finder = AdFinder(ads)
    by_id: dict[str, Place] = {}
    for place in (*marked(response, finder), *linked(response, finder), *named(response, finder)):
        by_id.setdefault(place.ad.id, place)
    for ad in ads:
        if ad.id not in by_id:
            raise InputError(
                f"ad {ad.id} is listed and not in the response: neither a link to it nor {_names(ad)}",
                hint="give its span",
            )
        yield by_id[ad.id]


def _names(ad: Ad) -> str:
    title = f"its title {ad.title!r}"
    return title if ad.advertiser == ad.title else f"{title} nor its advertiser {ad.advertiser!r}"


def _in_span(response: str, ad: Ad, span: tuple[int, int]) -> Place:
    start, end = span
    if not 0 <= start < end <= len(response):
        raise InputError(
            f"the span of ad {ad.id} must be 0 <= start < end <= {len(response)}, got {start} to {end}",
            hint="half-open, in characters of the response",
        )
    text, finder = response[start:end], AdFinder([ad])
    inner = next(iter([*marked(text, finder), *linked(text, finder), *named(text, finder)]), None)
    if inner is not None:
        return Place(start + inner.start, start + inner.end, ad)
    if len(text) > _LONGEST or "\n" in text or first_end(text) < len(text.rstrip()):
        raise InputError(
            f"the span of ad {ad.id} holds neither a link to it nor {_names(ad)}, and is more than a name: {text!r:.80}"
        )
    return Place(start, end, ad)


def _whole_links(response: str, places: Sequence[Place]) -> Iterator[Place]:
    around = {it.start + 1: it for it in links(response)} if "](" in response else {}
    for place in places:
        link = around.get(place.start)
        whole = link is not None and link.text == response[place.start : place.end]
        yield Place(link.start, link.end, place.ad) if link is not None and whole else place


def is_link(words: str) -> bool:
    """Whether what stood for an ad was a link of either form."""
    return markup.LINK.search(words) is not None or next(links(words), None) is not None


def with_markup(response: str, places: Iterable[Place], auction: Auction) -> tuple[str, dict[str, str]]:
    """The response with each ad as mark-up, and what stood in its place, by ad id.

    The rest of the text loses what would be read as mark-up: the rules of mark-up are not those of its writer.

    Args:
        response: The response as it was written.
        places: Its ads, in reading order, which do not overlap.
        auction: The auction that is answered.
    """
    pieces: list[str] = []
    wording: dict[str, str] = {}
    at = 0
    for place in places:
        pieces += [markup.neutral(response[at : place.start], auction), place.ad.link]
        wording.setdefault(place.ad.id, response[place.start : place.end])
        at = place.end
    return "".join([*pieces, markup.neutral(response[at:], auction)]), wording
