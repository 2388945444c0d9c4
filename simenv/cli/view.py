"""`simenv view`: writes a report of runs as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.runs.options import names_of


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
        str | None, typer.Option(help="Additional metrics: package.module:Class, file.py:Class.")
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
    console.line(written.sample)
    console.line(f"report: {written.path} ({megabytes(written.size)})")


def megabytes(size: int) -> str:
    """A file's size for people."""
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.0f} kB"
