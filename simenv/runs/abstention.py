"""Answers with ads on which the judge abstained: estimates without bias, and bounds without an assumption.

An answer without ads has no verdict to miss. If answers with an abstained ad were left out whole, those without ads
would count too much. So every answer counts, and every ad has its weight. In the numerator of a metric,
fixed + sum of weight x click, the click c of each ad is replaced by

    m + (o / p) (c - m)

where o is 1 if the verdict is known and 0 if not, p the share of known verdicts and m the mean click among them, over
the ads of one cell: same mechanism, same persona, same number of ads in the answer, same position. So a verdict is
weighted by the inverse of its estimated probability (augmented inverse probability weighting: Robins, Rotnitzky and
Zhao 1994). The mean is that of c, if the judge abstains independently of the click within a cell.

Overlap is the share of ads whose cell has a verdict. Elsewhere nothing can be weighted: m of a wider set of ads (same
persona and number of ads; number of ads and position; position; all) stands for the click, the first set that has a
verdict, or 10 if it is of many personas. If no verdict of the mechanism is known, there is no estimate.

The bounds assume nothing: each abstained ad is never clicked, or always, whatever makes the number smallest or largest
(Manski 1989, "Anatomy of the selection problem").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from simenv.records import Click, Transition
from simenv.runs.metric_types import ClickSum

_LEAST_VERDICTS = 10
"""Known verdicts that a set of ads over all personas needs to stand for an ad without one."""


class Completed(NamedTuple):
    """One answer of a metric that sums clicks."""

    pair: tuple[float, float] | None
    """Numerator and denominator; None if no verdict on any ad of the mechanism is known."""
    least: float
    """The smallest possible numerator."""
    most: float
    """The largest possible numerator."""
    draws: dict[str, float]
    """Ad id -> weight of its realised click in the estimate. The square is in expectation over abstentions."""


class Verdicts:
    """How many verdicts on the shown ads of one mechanism are known.

    Args:
        expected: Whether clicks are click probabilities, or realised.
    """

    def __init__(self, expected: bool) -> None:
        self._expected = expected
        self.shown = 0
        """Number of shown ads."""
        self.known = 0
        """Number of verdicts."""
        self.clicks = 0.0
        """Sum of the clicks."""

    def add(self, transition: Transition) -> None:
        """Adds the verdicts on one more answer."""
        for click in transition.feedback.clicks:
            known = known_click(click, self._expected)
            self.shown += 1
            self.known += known is not None
            self.clicks += known or 0.0

    def add_all(self, other: Verdicts) -> None:
        """Adds the verdicts on later answers of the same mechanism."""
        self.shown += other.shown
        self.known += other.known
        self.clicks += other.clicks

    @property
    def complete(self) -> bool:
        """Whether no verdict is missing."""
        return self.shown == self.known

    @property
    def abstained(self) -> float:
        """Share of shown ads without a verdict; 0 if no ad was shown."""
        return 1 - self.known / self.shown if self.shown else 0.0


class _Ads(NamedTuple):
    """A set of shown ads; None: of any."""

    persona: str | None = None
    n: int | None = None
    """Number of ads in the answer."""
    position: int | None = None

    @property
    def is_cell(self) -> bool:
        return self.persona is not None and self.position is not None

    @property
    def least(self) -> int:
        """Known verdicts with which it may stand for an ad without one."""
        return 1 if self.persona is not None or self == _ALL else _LEAST_VERDICTS


_ALL = _Ads()


class Weighting:
    """Completes the answers of one mechanism, after all of them were added.

    Args:
        expected: Whether clicks are click probabilities, or realised.
        transitions: Its answers.
    """

    def __init__(self, expected: bool, transitions: Iterable[Transition] = ()) -> None:
        self._expected = expected
        self._counts: dict[_Ads, list[float]] = {}  # shown, known, clicks
        for transition in transitions:
            self.add(transition)

    def add(self, transition: Transition) -> None:
        """Adds the verdicts on one more answer."""
        n = len(transition.feedback.clicks)
        for position, click in enumerate(transition.feedback.clicks):
            known = known_click(click, self._expected)
            for ads in _sets(transition.persona_id, n, position):
                counts = self._counts.setdefault(ads, [0.0, 0.0, 0.0])
                counts[0] += 1
                counts[1] += known is not None
                counts[2] += known or 0.0

    @property
    def complete(self) -> bool:
        """Whether no verdict is missing."""
        shown, known, _ = self._of(_ALL)
        return shown == known

    @property
    def overlap(self) -> float:
        """Share of shown ads whose cell has a verdict; 1 if no ad was shown."""
        cells = [counts for ads, counts in self._counts.items() if ads.is_cell]
        shown = sum(counts[0] for counts in cells)
        return sum(counts[0] for counts in cells if counts[1]) / shown if shown else 1.0

    @property
    def abstained(self) -> tuple[float, ...]:
        """Share of shown ads without a verdict, by their position in the answer."""
        shares: list[float] = []
        while (at := _Ads(position=len(shares))) in self._counts:
            shown, known, _ = self._of(at)
            shares.append(1 - known / shown)
        return tuple(shares)

    def complete_answer(self, transition: Transition, parts: ClickSum) -> Completed:
        """One answer of a metric of these parts."""
        above = least = most = parts.fixed
        draws = {}
        clicks = transition.feedback.clicks
        n = len(clicks)
        shown, verdicts, _ = self._of(_ALL)
        estimable = verdicts > 0 or not shown
        for position, click in enumerate(clicks):
            weight, known = parts.weights[click.ad_id], known_click(click, self._expected)
            least += min(weight, 0.0) if known is None else weight * known
            most += max(weight, 0.0) if known is None else weight * known
            if estimable:
                observed, mean = self._like(transition.persona_id, n, position)
                above += weight * (mean if known is None else mean + (known - mean) / observed)
                draws[click.ad_id] = weight / observed**0.5
        return Completed((above, parts.below) if estimable else None, least, most, draws)

    def _like(self, persona: str, n: int, position: int) -> tuple[float, float]:
        """Share of known verdicts, and mean click among them, of the smallest set of ads like this one that has any."""
        for ads in _sets(persona, n, position):
            shown, known, clicks = self._of(ads)
            if known >= ads.least:
                return known / shown, clicks / known
        raise AssertionError("no verdict is known")

    def _of(self, ads: _Ads) -> list[float]:
        return self._counts.get(ads, [0.0, 0.0, 0.0])


def _sets(persona: str, n: int, position: int) -> tuple[_Ads, ...]:
    """The sets that an ad is in: its cell, then wider ones."""
    return _Ads(persona, n, position), _Ads(persona, n), _Ads(None, n, position), _Ads(None, None, position), _ALL


def known_click(click: Click, expected: bool) -> float | None:
    """The click probability, or the click as 0 or 1; None where it is unknown."""
    known = click.click_prob if expected else click.clicked
    return None if known is None else float(known)
