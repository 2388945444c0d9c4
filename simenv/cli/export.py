"""`simenv export`: a run's log as training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option(help="A .parquet or .jsonl file.")],
    format: Annotated[
        str,
        typer.Option(help="clicks: one row per shown ad; preferences, sft or kto: as TRL's trainers read them."),
    ] = "clicks",
    min_gap: Annotated[
        float | None, typer.Option(help="preferences: least difference of rewards of a pair; 10 if not given.")
    ] = None,
    min_reward: Annotated[
        float | None, typer.Option(help="sft: what an auction's best answer must exceed; 0 if not given.")
    ] = None,
) -> None:
    """Writes a run's log as training data, and a dataset card beside it."""
    from simenv.datasets.export import export_run

    rows = export_run(run, out, format, min_gap=min_gap, min_reward=min_reward)
    console.out.print(f"{rows} rows to {out}", markup=False, highlight=False, soft_wrap=True)
