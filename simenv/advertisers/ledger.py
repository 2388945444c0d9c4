"""Adds up a log by advertiser. Sums are per persona: memory grows with advertisers and personas, not with answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.advertisers.terms import CLICKED, FIXED, SHOWN, Term
from simenv.records import Ad, AdQuality, Bid, Transition
from simenv.runs.abstention import Verdicts, Weighting, known_click
from simenv.runs.metric_types import ClickSum
from simenv.stats import Estimate, Ratio, draw_variance, ratio

_PLACE = {name: i for i, name in enumerate((*FIXED, *CLICKED))}
_N = len(FIXED)
Vector = npt.NDArray[np.float64]


class Key(NamedTuple):
    """One line of the report."""

    mechanism: str
    advertiser: str
    """Whose ads are added up; "" for all."""
    by: str
    """total, position, category or topic."""
    of: str
    """Which position, category or topic."""


class Sums:
    """The sums of one line of the report."""

    def __init__(self) -> None:
        self.personas: dict[str, Vector] = {}
        """Persona -> sums of FIXED and CLICKED."""
        self.least = np.zeros(len(CLICKED))
        self.most = np.zeros(len(CLICKED))
        """Sums of CLICKED if no abstained ad is clicked, or every one is, whichever is smaller or larger."""
        self.squares = np.zeros((len(CLICKED), len(CLICKED)))
        """Sum over ads of the outer square of their weights, for the variance of realised clicks."""

    def of(self, persona: str) -> Vector:
        """The sums of one persona, to be added to."""
        sums = self.personas.get(persona)
        if sums is None:
            sums = self.personas[persona] = np.zeros(len(_PLACE))
        return sums

    @property
    def reached(self) -> int:
        """Number of personas who saw an ad."""
        return sum(vector[_PLACE["impressions"]] > 0 for vector in self.personas.values())

    def total(self, column: str) -> float:
        """A sum over all personas."""
        return math.fsum(float(sums[_PLACE[column]]) for sums in self.personas.values())


class Measured(NamedTuple):
    """One term of one line."""

    estimate: Estimate
    bounds: tuple[float, float] | None
    """Smallest and largest value if the judge abstained; None where it did not, or where they are not computed."""


class Ledger:
    """The sums of all lines.

    Args:
        lines: Ad -> the advertisers that it counts for ("" for all), each with whether there are lines of its parts
            too, by position, category and topic.
        expected: Whether clicks are click probabilities, or realised.
        weightings: What completes the answers of each mechanism, where verdicts are missing.
    """

    def __init__(
        self,
        lines: Callable[[Ad], Iterable[tuple[str, bool]]],
        *,
        expected: bool = True,
        weightings: Mapping[str, Weighting] | None = None,
    ) -> None:
        self.sums: dict[Key, Sums] = {}
        self.shown: dict[str, dict[str, float]] = {}
        """Mechanism -> persona -> all ads shown."""
        self.verdicts: dict[str, Verdicts] = {}
        self.weightings: dict[str, Weighting] = {}
        """By mechanism, of the answers that were added."""
        self.names: dict[str, str] = {}
        """Ad id -> its advertiser's name, of the ads that are counted."""
        self.seen: dict[str, str] = {}
        """The same of every candidate."""
        self.expected = expected
        self.contradicted = False
        """Whether a verdict has no click probability, although they were expected."""
        self.converts = False
        """Whether clicks may convert."""
        self.failed = 0
        self._lines = lines
        self._weightings = weightings or {}

    def add(self, t: Transition) -> None:
        """Adds one answer; one that failed is only counted."""
        if t.error is not None:
            self.failed += 1
            return
        clicks = t.feedback.clicks
        if self.expected and any(c.click_prob is None and c.clicked is not None for c in clicks):
            self.contradicted = True
            return
        self.verdicts.setdefault(t.mechanism, Verdicts(self.expected)).add(t)
        self.weightings.setdefault(t.mechanism, Weighting(self.expected)).add(t)
        shown = self.shown.setdefault(t.mechanism, {})
        shown[t.persona_id] = shown.get(t.persona_id, 0.0) + len(clicks)
        self.converts |= any(click.conversion_prob is not None for click in clicks)
        places = {click.ad_id: place for place, click in enumerate(clicks)}
        for bid in t.auction.bids:
            self.seen.setdefault(bid.ad.id, bid.ad.advertiser)
            advertisers = tuple(self._lines(bid.ad))
            if advertisers:
                self.names.setdefault(bid.ad.id, bid.ad.advertiser)
                self._add_ad(t, bid, places.get(bid.ad.id), advertisers)

    def _add_ad(self, t: Transition, bid: Bid, place: int | None, advertisers: tuple[tuple[str, bool], ...]) -> None:
        fixed = np.zeros(_N)
        fixed[_PLACE["auctions"]] = 1
        fixed[_PLACE["transfers"]] = t.outcome.transfers.get(bid.ad.id, 0.0)
        drawn = None
        if place is not None:
            _fill(fixed, t, place)
            if bid.unit == "view":
                fixed[_PLACE["value_of_views"]] = t.values[bid.ad.id]
                fixed[_PLACE["bids_of_views"]] = bid.amount
            drawn = self._drawn(t, bid, place)
        for advertiser, in_parts in advertisers:
            for by, of in (("total", ""), *(_parts(t, bid, place) if in_parts else ())):
                sums = self.sums.setdefault(Key(t.mechanism, advertiser, by, of), Sums())
                persona = sums.of(t.persona_id)
                persona[:_N] += fixed
                if drawn is not None:
                    persona[_N:] += drawn.click * drawn.weights
                    sums.least += np.where(drawn.weights < 0, drawn.most, drawn.least) * drawn.weights
                    sums.most += np.where(drawn.weights < 0, drawn.least, drawn.most) * drawn.weights
                    sums.squares += drawn.variance * np.outer(drawn.weights, drawn.weights)

    def _drawn(self, t: Transition, bid: Bid, place: int) -> _Drawn:
        click, price = t.feedback.clicks[place], t.outcome.placements[place].price
        offered, value = (0.0, 0.0) if bid.unit == "view" else (bid.amount, t.values[bid.ad.id])
        conversions = click.conversion_prob or 0.0
        worth = conversions * (click.conversion_value or 0.0)
        weights = np.array([1.0, price, offered, value, value - price, conversions, worth])
        weighting = self._weightings.get(t.mechanism)
        if weighting is None:
            known = known_click(click, self.expected) or 0.0  # None only in a first pass, which is made again
            return _Drawn(weights, known, known, known, 1.0)
        alone = {other.ad_id: float(other.ad_id == bid.ad.id) for other in t.feedback.clicks}
        completed = weighting.complete_answer(t, ClickSum(0.0, alone, 1.0))
        estimate, variance = math.nan, 1.0
        if completed.pair is not None:
            estimate, variance = completed.pair[0], completed.draws[bid.ad.id] ** 2
        return _Drawn(weights, estimate, completed.least, completed.most, variance)

    def measure(self, key: Key, term: Term) -> Measured:
        """One term of one line, with its interval clustered by persona."""
        sums = self.sums[key]
        above, below = term.above, term.below if term.below is not None else {"auctions": 1.0}
        if SHOWN in below:
            of_all = self.shown[key.mechanism]
            rows = {p: (_dot(above, sums.personas.get(p)), below[SHOWN] * n) for p, n in of_all.items()}
        else:
            rows = {p: (_dot(above, vector), _dot(below, vector)) for p, vector in sums.personas.items()}
        found: Ratio = ratio(list(rows.values()), list(rows))
        total = math.fsum(size for _, size in rows.values())
        verdicts = self.verdicts[key.mechanism]
        least = 0.0
        if not self.expected and total and math.isfinite(found.value):
            direction = _clicked_part(above) - found.value * _clicked_part(below)
            variance = draw_variance(verdicts.clicks, int(verdicts.known))
            least = variance * float(direction @ sums.squares @ direction) / total**2
        scale = 1.0 if term.below is not None else total
        estimate = found.interval(least)
        scaled = Estimate(value=estimate.value * scale, low=estimate.low * scale, high=estimate.high * scale)
        return Measured(scaled, None if verdicts.complete else self._bounds(sums, term, total / scale))

    def _bounds(self, sums: Sums, term: Term, below: float) -> tuple[float, float] | None:
        """What abstained ads may come to; None of terms whose denominator has clicks, or that depend on none."""
        clicked = _clicked_part(term.above)
        if not clicked.any() or (term.below is not None and _clicked_part(term.below).any()) or not below:
            return None
        fixed = sum(weight * sums.total(name) for name, weight in term.above.items() if name in FIXED)
        return (fixed + float(clicked @ sums.least)) / below, (fixed + float(clicked @ sums.most)) / below


class _Drawn(NamedTuple):
    """One shown ad."""

    weights: Vector
    """Of CLICKED."""
    click: float
    """0 or 1, its probability, or what stands for it where the judge abstained on some ads."""
    least: float
    most: float
    variance: float
    """Of the click, as a multiple of that of one draw."""


def ledger_of(read: Callable[[], Iterable[Transition]], lines: Callable[[Ad], Iterable[tuple[str, bool]]]) -> Ledger:
    """Adds up a log, in as many passes as it takes: clicks without probabilities and abstentions are known only then.

    Args:
        read: Called for each pass.
        lines: As for `Ledger`.
    """
    found = _passed(read, Ledger(lines))
    if found.contradicted:
        found = _passed(read, Ledger(lines, expected=False))
    if not all(verdicts.complete for verdicts in found.verdicts.values()):
        found = _passed(read, Ledger(lines, expected=found.expected, weightings=found.weightings))
    return found


def _passed(read: Callable[[], Iterable[Transition]], found: Ledger) -> Ledger:
    for transition in read():
        found.add(transition)
        if found.contradicted:
            break
    return found


def _fill(fixed: Vector, t: Transition, place: int) -> None:
    """The sums of a shown ad that depend on no click."""
    click, quality = t.feedback.clicks[place], t.feedback.quality
    of_ad: AdQuality | None = quality.ads[place] if quality is not None and quality.ads else None
    fixed[_PLACE["impressions"]] = 1
    fixed[_PLACE["abstained"]] = click.clicked is None
    fixed[_PLACE["places"]] = place + 1
    fixed[_PLACE["clicks_realised"]] = click.clicked or 0
    fixed[_PLACE["conversions_realised"]] = click.converted or 0
    known = {
        "satisfaction": t.feedback.satisfaction,
        "quality_loss": None if quality is None else quality.quality_loss,
        "factuality": None if of_ad is None else of_ad.factuality,
        "disclosure": None if of_ad is None else of_ad.disclosure,
    }
    for name, number in known.items():
        if number is not None:
            fixed[_PLACE[name]] = number
            fixed[_PLACE[f"with_{name}"]] = 1


def _parts(t: Transition, bid: Bid, place: int | None) -> Iterator[tuple[str, str]]:
    """The parts of an advertiser's total in which an ad counts."""
    if place is not None:
        yield "position", str(place + 1)
    yield "category", bid.ad.category
    if t.auction.query.topic:
        yield "topic", t.auction.query.topic


def _dot(weights: Mapping[str, float], vector: Vector | None) -> float:
    return (
        0.0 if vector is None else math.fsum(weight * float(vector[_PLACE[name]]) for name, weight in weights.items())
    )


def _clicked_part(weights: Mapping[str, float]) -> Vector:
    return np.array([weights.get(name, 0.0) for name in CLICKED])
