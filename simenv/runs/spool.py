"""The numbers of answers on disk, column by column: memory does not grow with the number of answers.

A column holds the numerator and the denominator of one metric for the answers of one mechanism, and where clicks are
realised, the weight of each click. Columns are written and read in blocks of `BLOCK` answers. Constant parts of a block
(most denominators are 1) take no space.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.files.atomic import writing

BLOCK = 1024
"""Answers of a mechanism that are in memory before they are written."""
Array = npt.NDArray[Any]
Place = int | float
"""Where a part of a column lies: an offset in the file, or the number that all its rows have."""


class Draws(NamedTuple):
    """The clicks of several answers, one after the other."""

    counts: Array
    """Clicks of each answer: shape (answers,)."""
    ads: Array
    """Code of the ad: shape (clicks,), as the other parts."""
    weights: Array
    """Weight of the click in the numerator."""
    clicks: Array
    """0, 1, or 2 for an abstention."""

    def take(self, places: Array) -> Draws:
        """The clicks of the answers at these places."""
        counts = self.counts[places]
        starts = (np.cumsum(self.counts) - self.counts)[places]
        flat = np.repeat(starts - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return Draws(counts, self.ads[flat], self.weights[flat], self.clicks[flat])


class Rows(NamedTuple):
    """Some answers of a column; every part has the shape (answers,)."""

    indices: Array
    """Index of the auction."""
    personas: Array
    """Code of the persona."""
    texts: Array
    """Hash of the answer."""
    above: Array
    below: Array
    draws: Draws | None
    """None where clicks are expectations, or the metric sums none."""

    def take(self, places: Array) -> Rows:
        """The answers at these places."""
        draws = self.draws.take(places) if self.draws is not None else None
        indices, personas, texts, above, below = (part[places] for part in self[:5])
        return Rows(indices, personas, texts, above, below, draws)


class _Column(NamedTuple):
    n: int
    absent: int | None
    """Offset of the places that have no number; None if all have one."""
    above: Place
    below: Place
    draws: tuple[int, int, int, int, int] | None
    """Number of clicks, and the offsets of the parts of `Draws`."""


@dataclass
class _Block:
    n: int
    keys: tuple[int, int, int]
    """Offsets of indices, personas and texts."""
    columns: list[_Column]


@dataclass
class Spool:
    """The columns of one mechanism in one file.

    Args:
        path: The file; it is written anew.
        width: Number of columns.
        draws: The columns that have draws.
    """

    path: Path
    width: int
    draws: frozenset[int] = frozenset()
    ascending: bool = True
    """Whether every index exceeds the one before it."""
    first: int | None = None
    last: int | None = None
    """Smallest and largest index so far, where they ascend."""
    personas: dict[str, int] = field(default_factory=dict)
    ads: dict[str, int] = field(default_factory=dict)
    numbers: list[int] = field(default_factory=list)
    """Answers with a number, by column."""
    seen: list[set[int]] = field(default_factory=list)
    """Personas with a number, by column."""
    any_above: list[bool] = field(default_factory=list)
    any_below: list[bool] = field(default_factory=list)
    """Whether a column has a numerator, or a denominator, that is not 0."""
    _blocks: list[_Block] = field(default_factory=list)
    _end: int = 0
    _keys: list[tuple[int, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.numbers = [0] * self.width
        self.seen = [set() for _ in range(self.width)]
        self.any_above, self.any_below = [False] * self.width, [False] * self.width
        self._forget()
        with writing(self.path):
            self.path.write_bytes(b"")

    def add(
        self,
        index: int,
        persona: str,
        text: str,
        pairs: Sequence[tuple[float, float] | None],
        draws: Mapping[int, Sequence[tuple[str, float, int]]],
    ) -> None:
        """Adds an answer.

        Args:
            index, persona: Of its auction.
            text: The answer.
            pairs: Numerator and denominator by column; None where unknown.
            draws: Column -> ad id, weight and click of each shown ad; a column without one has none.

        Raises:
            CannotWrite: the disk is full.
        """
        if self.last is not None and index <= self.last:
            self.ascending = False
        self.first = index if self.first is None else self.first
        self.last = index
        place = len(self._keys)
        self._keys.append((index, self.personas.setdefault(persona, len(self.personas)), _hash(text) if draws else 0))
        for k, pair in enumerate(pairs):
            if pair is None:
                self._absent[k].append(place)
                continue
            self._pairs[k].append(pair)
            if k in self.draws:
                clicks = draws.get(k, ())
                self._counts[k].append(len(clicks))
                self._clicks[k] += [(self.ads.setdefault(ad, len(self.ads)), w, c) for ad, w, c in clicks]
        if len(self._keys) == BLOCK:
            self.flush()

    def flush(self) -> None:
        """Writes what is in memory.

        Raises:
            CannotWrite: the disk is full.
        """
        if not self._keys:
            return
        indices, personas, texts = np.array(self._keys, np.int64).T
        everyone = set(np.unique(personas).tolist())
        with writing(self.path), self.path.open("ab") as file:

            def put(array: Array) -> int:
                at, self._end = self._end, self._end + array.nbytes
                file.write(array.tobytes())
                return at

            def place(array: Array) -> Place:
                bits = array.view(np.int64)
                return float(array[0]) if len(array) and (bits == bits[0]).all() else put(array)

            keys = put(indices), put(personas), put(texts)
            columns = []
            for k in range(self.width):
                above, below = np.array(self._pairs[k], np.float64).reshape(-1, 2).T.copy()
                absent = np.array(self._absent[k], np.int64)
                present = np.delete(personas, absent) if len(absent) else personas
                self.seen[k] |= set(np.unique(present).tolist()) if len(absent) else everyone
                self.numbers[k] += len(above)
                self.any_above[k] |= bool(above.any())
                self.any_below[k] |= bool(below.any())
                drawn = None
                if k in self.draws:
                    ads, weights, clicks = zip(*self._clicks[k], strict=True) if self._clicks[k] else ((), (), ())
                    parts = [np.array(part, np.int64) for part in (self._counts[k], ads, clicks)]
                    offsets = put(parts[0]), put(parts[1]), put(np.array(weights, np.float64)), put(parts[2])
                    drawn = (len(ads), *offsets)
                columns.append(
                    _Column(len(above), put(absent) if len(absent) else None, place(above), place(below), drawn)
                )
        self._blocks.append(_Block(len(self._keys), keys, columns))
        self._forget()

    def rows(self, column: int) -> Iterator[Rows]:
        """The answers that have a number in a column, block by block, in the order in which they were added."""
        for block in self._blocks:
            yield self._rows_of(block, block.columns[column])

    def _rows_of(self, block: _Block, it: _Column) -> Rows:
        with self.path.open("rb") as file:  # per block: a caller may leave `rows` before its end

            def get(offset: int, n: int, kind: type = np.int64) -> Array:
                file.seek(offset)
                return np.frombuffer(file.read(8 * n), kind)

            def part(place: Place, n: int) -> Array:
                return np.full(n, place) if isinstance(place, float) else get(place, n, np.float64)

            keys = [get(offset, block.n) for offset in block.keys]
            if it.absent is not None:
                absent = get(it.absent, block.n - it.n)
                keys = [np.delete(key, absent) for key in keys]
            draws = None
            if it.draws is not None:
                clicks, *at = it.draws
                draws = Draws(get(at[0], it.n), get(at[1], clicks), get(at[2], clicks, np.float64), get(at[3], clicks))
            return Rows(keys[0], keys[1], keys[2], part(it.above, it.n), part(it.below, it.n), draws)

    def indices(self) -> Iterator[Array]:
        """The indices of all answers, block by block."""
        for block in self._blocks:
            with self.path.open("rb") as file:
                file.seek(block.keys[0])
                found = np.frombuffer(file.read(8 * block.n), np.int64)
            yield found

    def _forget(self) -> None:
        self._keys = []
        self._pairs: list[list[tuple[float, float]]] = [[] for _ in range(self.width)]
        self._absent: list[list[int]] = [[] for _ in range(self.width)]
        self._counts: list[list[int]] = [[] for _ in range(self.width)]
        self._clicks: list[list[tuple[int, float, int]]] = [[] for _ in range(self.width)]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)
