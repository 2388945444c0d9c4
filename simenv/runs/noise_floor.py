"""A judge's noise floor: how far the numbers of a run move when the same judge judges the same answers again.

Both times the answers are the same; only the keys of the judge's randomness differ. Let d be the change in the
difference of two mechanisms on one auction, in the numerator of a metric over the mean denominator. Keys of different
auctions are independent, so the difference over n auctions moves by about sqrt(mean of d^2 / n), and the floor is 1.96
times this: 95% of repetitions move it less. A difference inside the floor may be the judge's noise. A judge whose click
probabilities are functions of the answer has a floor of 0 where the table adds up probabilities.

Where the judge abstained, numerators are completed as in tables, see `simenv.runs.abstention`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations_with_replacement
from pathlib import Path

from pydantic import BaseModel, ValidationError

from simenv.errors import DataFileError
from simenv.files.limits import read_bytes
from simenv.judges.ensemble_judge import prob_or_verdict
from simenv.records import Record, Transition
from simenv.runs.abstention import Weighting
from simenv.runs.metric_types import SumsClicks
from simenv.runs.metrics import METRICS

CARD = "judge_card.json"
"""The file of a run's folder that may hold a noise floor."""
_Z = 1.959963984540054


class NoiseFloor(Record):
    """How far numbers move when the same judge judges the same answers again."""

    auctions: int
    """Auctions whose answers were judged twice."""
    ads: int
    """Ads that got a verdict both times."""
    expected: bool
    """Whether numbers are expectations over click probabilities, or of the clicks that happened."""
    same_verdict: float | None
    """Share of these ads with the same verdict."""
    change: float | None
    """Mean absolute change in click probability (of the verdict, where there is none)."""
    abstained: tuple[float, float]
    """Share of shown ads without a verdict, the first time and the second."""
    moves: dict[str, dict[str, dict[str, float]]]
    """Metric -> mechanism -> mechanism -> root mean square, over auctions, of how far their difference on one auction
    moves; of a mechanism and itself: how far its own value moves."""

    def floor(self, metric: str, one: str, other: str, n: int) -> float | None:
        """How far a paired difference over n auctions moves: 95% of repetitions move it less. None if unknown.

        Args:
            metric: A metric that sums clicks.
            one, other: Two mechanisms; twice the same for its own value.
            n: Number of auctions.
        """
        of = self.moves.get(metric, {})
        move = of.get(one, {}).get(other, of.get(other, {}).get(one))
        return None if move is None or n < 1 else _Z * move / math.sqrt(n)


def noise_floor(first: Sequence[Transition], again: Sequence[Transition]) -> NoiseFloor:
    """The noise floor from two judgements of the same answers, in the same order."""
    answers = zip(first, again, strict=True)
    clicks = [pair for one, two in answers for pair in zip(one.feedback.clicks, two.feedback.clicks, strict=True)]
    decided = [(one, two) for one, two in clicks if one.clicked is not None and two.clicked is not None]
    probs = [(prob_or_verdict(one) or 0.0, prob_or_verdict(two) or 0.0) for one, two in decided]
    expected = all(click.click_prob is not None or click.clicked is None for pair in clicks for click in pair)
    return NoiseFloor(
        auctions=len({t.index for t in first}),
        ads=len(decided),
        expected=expected,
        same_verdict=_mean(float(one.clicked == two.clicked) for one, two in decided),
        change=_mean(abs(one - two) for one, two in probs),
        abstained=(_abstained(first), _abstained(again)),
        moves={m.name: _moves(_changes(m, first, again, expected)) for m in METRICS if isinstance(m, SumsClicks)},
    )


def read_floor(folder: Path, judge: str | None, judge_sha256: str | None) -> NoiseFloor | None:
    """The noise floor on the judge card in a run's folder; None if there is none, or it is of another judge.

    Raises:
        DataFileError: the card cannot be read.
    """
    file = folder / CARD
    if not file.is_file():
        return None
    try:
        card = _Card.model_validate_json(read_bytes(file))
    except ValidationError as error:
        raise DataFileError(f"{file}: no judge card: {error.errors()[0]['msg']}") from None
    return card.noise_floor if (card.judge, card.judge_sha256) == (judge, judge_sha256) else None


class _Card(BaseModel):
    """What is needed of a judge card; `simenv.validity.card` has the rest."""

    judge: str
    judge_sha256: str | None
    noise_floor: NoiseFloor | None


def _changes(
    metric: SumsClicks, first: Sequence[Transition], again: Sequence[Transition], expected: bool
) -> dict[str, dict[int, float]]:
    """Mechanism -> index of the auction -> change of the numerator over the mean denominator."""
    changes: dict[str, dict[int, float]] = {}
    for mechanism in dict.fromkeys(t.mechanism for t in first):
        pairs = [(one, two) for one, two in zip(first, again, strict=True) if one.mechanism == mechanism]
        before, after = (Weighting(expected, (pair[side] for pair in pairs)) for side in (0, 1))
        moved, below = dict[int, float](), list[float]()
        for one, two in pairs:
            parts = metric.parts(one)  # of the first for both: they depend on no click, but for rounding
            if parts is None:
                continue
            was, now = before.complete_answer(one, parts).pair, after.complete_answer(two, parts).pair
            if was is not None and now is not None:
                moved[one.index] = now[0] - was[0]
                below.append(parts.below)
        mean = sum(below) / len(below) if below else 0.0
        if mean:
            changes[mechanism] = {index: move / mean for index, move in moved.items()}
    return changes


def _moves(changes: Mapping[str, Mapping[int, float]]) -> dict[str, dict[str, float]]:
    moves: dict[str, dict[str, float]] = {}
    for one, other in combinations_with_replacement(changes, 2):
        both = sorted(changes[one].keys() & changes[other].keys())
        if both:
            theirs = changes[other] if one != other else dict.fromkeys(both, 0.0)
            squares = [(changes[one][index] - theirs[index]) ** 2 for index in both]
            moves.setdefault(one, {})[other] = math.sqrt(sum(squares) / len(squares))
    return moves


def _abstained(rows: Iterable[Transition]) -> float:
    clicks = [click for t in rows for click in t.feedback.clicks]
    return sum(click.clicked is None for click in clicks) / len(clicks) if clicks else 0.0


def _mean(numbers: Iterable[float]) -> float | None:
    every = list(numbers)
    return sum(every) / len(every) if every else None
