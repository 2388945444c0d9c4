"""Compares several runs in one table: checks that they are comparable, labels the mechanisms, and pairs auctions.

Numbers of runs with different packs, judges or worlds are not comparable, so such runs are refused unless the caller
sets `across`. Properties of the mechanism may differ: its options, its code, its CTR model, its Ad-LLM. They are noted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from simenv.errors import InputError, UnknownName
from simenv.records import Transition
from simenv.runs.differences import of_the_mechanisms, of_the_world
from simenv.runs.folder import read_manifest, read_transitions
from simenv.runs.log import LeftOut
from simenv.runs.manifest import about
from simenv.runs.metric_types import Metric
from simenv.runs.metrics import METRICS, metrics_named
from simenv.runs.shards import shard_of_options
from simenv.runs.summary import Table, table_of
from simenv.runs.tables import to_frame
from simenv.runs.tally import tally
from simenv.runs.ties import Source, mark_ties
from simenv.seeding import keyed_int

if TYPE_CHECKING:
    import pandas


class Run(NamedTuple):
    """One bench run."""

    name: str
    """The folder's name, or its path where two runs have the same name."""
    manifest: dict[str, Any]
    read: Callable[[], Iterator[Transition]]
    """Reads its log from the start."""
    folder: Path


@dataclass(frozen=True)
class Comparison:
    """Several runs in one table, with their differences."""

    summary: Table
    """Its cells tell which mechanisms are tied with the baseline, see `simenv.runs.ties`."""
    differing: list[str]
    """Properties of the worlds that differ, one line each; always empty without `across`."""
    notes: list[str]
    """Other differences, unfinished runs, and parts of runs."""

    @property
    def table(self) -> pandas.DataFrame:
        """One row per mechanism and metric, as in table.csv, with the columns `noise_floor` and `tied`."""
        return to_frame(self.summary)


def compare(
    folders: Sequence[str | Path],
    *,
    across: bool = False,
    baseline: str | None = None,
    metrics: Sequence[str | Metric] = (),
    left_out: LeftOut | None = None,
) -> Comparison:
    """Compares the mechanisms of several runs in one table.

    A mechanism that occurs in one run keeps its name; one that occurs in several runs is labelled RUN/MECHANISM. If a
    run shares auctions (same id and query) with the baseline's run, differences are paired on the shared auctions.
    Mechanisms whose difference is inside the noise floor of the judge are tied; the floor is that of the judge card in
    the run's folder.

    Args:
        folders: Two or more folders of bench runs.
        across: Whether to compare runs of different packs, judges or worlds.
        baseline: A label of the table; the first mechanism of the first run by default.
        metrics: Metrics beside the built-in ones, or their names.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.

    Raises:
        DataFileError: a folder without a run, or a run or a judge card that cannot be read or is damaged.
        InputError: fewer than two runs, a duplicate folder, or runs of different worlds without `across`.
        UnknownName: unknown baseline label.
    """
    if len(folders) < 2:
        raise InputError(f"a comparison needs two runs or more, got {len(folders)}")
    return compare_runs(open_runs(folders, left_out), across=across, baseline=baseline, metrics=metrics)


def compare_runs(
    runs: Sequence[Run],
    *,
    across: bool = False,
    baseline: str | None = None,
    metrics: Sequence[str | Metric] = (),
    labels: Sequence[Mapping[str, str]] | None = None,
) -> Comparison:
    """Compares runs that `open_runs` opened; for errors and other arguments see `compare`.

    Args:
        runs: The runs.
        across, baseline, metrics: As in `compare`.
        labels: What `labels_of` returned for them, if it was called: it reads the logs.
    """
    measures = [*METRICS, *metrics_named(metrics)]
    manifests = {run.name: run.manifest for run in runs}
    differing = of_the_world(manifests)
    if differing and not across:
        raise InputError(
            f"these runs are not of one world: {'; '.join(differing)}", hint="the option across compares them anyway"
        )
    summary = _table(runs, labels_of(runs) if labels is None else labels, baseline, measures)
    return Comparison(summary, differing, [*of_the_mechanisms(manifests), *incomplete(runs)])


def open_runs(folders: Sequence[str | Path], left_out: LeftOut | None = None) -> list[Run]:
    """Opens the folders of runs, each under a name of its own.

    Args:
        folders: Folders of bench runs.
        left_out: As in `compare`.

    Raises:
        DataFileError: a folder without a run.
        InputError: a duplicate folder.
    """
    named = _named([Path(folder) for folder in folders])
    say = _once(left_out) if left_out is not None else None
    return [
        Run(name, read_manifest(folder), partial(read_transitions, folder, left_out=say), folder)
        for name, folder in named.items()
    ]


def labels_of(runs: Sequence[Run]) -> list[dict[str, str]]:
    """For each run: mechanism -> its label, RUN/MECHANISM if it occurs in several runs."""
    mechanisms = [list(dict.fromkeys(t.mechanism for t in run.read())) for run in runs]
    all_names = [name for names in mechanisms for name in names]
    return [
        {name: name if all_names.count(name) == 1 else f"{run.name}/{name}" for name in names}
        for run, names in zip(runs, mechanisms, strict=True)
    ]


def labelled(runs: Sequence[Run], labels: Sequence[Mapping[str, str]]) -> Iterator[Transition]:
    """The answers of all runs under the labels of their mechanisms; answers to one auction have one index."""
    indices: dict[int, int] = {}  # of the auctions, over all runs
    for run, run_labels in zip(runs, labels, strict=True):
        for t in run.read():
            index = indices.setdefault(keyed_int(t.auction.id, t.auction.query.text), len(indices))
            yield t.model_copy(update={"mechanism": run_labels[t.mechanism], "index": index})


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{folder} is given twice")
    short = [place.name for place in places]
    return {
        str(folder) if short.count(place.name) > 1 else place.name: folder
        for folder, place in zip(folders, places, strict=True)
    }


def incomplete(runs: Iterable[Run]) -> Iterator[str]:
    """Says which runs are parts of runs, or not finished."""
    for run in runs:
        if (shard := shard_of_options(run.manifest["options"])) is not None:
            yield f"{run.name} is shard {shard}, one part of a run"
        if not run.manifest.get("finished"):
            yield f"{run.name} is not finished"


def _once(say: LeftOut) -> LeftOut:
    """Says each text once, however often a log is read."""
    said: set[str] = set()

    def say_once(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    return say_once


def _table(
    runs: Sequence[Run], labels: Sequence[Mapping[str, str]], baseline: str | None, metrics: Sequence[Metric]
) -> Table:
    known = [label for run_labels in labels for label in run_labels.values()]
    if not known:
        raise InputError(f"no answers in {' and '.join(run.name for run in runs)}")
    baseline = baseline or known[0]
    if baseline not in known:
        raise UnknownName("baseline", baseline, known)

    of_each = [about(run.manifest) for run in runs]
    common = [part for part in of_each[0] if all(part in parts for parts in of_each)]
    with tally(lambda: labelled(runs, labels), metrics) as found:
        theirs = np.concatenate(list(found.sides[baseline].indices()))
        unpaired = [
            label
            for label, side in found.sides.items()
            if not any(np.isin(indices, theirs).any() for indices in side.indices())
        ]
        sources = {
            label: Source(run.name, run.folder, run.manifest, name)
            for run, run_labels in zip(runs, labels, strict=True)
            for name, label in run_labels.items()
        }
        return mark_ties(table_of(found, metrics, baseline, unpaired, common), sources)
