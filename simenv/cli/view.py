"""`simenv view`: writes a report of runs as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.runs.options import names_of

if TYPE_CHECKING:
    from simenv.report.view import View


def view(
    runs: Annotated[list[Path], typer.Argument(help="Folders of one bench run or more.")],
    out: Annotated[
        Path | None, typer.Option(help="The file; report.html in the first run's folder by default.")
    ] = None,
    answers: Annotated[
        int, typer.Option(help="Most answers in the file; of more, a random sample of whole questions.")
    ] = 10_000,
    training: Annotated[
        list[Path] | None, typer.Option(help="Folder of a trained adapter: its learning curves. Repeatable.")
    ] = None,
    validity: Annotated[
        list[Path] | None, typer.Option(help="Report of validate-judge: its folder or validity.json. Repeatable.")
    ] = None,
    audit: Annotated[
        list[Path] | None, typer.Option(help="Report of audit: its folder or audit.json. Repeatable.")
    ] = None,
    across: Annotated[
        bool, typer.Option("--across", help="Also show runs of different packs, judges or worlds together.")
    ] = False,
    baseline: Annotated[
        str | None, typer.Option(help="Reference of the differences, as the table names it; the run's own by default.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(help="Additional metrics: detection, package.module:Class, file.py:Class.")
    ] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Writes one HTML file with the tables, plots and answers of runs, to be opened in a browser without a network."""
    from simenv.report.view import view as write_view

    written = write_view(
        runs,
        out=out,
        baseline=baseline,
        across=across,
        metrics=names_of(metrics),
        training=training or (),
        validity=validity or (),
        audit=audit or (),
        answers=answers,
        left_out=console.left_out(sound_only),
    )
    for note in written.notes:
        console.line(f"note: {note}", style="dim")
    print_view(written)


def print_view(written: View) -> None:
    """Prints what a report holds, its path and its size."""
    console.line(written.sample, style="dim")
    size = f"{written.size / 1e6:.1f} MB" if written.size >= 1e5 else f"{written.size / 1e3:.0f} kB"
    console.line(f"report for the browser: {written.path} ({size})")
