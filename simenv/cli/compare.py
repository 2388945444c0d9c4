"""`simenv compare`: several runs in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simenv.errors import DataFileError


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two bench runs or more.")],
    across: Annotated[
        bool,
        typer.Option("--across", help="Compare runs of different packs, judges or worlds all the same."),
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="What differences are against, as the table names it; the first by default.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table to this new .csv file.")] = None,
) -> None:
    """Puts several runs' mechanisms into one table; runs of different packs, judges or worlds are refused."""
    from simenv.runs.compare import compare as compare_runs
    from simenv.runs.tables import print_tables, to_csv

    if out is not None:
        _check_new(out)
    found = compare_runs(runs, across=across, baseline=baseline)
    console = Console()
    for line in found.differing:
        console.print(f"differs: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    for line in found.notes:
        console.print(f"note: {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
    print_tables(found.table, console)
    if out is not None:
        out.write_text(to_csv(found.table), encoding="utf-8")
        console.print(f"written to {out}", style="dim", soft_wrap=True)


def _check_new(out: Path) -> None:
    if out.suffix != ".csv":
        raise DataFileError(f"{out}: ending {out.suffix!r} is not written here, expected .csv")
    if out.exists():
        raise DataFileError(f"{out} exists already: give a new file, nothing is overwritten")
    if not out.parent.is_dir():
        raise DataFileError(f"{out}: folder {out.parent} does not exist")
