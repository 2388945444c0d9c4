"""Who and what is trained on: personas and ads are dealt to three parts by a keyed hash of their ids.

So the parts are the same on every machine and do not move when a pack grows. A part's auctions have its own personas
and its own ads alone: what is held out is held out both ways.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeVar

from simenv.records import Ad, Persona
from simenv.seeding import keyed_rng

Part = Literal["train", "validation", "test"]
_SHARES = {"train": 0.60, "validation": 0.15}  # the rest, 0.25, is for the test

Owned = TypeVar("Owned", Ad, Persona)


def part_of(record: Ad | Persona) -> Part:
    """The part that an ad or a persona belongs to."""
    draw = keyed_rng("llm-auction split", type(record).__name__, record.id).random()
    if draw < _SHARES["train"]:
        return "train"
    return "validation" if draw < _SHARES["train"] + _SHARES["validation"] else "test"


def only(records: Iterable[Owned], part: Part) -> list[Owned]:
    """Those of one part, in order."""
    return [record for record in records if part_of(record) == part]
