"""Figures of runs for papers: `simenv.plot(...)` and the command `simenv plot`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from simenv.errors import InputError, UnknownName
from simenv.files.folders import check_new_file
from simenv.records import Transition
from simenv.report.bids import allocation
from simenv.report.data import AXES, differences, frontier, label
from simenv.report.papers import ENDINGS, LINES, draw_allocation, draw_differences, draw_frontier, save
from simenv.runs.compare import compare_runs, labelled, labels_of, open_runs
from simenv.runs.log import LeftOut
from simenv.runs.manifest import about
from simenv.runs.metric_types import Metric
from simenv.runs.metrics import METRICS, metrics_named
from simenv.runs.summary import Table, table_of
from simenv.runs.tally import tally
from simenv.runs.tally_run import tally_of_run

Kind = Literal["frontier", "differences", "allocation"]
KINDS: tuple[Kind, ...] = get_args(Kind)


def plot(
    runs: str | Path | Sequence[str | Path],
    kind: str,
    out: str | Path,
    *,
    x: str = "satisfaction",
    metric: str = "revenue",
    mechanisms: Sequence[str] = (),
    baseline: str | None = None,
    across: bool = False,
    metrics: Sequence[str | Metric] = (),
    left_out: LeftOut | None = None,
) -> Path:
    """Writes a figure of runs as .svg, .pdf or .png, with 95% intervals. The same runs give the same bytes.

    Args:
        runs: The folder of a bench run, or several.
        kind: frontier: `metric` against `x`, one point per mechanism. differences: `metric` of each mechanism minus the
            baseline's. allocation: share of candidates shown, clicks and payment by bid.
        out: A new file.
        x: frontier only: the metric of the horizontal axis.
        metric: The metric of the vertical axis, or of the differences.
        mechanisms: Labels of the mechanisms that are drawn; all by default.
        baseline: Reference of the differences; that of the run, or the first mechanism.
        across: Whether to draw runs of different packs, judges or worlds together.
        metrics: Metrics beside the built-in ones, or their names, that `metric` and `x` may name.
        left_out: Called with what is left out of a damaged log; None: a damaged log is an error.

    Returns:
        The file.

    Raises:
        UnknownName: an unknown kind, metric, mechanism or baseline.
        InputError: the runs have nothing of this kind to draw, or too many mechanisms for it.
        DataFileError: a folder without a run, an existing file, or another ending.
        CannotWrite: the file cannot be written.
    """
    folders = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    path = Path(out)
    if kind not in KINDS:
        raise UnknownName("kind of figure", kind, KINDS)
    check_new_file(path, *ENDINGS)
    table, read = _read(folders, baseline, across, metrics, left_out)
    known = list(dict.fromkeys(cell.mechanism for cell in table.cells))
    for name in mechanisms:
        if name not in known:
            raise UnknownName("mechanism of the runs", name, known)
    shown = list(mechanisms) or known
    if kind == "allocation":
        _draw_allocation(table, read, shown, path)
        return path
    measured = list(dict.fromkeys(cell.metric for cell in table.cells))
    for name in (metric, x) if kind == "frontier" else (metric,):
        if name not in measured:
            if name == "satisfaction":
                hint = f"name another metric for x: {', '.join(axis for axis in AXES if axis in measured)}"
                raise InputError("the runs did not measure satisfaction: their quality is none", hint=hint)
            raise UnknownName("metric of the runs", name, measured)
    if kind == "frontier":
        found = frontier(table._replace(cells=[cell for cell in table.cells if cell.mechanism in shown]), x, metric)
        if found is None:
            raise InputError(f"no mechanism has both {metric} and {x}")
        save(lambda: draw_frontier(found), path)
    else:
        rows = [row for row in differences(table, metric) if row.mechanism in shown]
        if not rows:
            raise InputError(f"no mechanism beside the baseline {table.baseline} has {metric}")
        save(lambda: draw_differences(rows, label(table, metric), table.baseline), path)
    return path


def _draw_allocation(table: Table, read: Callable[[], Iterable[Transition]], shown: Sequence[str], path: Path) -> None:
    if len(shown) > LINES:
        raise InputError(
            f"an allocation shows at most {LINES} mechanisms, got {len(shown)}: {', '.join(shown)}",
            hint="choose some with the option mechanisms",
        )
    bins = allocation((t for t in read() if t.mechanism in shown), table.expected)
    if not bins:
        raise InputError("the runs have no candidates to draw")
    save(lambda: draw_allocation({name: bins[name] for name in shown if name in bins}), path)


def _read(
    folders: Sequence[Path],
    baseline: str | None,
    across: bool,
    metrics: Sequence[str | Metric],
    left_out: LeftOut | None,
) -> tuple[Table, Callable[[], Iterable[Transition]]]:
    """The table of the runs, and what reads their answers."""
    if not folders:
        raise InputError("no run to draw: give the folder of a bench run")
    opened = open_runs(folders, left_out)
    if len(opened) == 1:
        (run,) = opened
        measures = [*METRICS, *metrics_named(metrics)]
        with tally_of_run(folders[0], measures) if left_out is None else tally(run.read, measures) as found:
            chosen = baseline or run.manifest["options"].get("baseline")
            return table_of(found, measures, chosen, about=about(run.manifest)), run.read
    labels = labels_of(opened)
    compared = compare_runs(opened, across=across, baseline=baseline, metrics=metrics, labels=labels)
    return compared.summary, partial(labelled, opened, labels)
