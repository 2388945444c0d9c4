"""Which ads a text names or links, and where."""

from __future__ import annotations

import unicodedata

import pytest

from simenv.errors import InputError
from simenv.records import Ad
from simenv.scoring.ad_finder import AdFinder
from simenv.scoring.markdown import links
from simenv.scoring.plain_text import plain


def ad(number: int, title: str, advertiser: str | None = None, url: str = "") -> Ad:
    return Ad(id=f"ad-{number}", title=title, advertiser=advertiser or title, url=url)


ADS = (
    ad(1, "Chase"),
    ad(2, "Chase Sapphire Card", "Chase Bank"),
    ad(3, "Café Crème", "Crema", "https://crema.example/cafe"),
    ad(4, "Domino's Pizza", url="https://www.dominos.example/menu?city=1"),
    ad(5, "C++ Course", "Learnly", "https://learnly.example/cpp"),
    ad(6, "Python Course", "Learnly", "https://learnly.example/python"),
)


def found(text: str, ads: tuple[Ad, ...] = ADS) -> list[tuple[str, str]]:
    return [(place.ad.id, text[place.start : place.end]) for place in AdFinder(ads).in_text(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Get the chase sapphire card.", [("ad-2", "chase sapphire card")]),
        ("CHASE  SAPPHIRE\nCARD or Chase?", [("ad-2", "CHASE  SAPPHIRE\nCARD"), ("ad-1", "Chase")]),
        ("A chase, chasing, purChase, Chased, Chase_d.", []),
        ("Chase's fee, (Chase), Chase.", [("ad-1", "Chase")]),
        ("The Chase Sapphire\n\nCard", [("ad-1", "Chase")]),
        (unicodedata.normalize("NFD", "the CAFÉ crème!"), [("ad-3", unicodedata.normalize("NFD", "CAFÉ crème"))]),
        ("Ｃａｆé Crè\u200bme", [("ad-3", "Ｃａｆé Crè\u200bme")]),
        ("domino’s pizza, Domino's Pizza", [("ad-4", "domino’s pizza")]),
        ("C Course and C+ Course", []),
        ("the c++ course", [("ad-5", "c++ course")]),
        ("Learnly has a Python Course", [("ad-6", "Python Course")]),
        ("", []),
    ],
)
def test_names_are_whole_words_in_any_form_and_the_longest_counts(text: str, expected: list[tuple[str, str]]) -> None:
    assert found(text) == expected


def test_names_in_scripts_without_spaces() -> None:
    ads = (ad(1, "蓝色靴子"), ad(2, "靴子"), ad(3, "파란 부츠"), ad(4, "รองเท้า"), ad(5, "Boots靴"))
    text = "我们推荐蓝色靴子和靴子。파란 부츠를 ซื้อรองเท้าดี xBoots靴 Boots靴y Boots靴子"
    assert [name for name, _ in found(text, ads)] == ["ad-1", "ad-2", "ad-3", "ad-4", "ad-5"]
    assert found("xBoots靴", ads) == []


def test_a_name_of_several_ads_is_refused() -> None:
    with pytest.raises(InputError, match=r"'Learnly' in the text may be 2 ads: ad-5, ad-6"):
        found("Learnly is fine")
    twins = (ad(1, "Blue Boots", "A"), ad(2, "Blue boots", "B"))
    assert [name for name, _ in found("blue boots", twins[:1])] == ["ad-1"]
    with pytest.raises(InputError, match="'blue boots' in the text may be 2 ads"):
        found("Buy blue boots", twins)


def test_the_first_mention_is_the_place() -> None:
    text = "Chase, and again Chase"
    assert [(p.start, p.end) for p in AdFinder(ADS).in_text(text)] == [(0, 5)]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (" ad-2 ", "ad-2"),
        ("chase sapphire CARD", "ad-2"),
        ("Crema", "ad-3"),
        ("http://crema.example/cafe/", "ad-3"),
        ("Chase Bank", "ad-2"),
    ],
)
def test_a_cell_names_an_ad_by_id_title_address_or_advertiser(cell: str, expected: str) -> None:
    assert AdFinder(ADS).named(cell).id == expected


def test_a_cell_that_names_none_or_several_is_refused() -> None:
    with pytest.raises(InputError, match=r"ad 'Zork' is not among the 6 ads: expected an id such as ad-1"):
        AdFinder(ADS).named("Zork")
    with pytest.raises(InputError, match="may be 2 ads: ad-5, ad-6"):
        AdFinder(ADS).named("Learnly")


def linked(text: str) -> list[str | None]:
    finder = AdFinder(ADS)
    ads = [finder.linked(link.target, link.text) for link in links(text)]
    return [it.id if it is not None else None for it in ads]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[here](https://www.crema.example/cafe?utm_source=x#top)", ["ad-3"]),
        ("[menu](http://dominos.example/menu?city=1) [menu](https://dominos.example/menu)", ["ad-4", "ad-4"]),
        ("[Python course](https://elsewhere.example) [x](ad-1)", ["ad-6", "ad-1"]),
        ("[wiki](https://wiki.example) ![Chase](https://crema.example/cafe) [Chase][1]", [None]),
        ('[a](<https://crema.example/cafe> "title")', ["ad-3"]),
        ("[bad](http://[::1) [x]() [y](a b)", [None]),
    ],
)
def test_links_lead_to_ads_by_address_id_or_title(text: str, expected: list[str | None]) -> None:
    assert linked(text) == expected


def test_a_link_to_a_page_of_several_ads_is_decided_by_its_text() -> None:
    shared = (ad(1, "Blue Boots", url="https://b.example"), ad(2, "Red Boots", url="https://b.example"))
    finder = AdFinder(shared)
    assert (finder.linked("https://b.example", "red boots") or shared[0]).id == "ad-2"
    with pytest.raises(InputError, match=r"link 'here' to 'https://b.example' may be 2 ads"):
        finder.linked("https://b.example", "here")


@pytest.mark.parametrize("text", ["aé\u0301 b", "  x\t\n\ny ", "\u1112\u1161\u11ab ﬁ", "a\u200db\x00c"])
def test_each_character_knows_its_origin(text: str) -> None:
    compared = plain(text)
    assert len(compared.text) == len(compared.starts) == len(compared.ends)
    assert all(0 <= start < end <= len(text) for start, end in zip(compared.starts, compared.ends, strict=True))
    assert compared.starts == sorted(compared.starts)
