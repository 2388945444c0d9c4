"""Balance: chooses the combination of factors (age band x region x ...) that each record is written for."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence

from simenv.seeding import keyed_rng

Cell = dict[str, str]
"""Factor -> level, for instance {"age": "18-29", "region": "europe", ...}."""


def balanced_cells(factors: Mapping[str, Sequence[str]], n: int, seed: int) -> list[Cell]:
    """Returns n cells such that every prefix is balanced: first over each factor, then over each pair of factors.

    Each cell is the combination whose levels were used least so far; ties go to the combination whose pairs of levels
    were used least, then to a random draw. The first m of n cells are the same for every n.

    Args:
        factors: Factor -> its levels.
        n: Number of cells.
        seed: Key of the draws.
    """
    rng = keyed_rng("cells", seed)
    combinations = list(itertools.product(*factors.values()))
    used: Counter[Hashable] = Counter()
    cells = []
    for _ in range(n):
        order = rng.permutation(len(combinations))
        best = min((combinations[i] for i in order), key=lambda levels: _used(used, levels))
        singles, pairs = _parts(best)
        used.update([*singles, *pairs, tuple(singles)])
        cells.append(dict(zip(factors, best, strict=True)))
    return cells


def _used(used: Counter[Hashable], levels: Sequence[str]) -> tuple[int, int, int]:
    singles, pairs = _parts(levels)
    return sum(used[s] for s in singles), sum(used[p] for p in pairs), used[tuple(singles)]


def _parts(levels: Sequence[str]) -> tuple[list[tuple[int, str]], list[tuple[tuple[int, str], ...]]]:
    singles = list(enumerate(levels))
    return singles, list(itertools.combinations(singles, 2))
