"""`simenv compare`: puts several runs into one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.runs.options import names_of


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of two bench runs or more.")],
    across: Annotated[
        bool,
        typer.Option("--across", help="Also compare runs of different packs, judges or worlds."),
    ] = False,
    baseline: Annotated[
        str | None,
        typer.Option(help="Reference of the differences, as the table names it; the first mechanism by default."),
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Additional metrics: detection, package.module:Class, file.py:Class.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the table to this new .csv file.")] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Puts several runs' mechanisms into one table; runs of different packs, judges or worlds are refused."""
    from simenv.files.atomic import write_bytes_atomically
    from simenv.files.folders import check_new_file
    from simenv.runs.compare import compare as compare_runs
    from simenv.runs.tables import print_tables, to_csv

    if out is not None:
        check_new_file(out, ".csv")
    comparison = compare_runs(
        runs, across=across, baseline=baseline, metrics=names_of(metrics), left_out=console.left_out(sound_only)
    )
    for line in comparison.differing:
        console.line(f"differs: {line}", style="yellow")
    for line in comparison.notes:
        console.line(f"note: {line}", style="dim")
    print_tables(comparison.summary, console.out)
    if out is not None:
        write_bytes_atomically(out, to_csv(comparison.summary, for_spreadsheets=True).encode())
        console.written_to(out)
