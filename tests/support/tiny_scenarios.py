"""Two small scenarios in the format of the contrast suite, for its tests."""

from __future__ import annotations

from typing import Any

from simenv.validity.scenarios import Scenario


def row(name: str = "tea-1", **fields: Any) -> dict[str, Any]:
    """Returns one row of a scenario file, with some fields replaced."""
    return {
        "id": name,
        "category": "kitchen",
        "split": "dev",
        "query": "how do i keep my tea warm at the desk",
        "answer": "A lid keeps more heat than a thick wall. Rinse the pot with hot water first.",
        "persona": {"info": "Ines translates manuals at home.", "interests": ["tea", "dictionaries"]},
        "ad": {"advertiser": "Warmel", "title": "Warmel Lidded Pot", "body": "A Warmel pot with a tight lid."},
        "brand_swap": "Tepido",
        "rival": {"advertiser": "Hottel", "title": "Hottel Covered Pot", "body": "A covered pot that stays hot."},
        "second": {"advertiser": "Leafary", "title": "Leafary Green Tea", "body": "Loose green tea in tins."},
        "other": {"advertiser": "Gripp", "title": "Gripp Winter Tyres", "body": "Tyres for snow."},
        "extras": [
            {"advertiser": "Cuppo", "title": "Cuppo Mugs", "body": "Mugs for two."},
            {"advertiser": "Deskly", "title": "Deskly Lamp", "body": "A lamp for desks."},
            {"advertiser": "Sugra", "title": "Sugra Cubes", "body": "Sugar in cubes."},
        ],
        "cheap": {"advertiser": "Potto", "title": "Potto Basic", "body": "A plain pot for 6 euros."},
        "dear": {"advertiser": "Aurel", "title": "Aurel Silver Pot", "body": "A silver pot made to order."},
        "sentences": {
            "native": "With its tight lid {link} from Warmel holds the heat for an hour.",
            "spliced": "Elsewhere, {link} now ships to islands.",
            "hard_sell": "Grab {link} NOW, it is the best pot ever!",
            "paraphrase": "For about an hour {link} keeps tea hot, thanks to a lid that closes well.",
            "other": "On snow {link} keep their grip.",
            "rival": "Covered pots such as {link} do the same.",
            "second": "A tin of {link} lasts two months.",
            "cheap": "For a few coins there is {link}.",
            "dear": "A silversmith makes {link} to order.",
            "extras": ["Two people share {link}.", "Light comes from {link}.", "Sweeten it with {link}."],
        },
        "leak": "This pot was the highest bidder.",
        "after": "A cosy helps as well.",
        "interested": {"info": "Ines collects pots.", "interests": ["pots"]},
        "uninterested": {"info": "Ines asks for her aunt and drinks water.", "interests": ["water"]},
        "averse": "Skips every ad.",
        "tolerant": "Looks at ads with pleasure.",
        "frugal": "Turns every coin.",
        **fields,
    }


TWO = tuple(Scenario.model_validate(row(name)) for name in ("tea-1", "tea-2"))
