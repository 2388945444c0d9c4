"""Reads runs and writes the report: `simenv.view(...)` and the command `simenv view`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simenv.errors import DataFileError, InputError
from simenv.files.atomic import write_bytes_atomically
from simenv.files.blocks import Block
from simenv.files.folders import try_file
from simenv.records import Persona
from simenv.report.answers import Sample
from simenv.report.bids import Allocation
from simenv.report.data import differences, frontiers, label
from simenv.report.groups import ClickGroups
from simenv.report.page import SIGN, render
from simenv.runs.compare import Comparison, Run, compare_runs, incomplete, labelled, labels_of, open_runs
from simenv.runs.log import SESSIONS, LeftOut, read_sessions
from simenv.runs.manifest import about
from simenv.runs.metric_types import Metric
from simenv.runs.metrics import METRICS, metrics_named
from simenv.runs.noise_floor import CARD
from simenv.runs.options import BenchOptions
from simenv.runs.summary import Table, table_of
from simenv.runs.tables import blocks, caption
from simenv.runs.tally import tally
from simenv.runs.tally_run import tally_of_run
from simenv.runs.ties import Source, mark_ties
from simenv.stats import Estimate

if TYPE_CHECKING:
    from simenv.report.attached import Attached, Curve

NAME = "report.html"
ANSWERS = 10_000
"""Most answers in a report, unless another number is given."""


_LIMITS = ("fail_on_useless", "fail_on_error")


@dataclass(frozen=True)
class View:
    """A written report."""

    path: Path
    size: int
    """Bytes."""
    sample: str
    """How many answers it holds, and of how many."""
    notes: tuple[str, ...]
    """What a reader should know of the runs: differences, unfinished runs, parts."""


def view(
    runs: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    baseline: str | None = None,
    across: bool = False,
    metrics: Sequence[str | Metric] = (),
    training: Sequence[str | Path] = (),
    validity: Sequence[str | Path] = (),
    audit: Sequence[str | Path] = (),
    answers: int = ANSWERS,
    left_out: LeftOut | None = None,
) -> View:
    """Writes one HTML file with the tables, plots and answers of runs. It needs no server and no network.

    Args:
        runs: The folder of a bench run, or several.
        out: The file; report.html in the folder of the first run by default. An earlier report is replaced.
        baseline: Reference of the differences, as the table names it; that of the run, or the first mechanism.
        across: Whether to show runs of different packs, judges or worlds in one report.
        metrics: Metrics beside the built-in ones, or their names.
        training: Folders of trained adapters, for their learning curves.
        validity: Reports of `simenv validate-judge`: folders, or their validity.json. Judge cards in these folders, and
            in those of the runs, are shown too.
        audit: Reports of `simenv audit`: folders, or their audit.json.
        answers: Most answers in the file; of more, a random sample of whole questions. 0: none.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.

    Raises:
        DataFileError: a folder without a run, a file that cannot be read, or an existing file that is no report.
        InputError: a duplicate folder, runs of different worlds without `across`, or a negative number of answers.
        UnknownName: unknown baseline.
        CannotWrite: the file cannot be written.
    """
    folders = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if not folders:
        raise InputError("no run to show: give the folder of a bench run")
    if answers < 0:
        raise InputError(f"answers must be at least 0, got {answers}")
    opened = open_runs(folders, left_out)
    path = Path(out) if out is not None else folders[0] / NAME
    _refuse_other_file(path)
    extras = _attached(folders, training, validity, audit, left_out)
    measures = metrics_named(metrics)
    if len(opened) == 1:
        found, read = _of_one(folders[0], opened[0], baseline, measures, left_out), opened[0].read()
    else:
        labels = labels_of(opened)
        found = compare_runs(opened, across=across, baseline=baseline, metrics=measures, labels=labels)
        read = labelled(opened, labels)
    people = _personas(folders, left_out)
    table = found.summary
    allocation, groups, sample = Allocation(table.expected), ClickGroups(table.expected, people), Sample(answers)
    for t in read:
        allocation.add(t)
        groups.add(t)
        if answers:
            sample.add(t)
    mechanisms = list(dict.fromkeys(cell.mechanism for cell in table.cells))
    summary = {
        "title": " and ".join(run.name for run in opened),
        "caption": caption(table),
        "notes": [*(f"differs: {line}" for line in found.differing), *found.notes],
        "runs": [_facts(run) for run in opened],
        "mechanisms": mechanisms,
        "baseline": table.baseline,
        "expected": table.expected,
        "tables": [_block(block) for block in blocks(table)],
        **_figures(table),
        "bids": {name: [_named(row) for row in rows] for name, rows in allocation.bins().items()},
        "clicks": {by: [_named(row) for row in rows] for by, rows in groups.rates().items()},
        **extras,
        "sample": _said(sample),
    }
    content = render(summary, sample.page(mechanisms, people))
    write_bytes_atomically(path, content)
    return View(path, len(content), _said(sample), tuple(summary["notes"]))


def _of_one(
    folder: Path, run: Run, baseline: str | None, metrics: Sequence[Metric], left_out: LeftOut | None
) -> Comparison:
    """The run's own table, as `simenv bench` writes it, with its ties; and what makes it worthless."""
    options = run.manifest["options"]
    measures = [*METRICS, *metrics]
    measured = tally_of_run(folder, measures) if left_out is None else tally(run.read, measures)
    with measured as found:
        table = table_of(found, measures, baseline or options.get("baseline"), about=about(run.manifest))
        limits = [options.get(name, BenchOptions.model_fields[name].default) for name in _LIMITS]
        problems = found.findings.problems(*limits)
    names = dict.fromkeys(cell.mechanism for cell in table.cells)
    table = mark_ties(table, {name: Source(run.name, folder, run.manifest, name) for name in names})
    return Comparison(table, [], [*problems, *incomplete([run])])


def _refuse_other_file(path: Path) -> None:
    """Refuses to replace a file that is not a report."""
    try_file(path)
    if path.exists():
        with path.open("rb") as file:
            if file.read(len(SIGN)) != SIGN:
                raise DataFileError(f"{path} exists already and is no report of simenv: give a new file")


def _personas(folders: Sequence[Path], left_out: LeftOut | None) -> dict[str, Persona]:
    """The personas of the runs by id, of those runs that say whom they met."""
    known: dict[str, Persona] = {}
    for folder in folders:
        if (folder / SESSIONS).is_file():
            for session in read_sessions(folder, left_out=left_out).values():
                known.setdefault(session.persona.id, session.persona)
    return known


def _attached(
    runs: Sequence[Path],
    training: Sequence[str | Path],
    validity: Sequence[str | Path],
    audit: Sequence[str | Path],
    left_out: LeftOut | None,
) -> dict[str, Any]:
    # Only here: it imports the reports of two other commands.
    from simenv.report.attached import learning_curves, read_audit, read_card, read_validity

    cards = [folder for folder in [*runs, *map(Path, validity)] if (folder / CARD).is_file()]
    reports = [
        *(read_card(folder, left_out) for folder in cards),
        *map(read_validity, validity),
        *map(read_audit, audit),
    ]
    curves = [{"title": Path(path).resolve().name, "curves": _curves(learning_curves(path))} for path in training]
    return {"training": curves, "reports": [_report(attached) for attached in reports]}


def _report(attached: Attached) -> dict[str, Any]:
    report = attached.report
    return {
        "title": report.title,
        "caption": report.caption,
        "warnings": list(report.warnings),
        "tables": [_block(block) for block in report.blocks],
        "curves": _curves(attached.curves),
    }


def _curves(curves: Sequence[Curve]) -> list[dict[str, Any]]:
    return [curve._asdict() for curve in curves]


def _figures(table: Table) -> dict[str, Any]:
    metrics = dict.fromkeys(cell.metric for cell in table.cells)
    return {
        "frontiers": [
            {"x": it.x_label, "y": it.y_label, "metric": it.x, "points": [_named(point) for point in it.points]}
            for it in frontiers(table)
        ],
        "differences": [
            {"metric": metric, "label": label(table, metric), "rows": [_named(row) for row in rows]}
            for metric in metrics
            if (rows := differences(table, metric))
        ],
    }


def _named(row: Any) -> dict[str, Any]:
    """A named tuple as the page reads it: an estimate is [value, low, high]."""
    return {name: it.numbers if isinstance(it, Estimate) else it for name, it in row._asdict().items()}


def _block(block: Block) -> dict[str, Any]:
    return block._asdict()


def _facts(run: Run) -> dict[str, Any]:
    """What the report says of a run beside its table."""
    manifest = run.manifest
    rows = [(name, manifest.get(name)) for name in ("started", "finished", "python", "platform")]
    command = manifest.get("command")
    rows += [("command", " ".join(map(str, command)) if isinstance(command, list) else None)]
    rows += [("run", ", ".join(about(manifest)))]
    return {"name": run.name, "rows": [(name, str(value)) for name, value in rows if value is not None]}


def _said(sample: Sample) -> str:
    if not sample.answers:
        return "No answers."
    if sample.kept == sample.answers:
        return f"All {sample.answers:,} answers to {sample.questions:,} questions."
    return (
        f"{sample.kept:,} of {sample.answers:,} answers: those to {sample.kept_questions:,} of {sample.questions:,} "
        "questions, drawn at random. Tables and plots are of all answers."
    )
