"""One pass over answers: what a table needs of them, with memory that does not grow with their number.

Numbers go to a `Spool` on disk. What they depend on in other answers, whether all clicks have probabilities and whether
the judge abstained, is known only after a pass. So the first pass assumes that clicks have probabilities and that no
verdict is missing; where that turns out to be wrong, the log is read again with what is known then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from simenv.errors import InputError, SimenvError
from simenv.importing import reason
from simenv.records import Transition
from simenv.runs.abstention import Verdicts, Weighting
from simenv.runs.advertisers import Surpluses
from simenv.runs.answer_metrics import Errors
from simenv.runs.metric_types import ClickSum, Metric, Ratio, SumsClicks
from simenv.runs.spool import Array, Spool
from simenv.runs.useless import Findings

Bounds = tuple[float, float, float]
"""Sums of the least numerators, the largest numerators, and the denominators."""


class Side:
    """The answers of one mechanism.

    Args:
        path: Where its numbers go.
        metrics: What is measured.
        expected: Whether clicks are click probabilities, or realised.
        weighting: That of all its answers; None: no verdict is missing.
    """

    def __init__(self, path: Path, metrics: Sequence[Metric], expected: bool, weighting: Weighting | None) -> None:
        self.answers = 0
        """Those that did not fail."""
        self.verdicts = Verdicts(expected)
        self.surpluses = {False: Surpluses(False), True: Surpluses(True)}
        self.answering: set[str] = set()
        """Personas with an answer that did not fail."""
        self.bounds: dict[int, Bounds] = {}
        """By metric; empty unless the judge abstained."""
        sums = [k for k, metric in enumerate(metrics) if isinstance(metric, SumsClicks)]
        self.spools = [Spool(path, len(metrics), frozenset() if expected else frozenset(sums))]
        self.weighting = weighting
        self._expected = expected
        self._metrics = list(enumerate(metrics))
        self._parted = frozenset(sums) if weighting is not None or not expected else frozenset()

    def add(self, t: Transition) -> None:
        """Measures one answer."""
        if t.error is None:
            self.answers += 1
            self.answering.add(t.persona_id)
            self.verdicts.add(t)
            for surpluses in self.surpluses.values():
                surpluses.add(t)
        pairs: list[Ratio | None] = []
        draws: dict[int, list[tuple[str, float, int]]] = {}
        for k, metric in self._metrics:
            if t.error is not None and not isinstance(metric, Errors):
                pairs.append(None)
            elif k in self._parted:
                pairs.append(self._with_parts(k, metric, t, draws))
            else:
                pairs.append(_measured(metric, t, self._expected))
        self.spools[-1].add(t.index, t.persona_id, t.outcome.response, pairs, draws)

    def add_all(self, later: Side) -> None:
        """Adds later answers of the same mechanism, to which both assumptions of the first pass apply."""
        self.answers += later.answers
        self.answering |= later.answering
        self.verdicts.add_all(later.verdicts)
        for expected, surpluses in self.surpluses.items():
            surpluses.add_all(later.surpluses[expected])
        self.spools += later.spools

    def metric(self, column: int) -> Metric:
        """The metric of a column."""
        return self._metrics[column][1]

    def indices(self) -> Iterator[Array]:
        """The indices of all answers, failed ones too, block by block."""
        for spool in self.spools:
            yield from spool.indices()

    def _with_parts(
        self, k: int, metric: Any, t: Transition, draws: dict[int, list[tuple[str, float, int]]]
    ) -> Ratio | None:
        """A metric that sums clicks, where one of them is not known or is a draw."""
        parts = _parts(metric, t)
        if self.weighting is None:
            if parts is not None:
                clicks = {click.ad_id: click.clicked for click in t.feedback.clicks}
                draws[k] = [(ad_id, parts.weights[ad_id], _code(click)) for ad_id, click in clicks.items()]
            return _measured(metric, t, self._expected)
        if parts is None:
            return None
        completed = self.weighting.complete_answer(t, parts)
        least, most, below = self.bounds.get(k, (0.0, 0.0, 0.0))
        self.bounds[k] = least + completed.least, most + completed.most, below + parts.below
        if completed.pair is None:
            return None
        if not self._expected:
            clicks = {click.ad_id: click.clicked for click in t.feedback.clicks}
            draws[k] = [(ad_id, weight, _code(clicks[ad_id])) for ad_id, weight in completed.draws.items()]
        return completed.pair


class Tally:
    """The answers of every mechanism.

    Args:
        folder: Where numbers go.
        metrics: What is measured.
        expected: Whether clicks are click probabilities, or realised.
        weightings: By mechanism, where verdicts are missing.
    """

    def __init__(
        self,
        folder: Path,
        metrics: Sequence[Metric],
        expected: bool = True,
        weightings: Mapping[str, Weighting] | None = None,
    ) -> None:
        self.sides: dict[str, Side] = {}
        self.findings = Findings()
        self.expected = expected
        self.contradicted = False
        """Whether a verdict has no click probability, although they were expected."""
        self._folder = folder
        self._metrics = metrics
        self._weightings = weightings or {}
        self._disagreement, self._disagreeing = Fraction(0), 0

    def add(self, t: Transition) -> None:
        """Measures one answer."""
        side = self.sides.get(t.mechanism)
        if side is None:
            path = self._folder / f"numbers-{len(self.sides)}"
            side = self.sides[t.mechanism] = Side(path, self._metrics, self.expected, self._weightings.get(t.mechanism))
        clicks = t.feedback.clicks if self.expected and t.error is None else ()
        if any(click.click_prob is None and click.clicked is not None for click in clicks):
            self.contradicted = True
            return
        side.add(t)
        self.findings.add(t)
        if t.feedback.disagreement is not None:
            self._disagreement += Fraction(t.feedback.disagreement)
            self._disagreeing += 1

    def add_all(self, later: Tally) -> None:
        """Adds later answers, to which both assumptions of the first pass apply."""
        for name, side in later.sides.items():
            if name in self.sides:
                self.sides[name].add_all(side)
            else:
                self.sides[name] = side
        self.findings.add_all(later.findings)
        self.contradicted |= later.contradicted
        self._disagreement += later._disagreement
        self._disagreeing += later._disagreeing

    def flush(self) -> None:
        """Writes the last numbers."""
        for side in self.sides.values():
            for spool in side.spools:
                spool.flush()

    @property
    def complete(self) -> bool:
        """Whether no verdict is missing."""
        return all(side.verdicts.complete for side in self.sides.values())

    @property
    def disagreement(self) -> float | None:
        """Mean difference between the click probabilities of an ensemble's judges, over the answers that have one."""
        return float(self._disagreement / self._disagreeing) if self._disagreeing else None


@contextmanager
def tally(
    read: Callable[[], Iterable[Transition]],
    metrics: Sequence[Metric],
    in_parts: Callable[[Path, bool], Tally | None] = lambda folder, expected: None,
) -> Iterator[Tally]:
    """Measures answers, in as many passes as it takes; the numbers are removed at the end of the `with` block.

    Args:
        read: Called for each pass: the answers, none of them twice.
        metrics: What is measured.
        in_parts: Makes a pass that takes no verdict for missing in another way, with its numbers in a folder; None: it
            does not, and the pass is made by `read`. Its second argument tells whether clicks are click probabilities.

    Raises:
        InputError: a metric raised, or returned no ratio.
        CannotWrite: there is no space for the numbers in the folder of temporary files.
    """
    with TemporaryDirectory(prefix="simenv-numbers-") as name:
        folder = Path(name)

        def first_pass(expected: bool) -> Tally:
            found = in_parts(folder, expected)
            if found is None or (expected and not found.complete):  # sums of probabilities depend on the parts
                return _passed(read, Tally(folder, metrics, expected))
            return found

        found = first_pass(True)
        if found.contradicted:
            found = first_pass(False)
        if not found.complete:
            found = _passed(read, Tally(folder, metrics, found.expected, _weightings(read, found)))
        yield found


def _passed(read: Callable[[], Iterable[Transition]], found: Tally) -> Tally:
    for transition in read():
        found.add(transition)
        if found.contradicted:
            break
    found.flush()
    return found


def _weightings(read: Callable[[], Iterable[Transition]], found: Tally) -> dict[str, Weighting]:
    """The weightings of the mechanisms with missing verdicts."""
    of = {name: Weighting(found.expected) for name, side in found.sides.items() if not side.verdicts.complete}
    for transition in read():
        if transition.error is None and transition.mechanism in of:
            of[transition.mechanism].add(transition)
    return of


def _measured(metric: Metric, transition: Transition, expected: bool) -> Ratio | None:
    try:
        pair: object = metric.measure(transition, expected)
    except Exception as error:
        raise _failed(metric, transition, error) from error
    if pair is None:
        return None
    if type(pair) is tuple and len(pair) == 2 and type(pair[0]) is float and type(pair[1]) is float:  # most are
        return pair
    numbers = tuple(pair) if isinstance(pair, tuple | list) else ()
    if len(numbers) != 2 or not all(isinstance(number, int | float | np.number) for number in numbers):
        raise InputError(
            f"metric {metric.name!r} returned {pair!r} on auction {transition.auction.id}, expected a numerator and a "
            "denominator, or None",
            hint="the mean of a number per answer has the denominator 1: return (number, 1.0)",
        )
    return float(numbers[0]), float(numbers[1])


def _parts(metric: SumsClicks, transition: Transition) -> ClickSum | None:
    try:
        parts: object = metric.parts(transition)
    except Exception as error:
        raise _failed(metric, transition, error) from error
    if parts is None:
        return None
    name, where = getattr(metric, "name", type(metric).__name__), f"on auction {transition.auction.id}"
    if not isinstance(parts, ClickSum):
        raise InputError(f"the parts of metric {name!r} {where} are {parts!r}, expected a ClickSum or None")
    missing = [click.ad_id for click in transition.feedback.clicks if click.ad_id not in parts.weights]
    if missing:
        raise InputError(
            f"the parts of metric {name!r} {where} have no weight of the shown {', '.join(missing)}: got weights of "
            f"{', '.join(parts.weights) or 'no ad'}",
            hint="give every shown ad a weight: 0.0 where its click does not count",
        )
    return parts


def _failed(metric: Any, transition: Transition, error: Exception) -> SimenvError:
    """The error for a metric's own code, which may raise anything."""
    if isinstance(error, SimenvError):
        return error
    return InputError(f"metric {metric.name!r} raised {reason(error)} on auction {transition.auction.id}")


def _code(clicked: bool | None) -> int:
    return 2 if clicked is None else int(clicked)
