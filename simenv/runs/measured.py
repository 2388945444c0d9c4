"""One metric of one mechanism, and of two on the auctions that both answered: ratios and the least variances.

Numbers are read from their `Spool` block by block, once for each sum, in ascending order of the auctions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from simenv.runs.metric_types import OfAllAnswers
from simenv.runs.spool import Array, Draws, Rows
from simenv.runs.tally import Side
from simenv.stats import Ratio, draw_variance, streamed_ratio


class Measured:
    """One metric of one mechanism.

    Args:
        side: The mechanism's answers.
        column: The metric's place among those that were measured.
    """

    def __init__(self, side: Side, column: int) -> None:
        spools = side.spools
        self.n = sum(spool.numbers[column] for spool in spools)
        """Answers with a number."""
        names = ({persona for persona, code in s.personas.items() if code in s.seen[column]} for s in spools)
        self.personas = sorted(set().union(*names))
        self.any_above = any(spool.any_above[column] for spool in spools)
        self.any_below = any(spool.any_below[column] for spool in spools)
        least, most, below = side.bounds.get(column, (0.0, 0.0, 0.0))
        self.bounds = (least / below, most / below) if below else None
        """Smallest and largest value, if the judge abstained."""
        self.variance = draw_variance(side.verdicts.clicks, int(side.verdicts.known))
        """Of one realised click."""
        self._side, self._column = side, column

    def rows(self, ads: dict[str, int] | None = None) -> Iterator[Rows]:
        """The answers with a number, in ascending order; codes of personas are places in `personas`.

        Args:
            ads: Ad id -> code in the draws. None: codes are those of the spools.
        """
        spools = self._side.spools
        ends = [(spool.first, spool.last) for spool in spools if spool.last is not None]
        after = all(a[1] < b[0] for a, b in pairwise(ends))  # type: ignore[operator]
        if after and all(spool.ascending for spool in spools):
            yield from self._as_added(ads)
            return
        every = list(self._as_added(ads))
        if not every:
            return
        keys, personas, texts, above, below = (
            np.concatenate(parts) for parts in zip(*(rows[:5] for rows in every), strict=True)
        )
        draws = None
        if every[0].draws is not None:
            draws = Draws(*map(np.concatenate, zip(*(rows.draws or () for rows in every), strict=True)))
        yield Rows(keys, personas, texts, above, below, draws).take(np.argsort(keys, kind="stable"))

    @property
    def ads(self) -> set[str]:
        """The ads of the draws."""
        return set().union(*(spool.ads for spool in self._side.spools))

    def ratio(self) -> Ratio:
        """The ratio of sums over all answers with a number."""
        return self.ratio_of(lambda: ((r.above, r.below, r.personas) for r in self.rows()), self.n)

    def ratio_of(self, blocks: Callable[[], Iterable[tuple[Array, Array, Array]]], n: int) -> Ratio:
        """The ratio of n of its rows: above, below and persona codes, block by block.

        Of a metric of all answers together, the rows are in memory at once: 16 bytes an answer.
        """
        metric = self._side.metric(self._column)
        if not isinstance(metric, OfAllAnswers) or not n:
            return streamed_ratio(blocks, n, self.personas)
        ours, theirs, personas = (np.concatenate(parts) for parts in zip(*blocks(), strict=True))
        values = metric.values(ours, theirs)
        return streamed_ratio(lambda: [(values, np.ones(n), personas)], n, self.personas)

    def least_variance(self) -> float:
        """The variance of independent clicks; 0 where clicks are expectations."""
        total = _total(self.rows())
        weights = (w for rows in self.rows() for w in _Clicks.of(rows, total).weights.tolist())
        return float(self.variance * sum(w**2 for w in weights))

    def _as_added(self, ads: dict[str, int] | None) -> Iterator[Rows]:
        place = {persona: i for i, persona in enumerate(self.personas)}
        for spool in self._side.spools:
            persona_codes = np.array([place.get(persona, 0) for persona in spool.personas], np.int64)
            ad_codes = np.array([], np.int64)
            if ads is not None:
                ad_codes = np.array([ads[ad_id] for ad_id in spool.ads], np.int64)
            for rows in filter(_any, spool.rows(self._column)):
                draws = rows.draws
                if draws is not None and ads is not None:
                    draws = draws._replace(ads=ad_codes[draws.ads])
                yield rows._replace(personas=persona_codes[rows.personas], draws=draws)


class Pairing:
    """One metric of two mechanisms, on the auctions for which both have a number."""

    def __init__(self, ours: Measured, theirs: Measured) -> None:
        self._both = (ours, theirs)
        self._n = sum(len(ours.indices) for ours, _ in self._pairs())

    @property
    def of_all(self) -> bool:
        """Whether no answer with a number is left out."""
        return all(measured.n == self._n for measured in self._both)

    def ratios(self) -> tuple[Ratio, Ratio]:
        """The ratios of both."""
        return self._ratio(0), self._ratio(1)

    def least_variance(self) -> float:
        """The variance of the difference if clicks are independent draws; 0 where they are expectations.

        An ad that both show is one draw with the difference of its weights, and a second one, for clicks that differ,
        if the answers differ.
        """
        totals = [_total(pair[side] for pair in self._pairs()) for side in (0, 1)]
        alone, both, product = [0.0, 0.0], 0.0, 0.0
        apart = differ = 0
        for pair in self._pairs():
            ours, theirs = (_Clicks.of(rows, total) for rows, total in zip(pair, totals, strict=True))
            _, here, there = np.intersect1d(ours.keys, theirs.keys, assume_unique=True, return_indices=True)
            for side, (clicks, shared) in enumerate(((ours, here), (theirs, there))):
                for w in np.delete(clicks.weights, shared).tolist():
                    alone[side] += w**2
            other = ours.texts[here] != theirs.texts[there]
            shown = zip(ours.weights[here].tolist(), theirs.weights[there].tolist(), other.tolist(), strict=True)
            for a, b, is_other in shown:
                both += (a - b) ** 2
                product += a * b * is_other
            apart += int(other.sum())
            differ += int((other & (ours.clicks[here] != theirs.clicks[there])).sum())
        of = [measured.variance for measured in self._both]
        return of[0] * alone[0] + of[1] * alone[1] + of[0] * both + draw_variance(differ, apart) * product

    def _ratio(self, side: int) -> Ratio:
        def blocks() -> Iterator[tuple[Array, Array, Array]]:
            for pair in self._pairs():
                yield pair[side].above, pair[side].below, pair[side].personas

        return self._both[side].ratio_of(blocks, self._n)

    def _pairs(self) -> Iterator[tuple[Rows, Rows]]:
        """The answers of both to the same auctions, part by part."""
        shown = set().union(*(measured.ads for measured in self._both))
        ads = {ad_id: code for code, ad_id in enumerate(sorted(shown))}  # not by the order of the answers
        ours, theirs = (measured.rows(ads) for measured in self._both)
        other = next(theirs, None)
        for rows in ours:
            while other is not None:
                _, here, there = np.intersect1d(rows.indices, other.indices, assume_unique=True, return_indices=True)
                if len(here):
                    yield rows.take(here), other.take(there)
                if other.indices[-1] > rows.indices[-1]:
                    break
                other = next(theirs, None)


class _Clicks(NamedTuple):
    """The clicks of some answers; every part has the shape (clicks,)."""

    keys: Array
    """Which ad of which answer."""
    weights: Array
    """Of the click in the ratio."""
    clicks: Array
    texts: Array

    @classmethod
    def of(cls, rows: Rows, total: float) -> _Clicks:
        """The clicks of answers whose denominators, with those of others, add up to `total`; none if that is 0."""
        if rows.draws is None or not total:
            return cls(*(np.zeros(0, np.int64) for _ in cls._fields))
        counts, ads, weights, clicks = rows.draws
        answers = np.repeat(np.arange(len(counts)), counts)
        return cls((answers << 32) + ads, weights / total, clicks, rows.texts[answers])


def _total(blocks: Iterable[Rows]) -> float:
    """The sum of the denominators; 0 if there are no draws, whose weights would be divided by it."""
    return float(sum(below for rows in blocks if rows.draws is not None for below in rows.below.tolist()))


def _any(rows: Rows) -> bool:
    return len(rows.indices) > 0
