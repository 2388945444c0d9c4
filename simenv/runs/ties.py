"""Which differences of a comparison are ties: their interval holds 0, or they are inside the judge's noise floor."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from simenv.runs.metric_types import SumsClicks
from simenv.runs.metrics import METRICS
from simenv.runs.noise_floor import NoiseFloor, read_floor
from simenv.runs.summary import Cell, Table

_NOISELESS = re.compile(r"click-model-.*|embedded(#.*)?")
"""Names of judges whose click probabilities are functions of the answer."""
_METRICS = frozenset(metric.name for metric in METRICS if isinstance(metric, SumsClicks))


class Source(NamedTuple):
    """Where a mechanism of a comparison comes from."""

    run: str
    folder: Path
    manifest: Mapping[str, Any]
    mechanism: str
    """Its name in that run."""


class _Floor(NamedTuple):
    """What is known of the noise floor of one run's judge."""

    noiseless: bool
    card: NoiseFloor | None

    def of(self, metric: str, one: str, other: str, n: int) -> float | None:
        if self.noiseless:
            return 0.0
        return None if self.card is None else self.card.floor(metric, one, other, n)


def mark_ties(table: Table, sources: Mapping[str, Source]) -> Table:
    """The table with noise floors, as far as they are known, so that ties can be told.

    Args:
        table: The table of a comparison.
        sources: By the mechanism's label in the table.

    Raises:
        DataFileError: a run's judge card cannot be read.
    """
    floors = {source.run: _floor(source, table.expected) for source in sources.values()}
    auctions = {(cell.mechanism, cell.metric): cell.auctions for cell in table.cells}
    theirs = sources[table.baseline]

    def floor(cell: Cell) -> float | None:
        if cell.difference is None or cell.metric not in _METRICS:
            return None
        ours, name = sources[cell.mechanism], cell.metric
        n, n_theirs = cell.auctions, auctions[table.baseline, name]
        if ours.run == theirs.run:
            return floors[ours.run].of(name, ours.mechanism, theirs.mechanism, min(n, n_theirs))
        of_each = (
            floors[ours.run].of(name, ours.mechanism, ours.mechanism, n),
            floors[theirs.run].of(name, theirs.mechanism, theirs.mechanism, n_theirs),
        )
        return None if of_each[0] is None or of_each[1] is None else math.hypot(of_each[0], of_each[1])

    return table._replace(cells=[cell._replace(floor=floor(cell)) for cell in table.cells], ties=_said(floors))


def _floor(source: Source, expected: bool) -> _Floor:
    world = source.manifest.get("world", {})
    judge, sha256 = world.get("judge"), world.get("judge_sha256")
    if expected and _NOISELESS.fullmatch(str(judge)):
        return _Floor(True, None)
    card = read_floor(source.folder, judge, sha256)
    return _Floor(False, card if card is not None and card.expected == expected else None)


def _said(floors: Mapping[str, _Floor]) -> str:
    unknown = [run for run, floor in floors.items() if not floor.noiseless and floor.card is None]
    if unknown:
        return f"The noise floor is not known for {', '.join(unknown)}: there is no judge card of its judge."
    if all(floor.noiseless for floor in floors.values()):
        return "The noise floor is 0: the judge's click probabilities are functions of the answer."
    return f"Noise floors are from the judge cards of {', '.join(r for r, f in floors.items() if not f.noiseless)}."
