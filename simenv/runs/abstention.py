"""Answers with ads on which the judge abstained: estimates without bias, and bounds without an assumption.

An answer without ads has no verdict to miss. If answers with an abstained ad were left out whole, those without ads
would count too much. So every answer counts, and every ad has its weight. In the numerator of a metric,
fixed + sum of weight x click, the click c of each ad is replaced by

    m + (o / p) (c - m)

where o is 1 if the verdict is known and 0 if not, p the share of known verdicts and m the mean click among them, over
the ads at the same position of answers with the same number of ads of the same mechanism (augmented inverse probability
weighting: Robins, Rotnitzky and Zhao 1994). Its mean is that of c, if the judge abstains independently of the click
among such ads. Cells with few verdicts are pooled: over the number of ads, then over positions.

The bounds assume nothing: each abstained ad is never clicked, or always, whatever makes the number smallest or largest.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from simenv.records import Click, Transition
from simenv.runs.metrics import ClickSum

_LEAST_VERDICTS = 10
"""Known verdicts that a cell needs to stand alone."""


class Completed(NamedTuple):
    """One answer of a metric that sums clicks."""

    pair: tuple[float, float]
    """Numerator and denominator."""
    least: float
    """The smallest possible numerator."""
    most: float
    """The largest possible numerator."""
    draws: dict[str, float]
    """Ad id -> weight of its realised click in the estimate. The square is in expectation over abstentions."""


class Verdicts:
    """The judge's verdicts on the ads of one mechanism.

    Args:
        transitions: Its answers.
        expected: Whether clicks are click probabilities, or realised.
    """

    def __init__(self, transitions: Iterable[Transition], expected: bool) -> None:
        self._expected = expected
        self._cells: dict[Hashable, list[float]] = {(): [0.0, 0.0, 0.0]}  # shown, known, clicks
        for transition in transitions:
            self.add(transition)

    def add(self, transition: Transition) -> None:
        """Adds the verdicts on one more answer."""
        n = len(transition.feedback.clicks)
        for position, click in enumerate(transition.feedback.clicks):
            known = self._known(click)
            for key in _pools(n, position):
                counts = self._cells.setdefault(key, [0.0, 0.0, 0.0])
                counts[0] += 1
                counts[1] += known is not None
                counts[2] += known or 0.0

    def add_all(self, other: Verdicts) -> None:
        """Adds the verdicts on later answers of the same mechanism."""
        for key, counts in other._cells.items():
            self._cells[key] = [a + b for a, b in zip(self._cells.get(key, [0.0] * 3), counts, strict=True)]

    @property
    def shown(self) -> float:
        """Number of shown ads."""
        return self._cells[()][0]

    @property
    def known(self) -> float:
        """Number of verdicts."""
        return self._cells[()][1]

    @property
    def clicks(self) -> float:
        """Sum of the clicks."""
        return self._cells[()][2]

    @property
    def complete(self) -> bool:
        """Whether no verdict is missing."""
        return self.shown == self.known

    def complete_answer(self, transition: Transition, parts: ClickSum) -> Completed | None:
        """One answer of a metric of these parts; None if no verdict on any ad of the mechanism is known."""
        if self.shown and not self.known:
            return None
        above = least = most = parts.fixed
        draws = {}
        n = len(transition.feedback.clicks)
        for position, click in enumerate(transition.feedback.clicks):
            weight, known = parts.weights[click.ad_id], self._known(click)
            observed, mean = self._cell(n, position)
            above += weight * (mean if known is None else mean + (known - mean) / observed)
            least += min(weight, 0.0) if known is None else weight * known
            most += max(weight, 0.0) if known is None else weight * known
            draws[click.ad_id] = weight / observed**0.5
        return Completed((above, parts.below), least, most, draws)

    def _cell(self, n: int, position: int) -> tuple[float, float]:
        """Share of known verdicts, and mean click among them, of ads like one at this position of n."""
        for key in _pools(n, position):
            shown, known, clicks = self._cells[key]
            if known >= _LEAST_VERDICTS or (not key and known):
                return known / shown, clicks / known
        raise AssertionError("no verdict is known")

    def _known(self, click: Click) -> float | None:
        known = click.click_prob if self._expected else click.clicked
        return None if known is None else float(known)


def _pools(n: int, position: int) -> tuple[Hashable, ...]:
    return (n, position), (position,), ()
