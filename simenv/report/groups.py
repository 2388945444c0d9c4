"""Click-through rate by position, by the ad's category and by groups of personas, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from simenv.records import Persona, Transition
from simenv.report.sums import ClusteredSums, click_of
from simenv.stats import Estimate, draw_variance

_MOST_CATEGORIES = 16
"""Categories that are shown most often stand alone."""


def _of_age(persona: Persona) -> str:
    if persona.age is None:
        return ""
    for below in (30, 45, 60):
        if persona.age < below:
            return f"under {below}" if below == 30 else f"{below - 15} to {below - 1}"
    return "60 and over"


def _of_tolerance(persona: Persona) -> str:
    tolerance = persona.traits.ad_tolerance
    return "low, below 1/3" if tolerance < 1 / 3 else "high, above 2/3" if tolerance > 2 / 3 else "middle"


PERSONA_GROUPS: dict[str, Callable[[Persona], str]] = {
    "region": lambda persona: persona.region,
    "income": lambda persona: persona.income,
    "age": _of_age,
    "tolerance of ads": _of_tolerance,
}
"""Grouping -> the group of a persona; empty if it is unknown."""
_ORDER = {
    "income": ("low", "middle", "high"),
    "age": ("under 30", "30 to 44", "45 to 59", "60 and over"),
    "tolerance of ads": ("low, below 1/3", "middle", "high, above 2/3"),
}


class GroupRate(NamedTuple):
    """The click-through rate of one mechanism in one group of shown ads."""

    mechanism: str
    group: str
    ctr: Estimate
    """Clicks per shown ad with a verdict."""
    ads: int
    """Shown ads with a verdict."""
    abstained: int
    """Shown ads without one: they are left out."""


class _Cell:
    def __init__(self) -> None:
        self.clicks = ClusteredSums()
        self.ads = self.abstained = 0


class ClickGroups:
    """Adds up answers by group. Answers that failed show no ads.

    Args:
        expected: Whether clicks are expectations over click probabilities, or realised; as the run's table has it.
        personas: Persona id -> persona, where they are known.
    """

    def __init__(self, expected: bool, personas: Mapping[str, Persona] | None = None) -> None:
        self._expected = expected
        self._personas = personas or {}
        self._cells: dict[str, dict[str, dict[str, _Cell]]] = {}
        self._draws: dict[str, list[float]] = {}

    def add(self, t: Transition) -> None:
        """Adds one answer."""
        categories = {bid.ad.id: bid.ad.category for bid in t.auction.bids}
        persona = self._personas.get(t.persona_id)
        theirs = {} if persona is None else {by: group(persona) for by, group in PERSONA_GROUPS.items()}
        for place, click in enumerate(t.feedback.clicks, start=1):
            known = click_of(click, self._expected)
            if known is not None:
                draws = self._draws.setdefault(t.mechanism, [0.0, 0.0])
                draws[0] += known
                draws[1] += 1
            groups = {
                "position": str(place) if place < 5 else "5 and on",
                "category": categories[click.ad_id],
                **theirs,
            }
            for by, group in groups.items():
                if group:
                    self._cell(by, group, t.mechanism, t.persona_id, known)

    def rates(self) -> dict[str, list[GroupRate]]:
        """Grouping ("position", "category", "region" and so on) -> its rates, group by group."""
        return {
            by: [self._rate(name, group, cell) for group, cells in found for name, cell in cells.items()]
            for by in ("position", "category", *PERSONA_GROUPS)
            if (found := self._ordered(by))
        }

    def _cell(self, by: str, group: str, mechanism: str, persona: str, known: float | None) -> None:
        cell = self._cells.setdefault(by, {}).setdefault(group, {}).setdefault(mechanism, _Cell())
        if known is None:
            cell.abstained += 1
        else:
            cell.ads += 1
            cell.clicks.add(persona, known, weight=not self._expected)

    def _ordered(self, by: str) -> list[tuple[str, dict[str, _Cell]]]:
        groups = self._cells.get(by, {})
        if by == "position":
            return sorted(groups.items())
        if by in _ORDER:
            known = [*_ORDER[by], *sorted(groups.keys() - set(_ORDER[by]))]
            return [(group, groups[group]) for group in known if group in groups]
        by_size = sorted(groups, key=lambda group: (-sum(c.ads + c.abstained for c in groups[group].values()), group))
        return [(group, groups[group]) for group in by_size[:_MOST_CATEGORIES]]

    def _rate(self, mechanism: str, group: str, cell: _Cell) -> GroupRate:
        clicks, n = self._draws.get(mechanism, (0.0, 0.0))
        variance = 0.0 if self._expected else draw_variance(clicks, int(n))
        return GroupRate(mechanism, group, cell.clicks.estimate(variance), cell.ads, cell.abstained)
