"""Sums over the answers of each persona, from which ratios with clustered intervals are made."""

from __future__ import annotations

from collections import defaultdict

from simenv.records import Click
from simenv.stats import Estimate, ratio


class ClusteredSums:
    """A ratio of sums over rows, kept as one pair of sums a persona: memory does not grow with the rows."""

    def __init__(self) -> None:
        self._pairs: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._squares = 0.0

    def add(self, persona: str, above: float, below: float = 1.0, weight: float = 0.0) -> None:
        """Adds one row.

        Args:
            persona: Its cluster.
            above: Its numerator.
            below: Its denominator.
            weight: How much one click more would add to the numerator, if the click was drawn.
        """
        pair = self._pairs[persona]
        pair[0] += above
        pair[1] += below
        self._squares += weight**2

    def estimate(self, variance: float = 0.0) -> Estimate:
        """The ratio with its 95% interval, clustered by persona.

        Args:
            variance: That of one realised click, see `simenv.stats.draw_variance`; 0 where clicks are expectations.
        """
        personas = sorted(self._pairs)
        total = sum(self._pairs[name][1] for name in personas)
        least = variance * self._squares / total**2 if total else 0.0
        return ratio([(above, below) for above, below in map(self._pairs.__getitem__, personas)], personas).interval(
            least
        )


def click_of(click: Click, expected: bool) -> float | None:
    """A click (0 or 1) or its probability; None if the judge abstained."""
    known = click.click_prob if expected else click.clicked
    return None if known is None else float(known)
