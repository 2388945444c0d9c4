"""Compares several runs in one table: checks that they are comparable, labels the mechanisms, and pairs auctions.

Numbers of runs with different packs, judges or worlds are not comparable, so such runs are refused unless the caller
sets `across`. Properties of the mechanism may differ: its options, its CTR model, its Ad-LLM.
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
    "judge_llm_options",
)
_HASH_OF = {"judge_sha256": "judge", "quality_sha256": "quality"}
"""Hash -> name that it belongs to. A different hash is reported only if the names are equal."""


class Run(NamedTuple):
    """One bench run."""

    name: str
    """The folder's name, or its path where two runs have the same name."""
    manifest: dict[str, Any]
    transitions: list[Transition]


@dataclass(frozen=True)
class Comparison:
    """Several runs in one table, with their differences."""

    summary: Table
    differing: list[str]
    """Properties of the worlds that differ, one line each; always empty without `across`."""
    notes: list[str]
    """Other differences, and unfinished runs."""

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
    """Compares the mechanisms of several runs in one table.

    A mechanism that occurs in one run keeps its name; one that occurs in several runs is labelled RUN/MECHANISM. If a
    run shares auctions (same id and query) with the baseline's run, differences are paired on the shared auctions.

    Args:
        folders: Two or more folders of bench runs.
        across: Whether to compare runs of different packs, judges or worlds.
        baseline: A label of the table; the first mechanism of the first run by default.
        metrics: Metrics beside the built-in ones, or their names.

    Raises:
        DataFileError: a folder without a run, or one that cannot be read.
        InputError: fewer than two runs, a duplicate folder, or runs of different worlds without `across`.
        UnknownName: unknown baseline label.
    """
    measures = [*METRICS, *(make_metric(it) if isinstance(it, str) else it for it in metrics)]
    named = _named([Path(folder) for folder in folders])
    manifests = {name: read_manifest(folder) for name, folder in named.items()}
    facts = {name: _world_facts(manifest) for name, manifest in manifests.items()}
    differing = _differing(facts)
    if differing and not across:
        raise InputError(
            f"these runs are not of one world: {'; '.join(differing)}", hint="the option across compares them anyway"
        )
    runs = [Run(name, manifests[name], list(read_transitions(folder))) for name, folder in named.items()]
    notes = _differing({name: _other_facts(manifest) for name, manifest in manifests.items()})
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


def _world_facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Returns all properties of the world of a run, as text."""
    world, options = manifest.get("world", {}), manifest["options"]
    hashes, versions = _mapping(manifest.get("data_sha256")), _mapping(world.get("packs"))
    facts = {pack: versions.get(pack) or _short(hashes.get(pack)) for pack in _PACKS}
    facts |= {name: str(world.get(name)) for name in _WORLD}
    facts |= {f"objective.{name}": str(number) for name, number in _mapping(world.get("objective")).items()}
    facts |= {
        name: str(options.get(name, BenchOptions.model_fields[name].get_default(call_default_factory=True)))
        for name in _OPTIONS
    }
    facts |= {name: _short(facts[name]) for name in _HASH_OF}
    if facts["query_source"].startswith("file:"):
        facts["query_source"] = "a file"  # the hash in `queries` identifies it
    return facts


def _other_facts(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Returns properties that may differ between comparable runs and are reported as notes."""
    return {
        "ad_llm": str(manifest.get("world", {}).get("ad_llm")),
        "seed": str(manifest["options"].get("seed")),
        "simenv": str(_mapping(manifest.get("packages")).get("simenv-ads")),
    }


def _differing(facts: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Returns one line for each fact that differs between runs: "judge is A in RUN1 and RUN2, B in RUN3"."""
    lines: dict[str, str] = {}
    for fact in dict.fromkeys(name for run_facts in facts.values() for name in run_facts):
        runs_by_value: dict[str, list[str]] = {}
        for run, run_facts in facts.items():
            runs_by_value.setdefault(run_facts.get(fact, "None"), []).append(run)
        if len(runs_by_value) > 1 and _HASH_OF.get(fact) not in lines:
            values = ", ".join(f"{value} in {' and '.join(runs)}" for value, runs in runs_by_value.items())
            lines[fact] = f"{fact} is {values}"
    return list(lines.values())


def _unfinished(runs: Iterable[Run]) -> list[str]:
    return [f"{run.name} is not finished" for run in runs if not run.manifest.get("finished")]


def _table(runs: Sequence[Run], baseline: str | None, metrics: Sequence[Metric]) -> Table:
    mechanisms = [list(dict.fromkeys(t.mechanism for t in run.transitions)) for run in runs]
    all_names = [name for names in mechanisms for name in names]
    labels = [
        {name: name if all_names.count(name) == 1 else f"{run.name}/{name}" for name in names}
        for run, names in zip(runs, mechanisms, strict=True)
    ]
    known = [label for run_labels in labels for label in run_labels.values()]
    if not known:
        raise InputError(f"no answers in {' and '.join(run.name for run in runs)}")
    baseline = baseline or known[0]
    if baseline not in known:
        raise UnknownName("baseline", baseline, known)
    indices: dict[tuple[str, str], int] = {}
    rows: dict[str, dict[int, Transition]] = {}
    for run, run_labels in zip(runs, labels, strict=True):
        for t in run.transitions:
            index = indices.setdefault((t.auction.id, t.auction.query.text), len(indices))
            label = run_labels[t.mechanism]
            rows.setdefault(label, {})[index] = t.model_copy(update={"mechanism": label, "index": index})
    unpaired = [label for label, by_index in rows.items() if not by_index.keys() & rows[baseline].keys()]
    return summarize((t for by_index in rows.values() for t in by_index.values()), baseline, unpaired, metrics)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _short(sha256: Any) -> str:
    return str(sha256)[:12]
