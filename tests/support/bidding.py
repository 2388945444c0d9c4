"""Runs of the small world with bidders of one kind, under a first-price mechanism that needs no model."""

from __future__ import annotations

from typing import Any

import numpy as np

from simenv import Auction, Outcome, Transition, outcome
from simenv.background_loop import run_sync
from simenv.market.bidders import Bidder
from simenv.mechanism import Mechanism
from simenv.runs.rollout import Finished, rollout
from simenv.testing import small_world


class FirstPrice:
    """Shows the highest bids, which pay their bids per click."""

    def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        winners = sorted(auction.bids, key=lambda bid: -bid.amount)[: auction.max_ads]
        prices = {bid.ad.id: bid.amount for bid in winners if bid.amount > 0}
        links = " or ".join(bid.ad.link for bid in winners if bid.amount > 0)
        return outcome(auction, f"Consider {links}." if links else "Nothing.", prices)


def run(
    bidder: Bidder, mechanisms: dict[str, Mechanism] | None = None, *, n: int, chunk: int = 1, **world: Any
) -> list[Transition]:
    chunks: list[Finished] = []

    async def go() -> None:
        await rollout(
            small_world(bidder=bidder, **world),
            mechanisms or {"first_price": FirstPrice()},
            n=n,
            seed=0,
            on_chunk=chunks.append,
            chunk=chunk,
        )

    run_sync(go)
    return [row for finished in chunks for row in finished.transitions]
