"""`simenv plot`: writes a figure of runs for a paper."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.runs.options import names_of


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Folders of one bench run or more.")],
    kind: Annotated[
        str,
        typer.Option(
            help="frontier: a metric against another one; differences: against the baseline; allocation: what is "
            "shown, clicked and paid by bid."
        ),
    ],
    out: Annotated[Path, typer.Option(help="A new .svg, .pdf or .png file.")],
    x: Annotated[str, typer.Option("--x", help="frontier: the metric of the horizontal axis.")] = "satisfaction",
    metric: Annotated[str, typer.Option(help="The metric of the vertical axis, or of the differences.")] = "revenue",
    mechanisms: Annotated[
        str | None, typer.Option(help="Only these mechanisms: labels of the table, comma-separated.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Reference of the differences, as the table names it; the run's own by default.")
    ] = None,
    across: Annotated[
        bool, typer.Option("--across", help="Also draw runs of different packs, judges or worlds together.")
    ] = False,
    metrics: Annotated[
        str | None, typer.Option(help="Additional metrics: detection, package.module:Class, file.py:Class.")
    ] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Writes a figure of runs with 95% intervals, for a paper: the same runs give the same bytes."""
    from simenv.report.plot import plot as write_plot

    written = write_plot(
        runs,
        kind,
        out,
        x=x,
        metric=metric,
        mechanisms=names_of(mechanisms),
        baseline=baseline,
        across=across,
        metrics=names_of(metrics),
        left_out=console.left_out(sound_only),
    )
    console.written_to(written)
