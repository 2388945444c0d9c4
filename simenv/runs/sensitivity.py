"""Tests which conclusions about mechanisms hold under other parameters of the click model.

The answers of a run stay the same. Their click probabilities are computed again, exactly, with one parameter of the
click model changed at a time, or in other worlds (`click_worlds.py`). That is valid for mechanisms and bidders that
observe no clicks or payments: their answers, bids and prices do not depend on the judge.

A conclusion is "A earns more than B", if the paired 95% interval of A - B, clustered by persona, excludes 0. Under
other parameters it holds (the same sign, and the interval excludes 0), is open (the interval contains 0) or is
reversed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simenv.encoder import default_encoder
from simenv.errors import InputError
from simenv.judges.click_measures import AnswerMeasures
from simenv.judges.click_model import ClickModel
from simenv.judges.click_worlds import ClickParams, load_world
from simenv.judges.cues import Examples
from simenv.objective import Objective
from simenv.records import Click, Feedback, Persona, Transition
from simenv.runs.build import click_world_of, objective_of
from simenv.runs.folder import read_manifest, read_sessions, read_transitions
from simenv.runs.log import LeftOut
from simenv.runs.metrics import METRICS
from simenv.runs.options import BenchOptions, options_of_manifest
from simenv.runs.rollout import BIDDERS
from simenv.settlement import settle
from simenv.stats import Estimate, clustered_ratio

MEASURES = ("revenue", "bid_weighted_clicks", "reward", "welfare")
"""Measures by which mechanisms can be ranked, each a mean per answer."""

_STEPS: dict[str, tuple[float, float]] = {
    "attraction.base": (-1.6, 0.4),
    "attraction.relevance_centre": (0.25, 0.45),
    "examination.rank_discount": (0.6, 1.0),
    "nativeness.floor": (0.0, 0.7),
    "nativeness.coherence_none": (0.0, 0.3),
    "nativeness.coherence_full": (0.25, 0.6),
    "nativeness.hard_sell": (0.05, 0.6),
    "nativeness.pressure_none": (-0.3, 0.2),
    "nativeness.pressure_full": (0.1, 0.6),
    "nativeness.shouting": (0.3, 1.0),
    "leaks.cue_none": (-0.2, 0.2),
    "leaks.cue_full": (0.2, 0.7),
    "competition.substitutes_from": (0.1, 0.4),
    "competition.substitutes_full": (0.5, 1.0),
    "flooding.free_ads": (1, 4),
}
"""Values for parameters that cannot be halved and doubled: log-odds, cosines, shares and counts. All other parameters
are halved and doubled."""


class Conclusion(NamedTuple):
    """`better` earns more than `worse`, by `difference` per answer."""

    better: str
    worse: str
    difference: Estimate


class ChangedWorld(NamedTuple):
    """One changed world, and the results of the mechanisms in it."""

    changed: str
    """Name of the changed parameter, or "world"; "" for the original world."""
    value: float | str
    means: dict[str, float]
    """Mechanism -> mean per answer, best first."""
    rank_correlation: float
    """Kendall's tau with the ranking in the original world: 1 = the same order, -1 = reversed."""
    holds: int
    open: int
    reversed: list[Conclusion]
    now: list[Conclusion]
    """The conclusions of the original world, with the differences of this one."""


class Sensitivity(NamedTuple):
    """The report of a sensitivity analysis."""

    measure: str
    base: ChangedWorld
    conclusions: list[Conclusion]
    worlds: list[ChangedWorld]

    def survivors(self) -> list[Conclusion]:
        """Returns the conclusions that no changed world reverses."""
        reversed_pairs = {frozenset(c[:2]) for world in self.worlds for c in world.reversed}
        return [c for c in self.conclusions if frozenset(c[:2]) not in reversed_pairs]


def sensitivity_of_run(
    folder: str | Path,
    measure: str = "revenue",
    *,
    worlds: Sequence[str] = (),
    left_out: LeftOut | None = None,
) -> Sensitivity:
    """Runs `sensitivity` on a finished run with its own answers, personas, objective and click world.

    Args:
        folder: The folder of a run with two mechanisms or more. The original world is that of its click judge; v1 if
            another judge judged it.
        measure: The measure of the ranking, one of `MEASURES`.
        worlds: Names or files of other worlds, as in `load_world`. None: one parameter is changed at a time.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.

    Raises:
        DataFileError: the folder holds no run, it cannot be read, or its log is damaged; or a world's file is wrong.
        InputError: a mechanism or bidder of the run observed clicks or payments, its world's file has changed, or as in
            `sensitivity`.
        MissingWeights: the embedded encoder is needed and not installed.
    """
    manifest = read_manifest(folder)
    _refuse_observers(folder, manifest)
    options = options_of_manifest(manifest["options"], str(folder))
    original = _own_world(folder, options, manifest)
    others = [world for world in map(load_world, worlds) if world != original]
    personas = {session.persona.id: session.persona for session in read_sessions(folder, left_out=left_out).values()}
    log = read_transitions(folder, left_out=left_out)
    rows = [t for t in log if t.error is None]  # a damaged log is refused before the encoder is loaded
    return sensitivity(
        rows,
        list(personas.values()),
        ClickModel(default_encoder(), original),
        objective_of(options),
        measure,
        others if worlds else None,
    )


def _own_world(folder: str | Path, options: BenchOptions, manifest: Mapping[str, Any]) -> ClickParams:
    """The world of the run's click judge; v1 for other judges."""
    name = click_world_of(options)
    params = load_world(name)
    before = manifest.get("world", {}).get("judge_sha256")
    if name != "v1" and before not in (None, params.sha256):
        raise InputError(f"{folder}: its world {name} was {before[:12]}, now {params.sha256[:12]}")
    return params


def _refuse_observers(folder: str | Path, manifest: Mapping[str, Any]) -> None:
    """Raises InputError for runs in which bids or answers depend on earlier clicks."""
    options, observers = manifest["options"], manifest.get("world", {}).get("observers", [])
    bidders = None
    if options.get("budget") is not None:
        bidders = "its bidders have a budget and observe what they pay"
    elif str(options.get("bidder")).partition(":")[0] in ("learning", "exp3"):
        bidders = "its bidders learn from clicks"
    elif BIDDERS in observers:
        bidders = "its bidders observe transitions"
    if bidders is not None:
        raise InputError(f"{folder}: {bidders}, so its bids depend on the clicks")
    if observers:
        raise InputError(f"{folder}: {', '.join(observers)} observe transitions, so the answers depend on the clicks")


def sensitivity(
    transitions: Iterable[Transition],
    personas: Sequence[Persona],
    click_model: ClickModel,
    objective: Objective | None = None,
    measure: str = "revenue",
    worlds: Sequence[ClickParams] | None = None,
) -> Sensitivity:
    """Judges a run's answers again in other worlds, or with every parameter of the click model changed, one at a time.

    Args:
        transitions: The run's transitions.
        personas: The run's users.
        click_model: The original click model.
        objective: Defines the reward; `Objective()` by default.
        measure: The measure of the ranking, one of `MEASURES`.
        worlds: The other worlds; None: one parameter is changed at a time.

    Raises:
        InputError: an unknown measure, worlds that share a name, fewer than two mechanisms, or a persona that is not
            among `personas`.
    """
    if measure not in MEASURES:
        raise InputError(f"unknown measure {measure!r}: known are {', '.join(MEASURES)}")
    others = _other_worlds(click_model.params) if worlds is None else _named_worlds(click_model.params, worlds)
    rows = list(transitions)
    by_id = {persona.id: persona for persona in personas}
    unknown = {row.persona_id for row in rows} - set(by_id)
    if unknown:
        some = ", ".join(sorted(unknown)[:3])
        raise InputError(f"the personas {some} of the run's answers are not among those given")
    if len({row.mechanism for row in rows}) < 2:
        raise InputError("sensitivity compares mechanisms: the run has fewer than two")
    judge = _Rejudge(rows, by_id, objective or Objective(), measure)
    before = judge.values(click_model)
    conclusions = list(_conclusions(before, judge.clusters))
    base = _changed_world("", "", before, before, conclusions, judge.clusters)
    changed_worlds = [
        _changed_world(name, value, before, judge.values(click_model.with_params(changed)), conclusions, judge.clusters)
        for name, value, changed in others
    ]
    return Sensitivity(measure, base, conclusions, changed_worlds)


def _named_worlds(original: ClickParams, worlds: Sequence[ClickParams]) -> list[tuple[str, float | str, ClickParams]]:
    names = [world.world for world in (original, *worlds)]
    if len(set(names)) < len(names):
        raise InputError(f"two different worlds share a name in {', '.join(names)}")
    return [("world", world.world, world) for world in worlds]


def _other_worlds(params: ClickParams) -> Iterable[tuple[str, float | str, ClickParams]]:
    for name, value in params.numbers().items():
        for other in _STEPS.get(name, (value / 2, value * 2)):
            with suppress(InputError):  # of a fitted world, whose other end of a ramp may be beyond this value
                yield name, other, params.changed({name: other})
    for draw in ("b", "c", "d"):  # other hidden appeal and taste, same parameters
        world = f"{params.world}-{draw}"
        yield "world", world, params.changed({"world": world})


Values = dict[str, dict[int, float]]
"""Mechanism -> index of the auction -> currency per answer."""


class _Rejudge:
    """Judges the answers of a run again."""

    def __init__(
        self, rows: Sequence[Transition], personas: Mapping[str, Persona], objective: Objective, measure: str
    ) -> None:
        self._rows = rows
        self._personas = personas
        self._objective = objective
        self._measure = next(metric for metric in METRICS if metric.name == measure)
        self.clusters = {row.index: row.persona_id for row in rows}
        self._measured: list[tuple[Mapping[str, Examples], list[AnswerMeasures]]] = []

    def _measures(self, click_model: ClickModel) -> list[AnswerMeasures]:
        """Once for all worlds whose cues have the same examples."""
        examples = click_model.params.examples
        for known, measures in self._measured:
            if known == examples:
                return measures
        measures = [
            click_model.measure(self._personas[row.persona_id], row.auction.answered(row.outcome), row.outcome)
            for row in self._rows
        ]
        self._measured.append((examples, measures))
        return measures

    def values(self, click_model: ClickModel) -> Values:
        """Returns the expected currency per answer of every answer."""
        values: Values = {}
        for row, measures in zip(self._rows, self._measures(click_model), strict=True):
            probs = click_model.probabilities_of(measures)
            clicks = tuple(Click(ad_id=ad_id, clicked=None, click_prob=p) for ad_id, p in probs.items())
            judged = settle(
                row.auction,
                row.outcome,
                Feedback(clicks=clicks),
                row.values,
                self._objective,
                index=row.index,
                mechanism=row.mechanism,
                persona_id=row.persona_id,
                turn=row.turn,
            )
            measured = self._measure.measure(judged, True)
            assert measured is not None  # every probability is known
            values.setdefault(row.mechanism, {})[row.index] = measured[0]
        return values


def _paired(values: Values, one: str, other: str, clusters: Mapping[int, str]) -> Estimate:
    both = sorted(values[one].keys() & values[other].keys())
    return clustered_ratio([(values[one][i] - values[other][i], 1.0) for i in both], [clusters[i] for i in both])


def _means(values: Values) -> dict[str, float]:
    means = {name: float(np.mean(list(rows.values()))) for name, rows in values.items()}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def _conclusions(values: Values, clusters: Mapping[int, str]) -> Iterable[Conclusion]:
    names = list(_means(values))
    for i, better in enumerate(names):
        for worse in names[i + 1 :]:
            difference = _paired(values, better, worse, clusters)
            if difference.low > 0:
                yield Conclusion(better, worse, difference)


def _changed_world(
    changed: str,
    value: float | str,
    before: Values,
    after: Values,
    conclusions: Sequence[Conclusion],
    clusters: Mapping[int, str],
) -> ChangedWorld:
    from scipy.stats import kendalltau

    old, new = _means(before), _means(after)
    tau = float(kendalltau([old[name] for name in old], [new[name] for name in old]).statistic)
    now = [Conclusion(c.better, c.worse, _paired(after, c.better, c.worse, clusters)) for c in conclusions]
    holds = sum(c.difference.low > 0 for c in now)
    reversed_ = [c for c in now if c.difference.high < 0]
    return ChangedWorld(changed, value, new, tau, holds, len(now) - holds - len(reversed_), reversed_, now)
