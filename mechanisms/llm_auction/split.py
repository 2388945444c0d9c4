"""Splits personas and ads into training, validation and test parts by a keyed hash of their ids.

The parts are the same on every machine, and a record keeps its part when a pack grows. The auctions of a part use only
its own personas and its own ads, so test auctions have both new personas and new ads.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from simenv.records import Ad, Persona
from simenv.seeding import keyed_rng

Part = Literal["train", "validation", "test"]
_SHARES = {"train": 0.60, "validation": 0.15}  # the remaining 0.25 is the test part

Owned = TypeVar("Owned", Ad, Persona)


def part_of(record: Ad | Persona) -> Part:
    """The part that an ad or a persona belongs to."""
    draw = keyed_rng("llm-auction split", type(record).__name__, record.id).random()
    if draw < _SHARES["train"]:
        return "train"
    return "validation" if draw < _SHARES["train"] + _SHARES["validation"] else "test"


def only(records: Iterable[Owned], part: Part) -> list[Owned]:
    """The records of one part, in order."""
    return [record for record in records if part_of(record) == part]
