"""`simenv export`: writes a run's log as training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY


def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option(help="A .parquet or .jsonl file.")],
    format: Annotated[
        str,
        typer.Option(help="clicks: one row per shown ad; preferences, sft or kto: as TRL's trainers read them."),
    ] = "clicks",
    min_gap: Annotated[
        float | None, typer.Option(help="preferences: minimum reward difference of a pair; default 10.")
    ] = None,
    min_reward: Annotated[
        float | None, typer.Option(help="sft: minimum reward of an auction's best answer, exclusive; default 0.")
    ] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Writes a run's log as training data, and a dataset card in the same folder."""
    from simenv.datasets.export import export_run

    rows = export_run(run, out, format, min_gap=min_gap, min_reward=min_reward, left_out=console.left_out(sound_only))
    console.out.print(f"{rows} rows to {out}", markup=False, highlight=False, soft_wrap=True)
