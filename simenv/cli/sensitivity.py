"""`simenv sensitivity`: tests how the ranking of mechanisms depends on each parameter of the click model."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY

if TYPE_CHECKING:
    from rich.console import Console

    from simenv.runs.sensitivity import ChangedWorld, Sensitivity


def sensitivity(
    run: Annotated[
        Path,
        typer.Argument(help="The folder of a run with two mechanisms or more, without learning or budgets."),
    ],
    measure: Annotated[str, typer.Option(help="revenue, bid_weighted_clicks, reward or welfare.")] = "revenue",
    out: Annotated[Path | None, typer.Option(help="Also write the table to this new .csv file.")] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Judges a run's answers again with every parameter of the click model changed, one at a time."""
    from simenv.files.atomic import replacing
    from simenv.files.blocks import csv_text
    from simenv.files.folders import check_new_file
    from simenv.runs.sensitivity import sensitivity_of_run

    if out is not None:
        check_new_file(out)
    report = sensitivity_of_run(run, measure, left_out=console.left_out(sound_only))
    print_report(report, console.out)
    if out is not None:
        with replacing(out) as part, part.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ["changed", "value", "rank_correlation", "holds", "open", "reversed", *map(csv_text, report.base.means)]
            )
            for s in (report.base, *report.worlds):
                counts = [s.rank_correlation, s.holds, s.open, len(s.reversed)]
                writer.writerow([s.changed, s.value, *counts, *(s.means[name] for name in report.base.means)])


def print_report(report: Sensitivity, terminal: Console) -> None:
    """Prints the table and the conclusions that hold in all changed worlds."""
    table = Table(
        title=f"{report.measure} per answer, one parameter of the click model changed at a time", box=SIMPLE_HEAD
    )
    table.add_column("parameter")
    for column in ("value", "rank tau", "hold", "open", "reversed"):
        table.add_column(column, justify="right")
    table.add_column("ranking")
    for world in (report.base, *report.worlds):
        table.add_row(*_row(world))
    terminal.print(table)
    survivors = {c[:2] for c in report.survivors()}
    terminal.print(f"{len(survivors)} of {len(report.conclusions)} conclusions are never reversed:")
    for c in report.conclusions:
        where = [f"{s.changed} = {_text(s.value)}" for s in report.worlds if any(r[:2] == c[:2] for r in s.reversed)]
        verdict = "survives" if c[:2] in survivors else f"reversed at {', '.join(where)}"
        gap = f"{c.difference.value:.2f} ±{c.difference.margin:.2f}"
        terminal.print(f"  {c.better} over {c.worse} by {gap}: {verdict}", soft_wrap=True)


def _row(s: ChangedWorld) -> list[str]:
    ranking = " > ".join(f"{name} {mean:.1f}" for name, mean in s.means.items())
    counts = [str(s.holds), str(s.open), str(len(s.reversed))]
    return [s.changed or "original", _text(s.value), f"{s.rank_correlation:.2f}", *counts, ranking]


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
