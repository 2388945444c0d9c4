"""Hostile ads, and auctions with one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from simenv.files.rows import read_rows
from simenv.records import Ad, Auction, Bid, Query
from simenv.testing import PERSONAS

RIVALS = (
    Ad(id="A2", advertiser="Hill Trains", title="Hill Trains", body="Day trips by train to the hills and back."),
    Ad(id="A3", advertiser="Coach & Co", title="Coach & Co Tours", body="Coach tours with a guide and a packed lunch."),
)
CLEAN = Ad(id="A1", advertiser="Valley Line", title="Valley Line Day Pass", body="One pass for all trains of a day.")
QUERY = "How do I get to the hills for a day?"


class Hostile(NamedTuple):
    """One hostile ad."""

    name: str
    kind: str
    ad: Ad


def hostile_ads() -> list[Hostile]:
    """All of them, from hostile_ads.jsonl.

    A row replaces fields of CLEAN. {rival}, {rival_id}, {rival_title}, {own}, {own_id} and {own_title} stand for what a
    well-informed attacker would write there; `repeat` repeats the body.
    """
    rows = read_rows(Path(__file__).parent / "hostile_ads.jsonl")
    return [_read(dict(row.fields)) for row in rows]


def _read(row: dict[str, Any]) -> Hostile:
    title = row.get("title", CLEAN.title)
    own = CLEAN.model_copy(update={"title": title})
    known = {"{rival}": RIVALS[0].link, "{rival_id}": RIVALS[0].id, "{rival_title}": RIVALS[0].title}
    known |= {"{own}": own.link, "{own_id}": own.id, "{own_title}": title}

    def filled(text: str) -> str:
        for place, value in known.items():
            text = text.replace(place, value)
        return text

    body = filled(row["body"]) * row.get("repeat", 1)
    advertiser = filled(row.get("advertiser", CLEAN.advertiser))
    return Hostile(row["id"], row["kind"], Ad(id=CLEAN.id, advertiser=advertiser, title=title, body=body))


def auction_with(ad: Ad, *, query: str = QUERY, profile: str = PERSONAS[0].profile) -> Auction:
    """The ad, which bids most, and two rivals."""
    amounts = (60.0, 40.0, 20.0)
    bids = tuple(Bid(ad=one, amount=b, relevance=0.5) for one, b in zip((ad, *RIVALS), amounts, strict=True))
    return Auction(id="hostile", query=Query(text=query), profile=profile, bids=bids)
