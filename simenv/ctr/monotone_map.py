"""A monotone map from scores to probabilities, by centred isotonic regression.

Isotonic regression is a step function, and a step would make ties of scores that differ. So each step is replaced by
its centre (mean score, mean outcome), and the map is linear between centres: centred isotonic regression (Oron and
Flournoy 2017, "Centered isotonic regression: point and interval estimation for dose-response studies"). Outcomes are
first averaged over bins of equal size, since the outermost steps of a few rows would else be 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from simenv.errors import InputError
from simenv.records import Record

Floats = npt.NDArray[np.float64]
BINS = 20
LEAST_ROWS = 10
"""Rows of a bin, at least: with fewer rows there are fewer bins."""


class Knot(Record):
    """One point of the map."""

    score: float
    probability: float = Field(gt=0, lt=1)
    rows: float = Field(gt=0)
    """Held-out rows behind it."""


class MonotoneMap(Record):
    """A piecewise linear map, constant outside its knots."""

    knots: tuple[Knot, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _ascending(self) -> MonotoneMap:
        for one, next_one in zip(self.knots, self.knots[1:], strict=False):
            if not (one.score < next_one.score and one.probability < next_one.probability):
                raise ValueError(f"knots must ascend in score and probability, got {one} before {next_one}")
        return self

    def __call__(self, scores: Floats) -> Floats:
        """Probabilities: shape as `scores`."""
        x, y = [knot.score for knot in self.knots], [knot.probability for knot in self.knots]
        return np.asarray(np.interp(scores, x, y), dtype=np.float64)


class _Block(NamedTuple):
    score: float
    outcome: float
    rows: float


def fit_map(scores: Sequence[float] | Floats, outcomes: Sequence[float] | Floats) -> MonotoneMap:
    """Fits the map to held-out outcomes.

    Args:
        scores: One score a row.
        outcomes: Clicks (0 or 1) or click probabilities, in [0, 1].

    Raises:
        InputError: fewer than `LEAST_ROWS` rows.
    """
    x, y = np.asarray(scores, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if len(x) < LEAST_ROWS:
        raise InputError(f"a map from scores to probabilities needs at least {LEAST_ROWS} held-out rows, got {len(x)}")
    order = np.argsort(x, kind="stable")
    bins = np.array_split(order, max(1, min(BINS, len(x) // LEAST_ROWS)))
    least = 0.5 / len(x)  # no probability is 0 or 1 because few rows were seen
    blocks: list[_Block] = []
    for rows in bins:
        new = _Block(float(x[rows].mean()), float(np.clip(y[rows].mean(), least, 1 - least)), float(len(rows)))
        while blocks and (blocks[-1].outcome >= new.outcome or blocks[-1].score >= new.score):
            new = _pooled(blocks.pop(), new)  # pool adjacent violators; a tie is one block too
        blocks.append(new)
    return MonotoneMap(knots=tuple(Knot(score=b.score, probability=b.outcome, rows=b.rows) for b in blocks))


def _pooled(one: _Block, other: _Block) -> _Block:
    rows = one.rows + other.rows
    share = other.rows / rows
    return _Block(
        one.score + share * (other.score - one.score), one.outcome + share * (other.outcome - one.outcome), rows
    )
