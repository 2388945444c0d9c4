"""Benchmarks and trainings in an experiment tracker: `simenv.integrations.mlflow` and `.wandb` are trackers.

    from simenv.integrations.mlflow import MLflowTracker
    from simenv.integrations.tracking import tracked

    simenv.bench(["gsp", "vcg"], llm="scripted", n=64, progress=tracked(MLflowTracker()))

While a benchmark runs, the tracker gets the mean of each metric so far, per mechanism; at its end the numbers of the
table with their intervals, and the files of the tables. A tracker that fails never ends a run: it gets a warning, and
the run goes on without it.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from simenv.errors import DataFileError, UnknownName
from simenv.files.limits import read_bytes
from simenv.runs.answering import Progress
from simenv.runs.manifest import MANIFEST
from simenv.runs.metrics import METRICS
from simenv.runs.summary import Table
from simenv.runs.window import Finished

FILES = (MANIFEST, "table.csv", "table.md")
"""Files of a run's folder that a tracker gets."""
_ODD = re.compile(r"[^A-Za-z0-9_\-./ ]")


class Tracker(Protocol):
    """Where numbers of a run go. All its calls come one after another, but not always from the same thread."""

    def begin(self, name: str, parameters: Mapping[str, str]) -> None:
        """Begins a run of this name."""
        ...

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Takes numbers as they are after `step` auctions, or epochs. All are finite."""
        ...

    def end(self, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
        """Ends the run with its final numbers and files."""
        ...


def tracked(tracker: Tracker, progress: Progress | None = None) -> Progress:
    """Callbacks for `simenv.bench` that also tell a tracker.

    Args:
        tracker: The tracker.
        progress: Callbacks that are called as well.
    """
    progress = progress or Progress()
    guarded, means = _Guarded(tracker, progress.warned), _Means()

    def began(folder: Path, manifest: Mapping[str, Any]) -> None:
        progress.began(folder, manifest)
        guarded("begin", folder.resolve().name, _parameters(manifest))

    def wrote(finished: Finished) -> None:
        progress.wrote(finished)
        means.add(finished)
        guarded("log", means.numbers(), finished.transitions[-1].index + 1)

    def ended(folder: Path, table: Table) -> None:
        progress.ended(folder, table)
        guarded("end", final_numbers(table), [folder / name for name in FILES if (folder / name).is_file()])

    return replace(progress, began=began, wrote=wrote, ended=ended)


TRACKERS = ("mlflow", "wandb")


def make_tracker(name: str) -> Tracker:
    """A tracker by name, set up as its library is by its environment variables: MLFLOW_TRACKING_URI, WANDB_PROJECT, ...

    Raises:
        InputError: its library is not installed.
        UnknownName: no such tracker.
    """
    if name == "mlflow":
        from simenv.integrations.mlflow import MLflowTracker

        return MLflowTracker()
    if name == "wandb":
        from simenv.integrations.wandb import WandbTracker

        return WandbTracker()
    raise UnknownName("tracker", name, TRACKERS)


def track_training(folder: str | Path, tracker: Tracker) -> None:
    """Tells a tracker of a training in its folder: options, every row of its learning curve, and its files.

    Args:
        folder: A folder of `simenv train` with manifest.json and curve.csv, also of a training that is not finished.
        tracker: The tracker.

    Raises:
        DataFileError: the folder has no learning curve.
    """
    folder = Path(folder)
    curve, manifest = folder / "curve.csv", folder / MANIFEST
    if not curve.is_file():
        raise DataFileError(f"{folder}: no curve.csv: not the folder of a training with a learning curve")
    facts = json.loads(read_bytes(manifest).decode()) if manifest.is_file() else {}
    tracker.begin(folder.resolve().name, {name: _text(it) for name, it in facts.items() if isinstance(it, str | int)})
    with curve.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        part = f"{_name(row['part'])}/" if row.get("part") else ""
        numbers = {f"{part}{_name(name)}": number for name, it in row.items() if (number := _number(it)) is not None}
        step = next((int(float(row[name])) for name in ("update", "epoch") if row.get(name)), 0)
        tracker.log(numbers, step)
    tracker.end({}, [file for file in (manifest, curve) if file.is_file()])


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def final_numbers(table: Table) -> dict[str, float]:
    """The numbers of a table by name: "final/gsp/revenue", with _low and _high for the ends of the interval, and
    _difference for the difference from the baseline. What is undefined is left out."""
    numbers: dict[str, float] = {}
    for cell in table.cells:
        name = _name("final", cell.mechanism, cell.metric)
        for infix, estimate in (("", cell.estimate), ("_difference", cell.difference)):
            if estimate is not None:
                numbers |= {
                    f"{name}{infix}{end}": number
                    for end, number in zip(("", "_low", "_high"), estimate.numbers, strict=True)
                    if math.isfinite(number)
                }
    return numbers


class _Guarded:
    """Calls a tracker until it fails for the first time."""

    def __init__(self, tracker: Tracker, warned: Callable[[str], None]) -> None:
        self._tracker: Tracker | None = tracker
        self._warned = warned

    def __call__(self, method: str, *arguments: Any) -> None:
        if self._tracker is None:
            return
        try:
            getattr(self._tracker, method)(*arguments)
        except Exception as error:  # of the tracker's library or its server: they raise anything
            self._warned(f"{type(self._tracker).__name__} failed, so the run goes on without it: {error!r}")
            self._tracker = None


class _Means:
    """The mean of each metric over the answers so far. With abstentions they may differ from the table's."""

    def __init__(self) -> None:
        self._above: dict[str, float] = defaultdict(float)
        self._below: dict[str, float] = defaultdict(float)

    def add(self, finished: Finished) -> None:
        for turn in finished.transitions:
            expected = all(click.click_prob is not None for click in turn.feedback.clicks)
            for metric in METRICS if turn.error is None else ():
                if (ratio := metric.measure(turn, expected)) is not None:
                    name = _name(turn.mechanism, metric.name)
                    self._above[name] += ratio[0]
                    self._below[name] += ratio[1]

    def numbers(self) -> dict[str, float]:
        return {name: self._above[name] / below for name, below in self._below.items() if below}


def _name(*parts: str) -> str:
    return "/".join(_ODD.sub("_", part) for part in parts)


def _parameters(manifest: Mapping[str, Any]) -> dict[str, str]:
    """The options of a run that are set, its judge and model, and the version, as text."""
    world = manifest.get("world") or {}
    named = {**manifest["options"], **{key: world.get(key) for key in ("ad_llm", "judge", "encoder")}}
    named["simenv"] = (manifest.get("packages") or {}).get("simenv-ads")
    return {name: _text(value) for name, value in named.items() if value not in (None, [], (), {})}


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
