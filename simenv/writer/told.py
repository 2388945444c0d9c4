"""What a writer may tell of its text beside the text: whether it fell back to something else than was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from simenv.records import Ad, Auction


class Told(NamedTuple):
    """An answer with ads, and what its writer tells of it."""

    text: str
    details: Mapping[str, Any]
    """Goes into the outcome's `details`."""


@runtime_checkable
class Tells(Protocol):
    """A writer that tells more than its text."""

    async def told(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> Told:
        """`with_ads`, and what the writer tells of its text."""
        ...


class WritesWithAds(Protocol):
    """What `told_with_ads` needs of a writer."""

    async def with_ads(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> str:
        """See `Writer.with_ads`."""
        ...


async def told_with_ads(writer: WritesWithAds, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> Told:
    """An answer with ads, and what its writer tells of it; nothing if it is not one that tells."""
    if isinstance(writer, Tells):
        return await writer.told(auction, ads, sample)
    return Told(await writer.with_ads(auction, ads, sample), {})
