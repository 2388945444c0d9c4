"""A FAKE model that writes packs: records of the right format with random words.

It tests how replies are processed; its records do not describe any model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from threading import Lock
from typing import Any

from simenv.packmaker.kinds import AGES, ATTITUDES
from simenv.seeding import keyed_rng

_SYLLABLES = (
    *("ba", "ce", "di", "fo", "gu", "ha", "je", "ki", "lo", "mu", "na", "pe", "ri", "so", "tu", "va", "we", "xi"),
    *("yo", "zu", "bra", "cle", "dri", "flo", "gru", "sta", "pli", "tro"),
)


class FakeAuthor:
    """Replies to `pack_*.txt` prompts. `spoil(number of the record, record)` may change or break a record."""

    def __init__(
        self, spoil: Callable[[int, dict[str, Any]], Any] = lambda number, record: record, name: str = "author"
    ) -> None:
        self.name = name
        self.spoil = spoil
        self.prompts: list[str] = []
        self.cells: list[str] = []
        self._written = 0
        self._lock = Lock()

    def __call__(self, messages: list[dict[str, Any]]) -> str:
        with self._lock:  # a server calls it from several threads
            return self._reply(messages)

    def _reply(self, messages: list[dict[str, Any]]) -> str:
        system, user = messages[0]["content"], messages[-1]["content"]
        if user == "Hello":
            return "Hi"
        self.prompts.append(user)
        write = self._person if '"attitude"' in system else self._ad if '"advertiser"' in system else self._query
        records = []
        for number, cell in re.findall(r"^(\d+)\. (.*)$", user, re.MULTILINE):
            self.cells.append(cell)
            self._written += 1
            levels = dict(part.split(": ") for part in cell.split(", ") if ": " in part)
            records.append(self.spoil(self._written, {"number": int(number), **write(levels, user)}))
        return json.dumps({"records": records})

    def words(self, n: int, what: str) -> str:
        """Returns n words that depend on the author's name, the record and `what`."""
        rng = keyed_rng(self.name, self._written, what)
        return " ".join("".join(rng.choice(_SYLLABLES, 4)) for _ in range(n))

    def _person(self, cell: dict[str, str], user: str) -> dict[str, Any]:
        listed = re.search(r"^Categories: (.*)$", user, re.MULTILINE)
        assert listed
        categories = listed[1].split("; ")
        return {
            "info": self.words(16, "info"),
            "age": AGES[cell["age"]][0],
            "interests": [self.words(2, f"interest {i}") for i in range(4)],
            "attitude": self.words(18, "attitude"),
            "ad_tolerance": sum(ATTITUDES[cell["attitude"]]) / 2,
            "price_sensitivity": 0.5,
            "patience": 0.5,
            "affinity": [{"category": c, "taste": t} for c, t in zip(categories, (-0.5, 0.2, 0.7), strict=False)],
            "queries": [self.words(8, f"query {i}") for i in range(5)],
        }

    def _ad(self, cell: dict[str, str], user: str) -> dict[str, Any]:
        name = self.words(2, "name")
        return {"advertiser": name, "title": f"{name} {self.words(1, 'title')}", "body": self.words(25, "body")}

    def _query(self, cell: dict[str, str], user: str) -> dict[str, Any]:
        return {"text": self.words(9, "text") + "?"}
