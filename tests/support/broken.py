"""Mechanisms that ship, broken on purpose."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mechanisms.genre_vcg import GenreVCG
from mechanisms.lama import Lama, Pair
from mechanisms.mosaic import Mosaic
from mechanisms.position_auction import PositionAuction
from simenv import Auction, Outcome
from simenv.ctr.models import Floats
from simenv.mechanism import Lottery


def scaled(made: Outcome, factor: float) -> Outcome:
    return made.model_copy(update={"transfers": {ad_id: factor * paid for ad_id, paid in made.transfers.items()}})


class Overcharging(Mosaic):
    """Charges `factor` times what its lottery says."""

    factor = 10.0

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return scaled(await super().run(auction, rng), self.factor)


class Free(Overcharging):
    factor = 0.0


class Shaded(Overcharging):
    """Charges 5% too little, and its lottery says so."""

    factor = 0.95

    async def lottery(self, auction: Auction) -> Lottery:
        return [(prob, scaled(made, self.factor)) for prob, made in await super().lottery(auction)]


class ShadedPositions(PositionAuction):
    def allocate(self, auction: Auction, pieces: object) -> tuple[dict[int, str], dict[str, float]]:
        places, prices = super().allocate(auction, pieces)  # type: ignore[arg-type]
        return places, {ad_id: max(auction.reserve, 0.95 * price) for ad_id, price in prices.items()}


class ShadedGenres(GenreVCG):
    def allocate(self, auction: Auction, coherence: Floats) -> tuple[dict[str, int], dict[str, float]]:
        places, paid = super().allocate(auction, coherence)
        return places, {ad_id: 0.95 * amount for ad_id, amount in paid.items()}


class ShadedLama(Lama):
    def prices(self, auction: Auction, pairs: Sequence[Pair]) -> dict[str, float]:
        prices = super().prices(auction, pairs)
        return {ad_id: max(auction.reserve, 0.95 * price) for ad_id, price in prices.items()}
