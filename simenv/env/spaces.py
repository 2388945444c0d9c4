"""Gymnasium spaces whose elements are simenv's records."""

from __future__ import annotations

from typing import Any, TypeVar

import gymnasium
import numpy as np

from simenv.mechanism import Mechanism
from simenv.records import Ad, Auction, Bid, Outcome, Query, Record

R = TypeVar("R", bound=Record)

_WORDS = ("river", "lamp", "ticket", "garden", "coat", "train", "bread", "music", "window", "lesson", "wheel", "paper")


class _RecordSpace(gymnasium.Space[R]):
    """A space without shape: all records of one type."""

    def __init__(self, seed: int | np.random.Generator | None = None) -> None:
        super().__init__(shape=None, dtype=None, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class AuctionSpace(_RecordSpace[Auction]):
    """All auctions. `sample` returns an auction of random words, for interface checks."""

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> Auction:
        rng = self.np_random
        bids = tuple(
            Bid(
                ad=Ad(id=f"ad-{i}", advertiser=f"advertiser {i}", title=_phrase(rng, 2)),
                amount=float(rng.integers(1, 101)),
            )
            for i in range(int(rng.integers(1, 9)))
        )
        number = str(rng.integers(2**31))
        return Auction(id=number, query=Query(text=_phrase(rng, 6)), profile=_phrase(rng, 4), bids=bids)

    def contains(self, x: Any) -> bool:
        return isinstance(x, Auction)


class OutcomeSpace(_RecordSpace[Outcome]):
    """The actions of `env.step`: an Outcome for the current auction, or a Mechanism that is run on it.

    `sample` returns an answer without ads, which is valid for every auction.
    """

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> Outcome:
        return Outcome(response=f"{_phrase(self.np_random, 12).capitalize()}.")

    def contains(self, x: Any) -> bool:
        return isinstance(x, Outcome | Mechanism)


def _phrase(rng: np.random.Generator, words: int) -> str:
    return " ".join(str(word) for word in rng.choice(_WORDS, size=words))
