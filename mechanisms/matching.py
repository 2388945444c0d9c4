"""Matchings of ads to positions that maximise a sum of gains, and what each matched ad takes from the others.

A matching gives an ad at most one position, a position at most one ad, and uses at most K positions.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from simenv.ctr.models import Floats


def best_places(gains: Floats, most: int) -> dict[int, int]:
    """The matching with the greatest sum of gains: ad -> position, without pairs that gain nothing.

    Args:
        gains: Gain of each ad in each position, 0 or more: shape (n, m).
        most: K, the largest number of ads.
    """
    # One dummy for each position that must stay empty, with a value above that of any matching.
    spare = max(0, gains.shape[1] - most)
    dummies = np.full((spare, gains.shape[1]), 1 + gains.sum())
    rows, columns = linear_sum_assignment(np.vstack([gains, dummies]), maximize=True)
    pairs = ((int(i), int(j)) for i, j in zip(rows, columns, strict=True))
    return {i: j for i, j in pairs if i < len(gains) and gains[i, j] > 0 and most}


def losses(gains: Floats, places: dict[int, int]) -> dict[int, float]:
    """What each ad of a best matching takes from the others: ad -> their best sum without it less their sum with it.

    If ad i leaves position j, the others gain by the best chain of moves that ends at j. An ad that is not matched, or
    none, takes a position; the ad that had it moves to the next position, and so on. If the chain comes to an empty
    position, it stops there, or another ad leaves its position empty in exchange and moves on: with K ads this keeps
    their number. No cycle of moves gains anything, because the matching is the best one. So the longest paths between
    the m positions give all losses, without another matching (Floyd and Warshall, 1962).

    Args:
        gains: As in `best_places`.
        places: Its result.
    """
    n, m = gains.shape
    ads = np.array(list(places), dtype=np.intp)
    columns = np.array(list(places.values()), dtype=np.intp)
    paths = np.full((m, m), -np.inf)
    paths[:, columns] = 0.0  # from an empty position; the rows of the others follow
    paths[columns] = gains[ads] - gains[ads, columns][:, None]
    np.fill_diagonal(paths, 0.0)
    for k in range(m):
        np.maximum(paths, paths[:, k, None] + paths[None, k, :], out=paths)
    unmatched = np.ones(n, dtype=bool)
    unmatched[ads] = False
    entry = gains[unmatched].max(axis=0, initial=0.0)
    chains = (entry[:, None] + paths).max(axis=0, initial=0.0)
    return {i: float(chains[j]) for i, j in places.items()}
