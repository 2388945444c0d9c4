"""Several runs in one table: which may stand in one, under which labels, and on which auctions they can be paired.

Runs of different packs, judges or worlds give numbers that look alike and are not: they are refused unless asked for.
What belongs to the mechanism may differ: its options, its CTR model, the Ad-LLM that it writes with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simenv.errors import InputError, UnknownName
from simenv.records import Transition
from simenv.runs.folder import read_manifest, read_transitions
from simenv.runs.metrics import METRICS, Metric, make_metric
from simenv.runs.options import BenchOptions
from simenv.runs.summary import Table, summarize
from simenv.runs.tables import to_frame

if TYPE_CHECKING:
    import pandas

_PACKS = ("personas", "catalog", "queries")
_WORLD = ("query_source", "judge", "judge_sha256", "encoder", "quality", "quality_sha256")
_OPTIONS = (
    "candidates",
    "max_ads",
    "reserve",
    "horizon",
    "penalty",
    "values",
    "bidder",
    "budget",
    "budget_scope",
    "pacing",
)
_SILENT = {"judge_sha256": "judge", "quality_sha256": "quality"}
"""Hashes that say the same as a name beside them, unless that is the same."""


class Run(NamedTuple):
    """One bench run."""

    name: str
    """The folder's name, or its path where two runs have the same name."""
    manifest: dict[str, Any]
    transitions: list[Transition]


@dataclass(frozen=True)
class Comparison:
    """Several runs in one table."""

    summary: Table
    differing: list[str]
    """Facts of the world that differ, one a line; empty unless that was asked for."""
    notes: list[str]
    """What else differs, and runs that are not finished."""

    @property
    def table(self) -> pandas.DataFrame:
        """One row per mechanism and metric, as in table.csv."""
        return to_frame(self.summary)


def compare(
    folders: Sequence[str | Path],
    *,
    across: bool = False,
    baseline: str | None = None,
    metrics: Sequence[str | Metric] = (),
) -> Comparison:
    """Puts the mechanisms of several runs into one table.

    A mechanism that only one run has keeps its name; one that several have becomes RUN/MECHANISM. Differences are
    paired where a run met auctions of the baseline's run (the same id and query), on those that both met.

    Args:
        folders: Two or more folders of bench runs.
        across: Compare runs of different packs, judges or worlds too.
        baseline: A label of the table; the first mechanism of the first run by default.
        metrics: Metrics beside the built-in ones, or their names.

    Raises:
        DataFileError: a folder without a run, or one that cannot be read.
        InputError: fewer than two runs, one given twice, or runs of different worlds without `across`.
        UnknownName: no mechanism of that label.
    """
    measures = [*METRICS, *(make_metric(it) if isinstance(it, str) else it for it in metrics)]
    named = _named([Path(folder) for folder in folders])
    manifests = {name: read_manifest(folder) for name, folder in named.items()}
    facts = {name: _facts(manifest) for name, manifest in manifests.items()}
    differing = _differing(facts)
    if differing and not across:
        what = "; ".join(differing)
        raise InputError(f"these runs are not of one world: {what}", hint="across compares them all the same")
    runs = [Run(name, manifests[name], list(read_transitions(folder))) for name, folder in named.items()]
    notes = _differing({name: _others(manifest) for name, manifest in manifests.items()})
    return Comparison(_table(runs, baseline, measures), differing, [*notes, *_unfinished(runs)])


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    if len(folders) < 2:
        raise InputError(f"a comparison needs two runs or more, got {len(folders)}")
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"{folder} is given twice")
    short = [place.name for place in places]
    return {
        str(folder) if short.count(place.name) > 1 else place.name: folder
        for folder, place in zip(folders, places, strict=True)
    }


def _facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Everything that makes the world of a run, as text."""
    world, options = manifest.get("world", {}), manifest["options"]
    hashes, versions = _mapping(manifest.get("data_sha256")), _mapping(world.get("packs"))
    facts = {pack: versions.get(pack) or _short(hashes.get(pack)) for pack in _PACKS}
    facts |= {name: str(world.get(name)) for name in _WORLD}
    facts |= {f"objective.{name}": str(number) for name, number in _mapping(world.get("objective")).items()}
    facts |= {name: str(options.get(name, BenchOptions.model_fields[name].default)) for name in _OPTIONS}
    facts |= {name: _short(facts[name]) for name in _SILENT}
    if facts["query_source"].startswith("file:"):
        facts["query_source"] = "a file"  # which one, its hash says
    return facts


def _others(manifest: Mapping[str, Any]) -> dict[str, str]:
    """What may differ between runs of one world, and is worth a note."""
    return {
        "ad_llm": str(manifest.get("world", {}).get("ad_llm")),
        "seed": str(manifest["options"].get("seed")),
        "simenv": str(_mapping(manifest.get("packages")).get("simenv-ads")),
    }


def _differing(facts: Mapping[str, Mapping[str, str]]) -> list[str]:
    """One line for each fact that is not the same in all runs: "judge is A in RUN1, RUN2, B in RUN3"."""
    lines: dict[str, str] = {}
    for fact in dict.fromkeys(name for of in facts.values() for name in of):
        runs_by_value: dict[str, list[str]] = {}
        for run, of in facts.items():
            runs_by_value.setdefault(of.get(fact, "None"), []).append(run)
        if len(runs_by_value) > 1 and _SILENT.get(fact) not in lines:
            said = ", ".join(f"{value} in {' and '.join(runs)}" for value, runs in runs_by_value.items())
            lines[fact] = f"{fact} is {said}"
    return list(lines.values())


def _unfinished(runs: Iterable[Run]) -> list[str]:
    return [f"{run.name} is not finished" for run in runs if not run.manifest.get("finished")]


def _table(runs: Sequence[Run], baseline: str | None, metrics: Sequence[Metric]) -> Table:
    mechanisms = [list(dict.fromkeys(t.mechanism for t in run.transitions)) for run in runs]
    count = [name for names in mechanisms for name in names]
    labels = [
        {name: name if count.count(name) == 1 else f"{run.name}/{name}" for name in names}
        for run, names in zip(runs, mechanisms, strict=True)
    ]
    known = [label for of in labels for label in of.values()]
    if not known:
        raise InputError(f"no answers in {' and '.join(run.name for run in runs)}")
    baseline = baseline or known[0]
    if baseline not in known:
        raise UnknownName("baseline", baseline, known)
    indices: dict[tuple[str, str], int] = {}
    rows: dict[str, dict[int, Transition]] = {}
    for run, of in zip(runs, labels, strict=True):
        for t in run.transitions:
            index = indices.setdefault((t.auction.id, t.auction.query.text), len(indices))
            label = of[t.mechanism]
            rows.setdefault(label, {})[index] = t.model_copy(update={"mechanism": label, "index": index})
    unpaired = [label for label, of in rows.items() if not of.keys() & rows[baseline].keys()]
    return summarize((t for of in rows.values() for t in of.values()), baseline, unpaired, metrics)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(sha256: Any) -> str:
    return str(sha256)[:12]
