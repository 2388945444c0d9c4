"""Clearing genre VCG with 10^5 bidders, 50 genres and 100 points: the matching, with and without all payments.

    python -m benchmarks.speed.genres

Bids are log-normal, coherence is uniform, and all points may be sold. Before it is timed, some payments are held
against a second matching without their winner.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks.speed.measure import Aim, compare
from mechanisms.genre_vcg import Indices, best_of_each, clear
from mechanisms.matching import best_places
from simenv.ctr.models import Floats

CHECKED = 5
"""Payments that are held against a second matching."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bidders", type=int, default=100_000)
    parser.add_argument("--genres", type=int, default=50)
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    values, genre = rng.lognormal(3, 1, given.bidders), rng.integers(0, given.genres, given.bidders)
    coherence = rng.random((given.genres, given.points))
    winners, worst = _check(values, genre, coherence, given.points)

    def full() -> float:
        began = time.perf_counter()
        clear(values, genre, coherence, given.points)
        return time.perf_counter() - began

    def matching() -> float:
        began = time.perf_counter()
        _match(values, genre, coherence, given.points)
        return time.perf_counter() - began

    compare(
        f"Genre VCG: clearing {given.bidders:,} bidders of {given.genres} genres at {given.points} points, one thread",
        "s",
        {"matching and payments": full, "matching": matching},
        aim=Aim(1.25, of="number", at="most"),
        rounds=given.rounds,
        note=f"The aim is the paper's time for 10^5 bidders and 100 points (second-hand). {winners} winners; {CHECKED} "
        f"payments differ from those of a second matching by at most {worst:.1g}.",
    )


def _match(values: Floats, genre: Indices, coherence: Floats, points: int) -> tuple[Floats, dict[int, int]]:
    kept = best_of_each(values, genre, points + 1)
    gains = values[kept, None] * coherence[genre[kept]]
    return gains, best_places(gains, points)


def _check(values: Floats, genre: Indices, coherence: Floats, points: int) -> tuple[int, float]:
    """Number of winners, and the largest difference of a payment from that of a second matching."""
    places, paid = clear(values, genre, coherence, points)
    gained = {i: float(values[i] * coherence[genre[i], j]) for i, j in places.items()}
    worst = 0.0
    for i in list(places)[:CHECKED]:
        gains, without = _match(np.where(np.arange(len(values)) == i, 0.0, values), genre, coherence, points)
        others = sum(float(gains[k, j]) for k, j in without.items())
        worst = max(worst, abs(paid[i] - (others - (sum(gained.values()) - gained[i]))))
    return len(places), worst


if __name__ == "__main__":
    main()
