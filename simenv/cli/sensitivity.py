"""`simenv sensitivity`: tests how the ranking of mechanisms depends on the click model: its parameters, or worlds."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.runs.options import names_of

if TYPE_CHECKING:
    from rich.console import Console

    from simenv.runs.sensitivity import ChangedWorld, Sensitivity
    from simenv.stats import Estimate


def sensitivity(
    run: Annotated[
        Path,
        typer.Argument(help="The folder of a run with two mechanisms or more, without learning or budgets."),
    ],
    measure: Annotated[str, typer.Option(help="revenue, bid_weighted_clicks, reward or welfare.")] = "revenue",
    worlds: Annotated[
        str | None,
        typer.Option(
            help="Other click worlds, instead of one parameter at a time: v1, rare, labels, fatigue, FILE.toml, ..."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table to this new .csv file.")] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Judges a run's answers again in other worlds, or with one parameter of the click model changed at a time."""
    from simenv.files.atomic import replacing
    from simenv.files.blocks import csv_text
    from simenv.files.folders import check_new_file
    from simenv.runs.sensitivity import sensitivity_of_run

    if out is not None:
        check_new_file(out)
    report = sensitivity_of_run(run, measure, worlds=names_of(worlds), left_out=console.left_out(sound_only))
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
    """Prints the table, and which conclusions hold in the changed worlds."""
    of_worlds = all(world.changed == "world" for world in report.worlds)
    how = "in other worlds" if of_worlds else "one parameter of the click model changed at a time"
    table = Table(title=f"{report.measure} per answer, {how}", box=SIMPLE_HEAD)
    table.add_column("parameter")
    for column in ("value", "rank tau", "hold", "open", "reversed"):
        table.add_column(column, justify="right")
    table.add_column("ranking")
    for world in (report.base, *report.worlds):
        table.add_row(*_row(world))
    terminal.print(table)
    if of_worlds:
        print_differences(report, terminal)
        return
    survivors = {c[:2] for c in report.survivors()}
    terminal.print(f"{len(survivors)} of {len(report.conclusions)} conclusions are never reversed:")
    for c in report.conclusions:
        where = [f"{s.changed} = {_text(s.value)}" for s in report.worlds if any(r[:2] == c[:2] for r in s.reversed)]
        verdict = "survives" if c[:2] in survivors else f"reversed at {', '.join(where)}"
        gap = f"{c.difference.value:.2f} ±{c.difference.margin:.2f}"
        terminal.print(f"  {c.better} over {c.worse} by {gap}: {verdict}", soft_wrap=True)


def print_differences(report: Sensitivity, terminal: Console) -> None:
    """Prints every conclusion of the original world, with its difference in each world, and how many hold in all."""
    table = Table(title="difference per answer, 95% interval", box=SIMPLE_HEAD)
    table.add_column("conclusion")
    for name in ("original", *(_text(world.value) for world in report.worlds)):
        table.add_column(name, justify="right")
    for i, (better, worse, difference) in enumerate(report.conclusions):
        cells = [f"{_difference(d)} {_verdict(d)}" for d in (world.now[i].difference for world in report.worlds)]
        table.add_row(f"{better} over {worse}", _difference(difference), *cells)
    terminal.print(table)
    verdicts = [{_verdict(world.now[i].difference) for world in report.worlds} for i in range(len(report.conclusions))]
    held, turned = (sum(test(v) for v in verdicts) for test in (lambda v: v <= {"holds"}, lambda v: "reversed" in v))
    terminal.print(f"{held} of {len(verdicts)} conclusions hold in every world, {turned} are reversed in some world")


def _verdict(difference: Estimate) -> str:
    return "holds" if difference.low > 0 else "reversed" if difference.high < 0 else "open"


def _difference(difference: Estimate) -> str:
    return f"{difference.value:.3g} ±{difference.margin:.2g}"


def _row(s: ChangedWorld) -> list[str]:
    ranking = " > ".join(f"{name} {mean:.1f}" for name, mean in s.means.items())
    counts = [str(s.holds), str(s.open), str(len(s.reversed))]
    return [s.changed or "original", _text(s.value), f"{s.rank_correlation:.2f}", *counts, ranking]


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"
