"""Shards: the parts of a run that several machines run, each on its own.

A run is dealt out in blocks. A block is the smallest number of whole chunks that holds whole sessions. So a session
whose queries a language model writes is written once, and a local model's batches are those of the whole run. Shard i
of n has the blocks i, i + n, i + 2n, ...
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from simenv.errors import InputError


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` parts, numbered from 0."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


class Span(NamedTuple):
    """Where the auctions of a run, or of a shard of it, lie."""

    auctions: int
    """How many there are."""
    end: int
    """The index after the last one."""


def read_shard(text: str) -> Shard:
    """Returns the shard of a text such as "0/4".

    Raises:
        InputError: another text, or a number that is not below the number of shards.
    """
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    shard = Shard(int(match[1]), int(match[2])) if match else Shard(0, 0)
    if shard.count < 1:
        raise InputError(f"shard: expected INDEX/COUNT such as 0/4, got {text!r}")
    if shard.index >= shard.count:
        first, last = Shard(0, shard.count), Shard(shard.count - 1, shard.count)
        raise InputError(
            f"shard: {shard.count} shards are numbered from {first} to {last}, got {text!r}",
            hint="let the index of the job array begin at 0" if shard.index == shard.count else None,
        )
    return shard


class Blocks:
    """The blocks of a run.

    Args:
        n: Auctions of the run.
        chunk: Auctions per chunk.
        horizon: Auctions per session.
    """

    def __init__(self, n: int, chunk: int, horizon: int) -> None:
        self._n = n
        self._chunk = chunk
        self.auctions = math.lcm(chunk, horizon)
        """Auctions per block."""
        self._chunks = self.auctions // chunk
        self.count = -(-n // self.auctions)
        """Number of blocks; the last one may be short."""

    def check(self, shard: Shard) -> None:
        """Refuses shards of which some have nothing to run.

        Raises:
            InputError: there are fewer blocks than shards.
        """
        if shard.count > self.count:
            raise InputError(
                f"{self._n} auctions are {self.count} blocks of {self.auctions} (whole chunks of {self._chunk} with "
                f"whole sessions): at most {self.count} shards, got {shard.count}",
                hint="blocks are smallest where chunk is the horizon or a multiple of it",
            )

    def shard_of(self, chunk: int, count: int) -> int:
        """The index of the shard, one of `count`, that has this chunk."""
        return chunk // self._chunks % count

    def chunks(self, shard: Shard | None = None) -> Iterator[int]:
        """The numbers of the chunks of a shard, or of the run, in order."""
        total = -(-self._n // self._chunk)
        for block in self._blocks(shard):
            yield from range(block * self._chunks, min((block + 1) * self._chunks, total))

    def span(self, shard: Shard | None = None) -> Span:
        """Where the auctions of a shard, or of the run, lie."""
        blocks = self._blocks(shard)
        if not blocks:
            return Span(0, 0)
        end = min((blocks[-1] + 1) * self.auctions, self._n)
        return Span((len(blocks) - 1) * self.auctions + end - blocks[-1] * self.auctions, end)

    def _blocks(self, shard: Shard | None) -> range:
        return range(self.count) if shard is None else range(shard.index, self.count, shard.count)


def refuse_learners(learners: Sequence[str]) -> None:
    """Refuses to shard a run whose auctions depend on those before.

    Args:
        learners: Names of the bidders and mechanisms that learn.

    Raises:
        InputError: there are some.
    """
    if learners:
        raise InputError(
            f"{', '.join(learners)} learn from the auctions before, so that no part of the run can be run apart",
            hint="run each mechanism apart, with the same seed, and compare the runs: they meet the same auctions",
        )


def shard_of_options(options: Mapping[str, Any]) -> Shard | None:
    """The shard that a manifest's options name; None: the whole run."""
    text = options.get("shard")
    return read_shard(text) if isinstance(text, str) else None


def span_of_options(options: Mapping[str, Any]) -> Span | None:
    """Where the auctions of a manifest's run or shard lie; None if its options do not say how many there are."""
    n, shard = options.get("n"), shard_of_options(options)
    if not isinstance(n, int):
        return None
    return Span(n, n) if shard is None else Blocks(n, options["chunk"], options["horizon"]).span(shard)
