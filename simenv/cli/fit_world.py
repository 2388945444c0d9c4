"""`simenv fit-world`: fits the click model's numbers to a click log."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY


def fit_world(
    log: Annotated[
        Path,
        typer.Argument(help="The folder of a run, or a .csv, .tsv, .jsonl or .parquet file with one row per shown ad."),
    ],
    out: Annotated[Path, typer.Option(help="A new .toml file; use it as --judge click:FILE.")],
    prior: Annotated[
        str, typer.Option(help="The world at which the priors are centred: v1, rare, labels, fatigue or a .toml file.")
    ] = "v1",
    name: Annotated[str | None, typer.Option(help="Name of the new world; that of the file by default.")] = None,
    columns: Annotated[str | None, typer.Option(help="OURS=THEIRS,... for other column names in the file.")] = None,
    personas: Annotated[
        str | None, typer.Option(help="Pack or file with the traits of the file's personas, by their ids.")
    ] = None,
    mechanism: Annotated[str | None, typer.Option(help="Use only the answers of this mechanism.")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws for the intervals, at least 10.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    report: Annotated[
        Path | None, typer.Option(help="Also write the report to this new folder: fit.json, report.md, a plot.")
    ] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Fits the numbers of a click world to a click log, and reports its predictions on held-out users."""
    from functools import partial

    from simenv.files.folders import check_folder, check_new_file
    from simenv.files.rows import parse_columns
    from simenv.fitting.fit import fit_world as fit
    from simenv.fitting.log import read_click_log
    from simenv.fitting.report import plots, report_of
    from simenv.fitting.world_file import write_world
    from simenv.judges.click_worlds import load_world

    check_new_file(out, ".toml")
    if report is not None:
        check_folder(report)
    world = load_world(prior)
    clicks = read_click_log(
        log,
        world=world,
        columns=parse_columns(columns),
        personas=personas,
        mechanism=mechanism,
        left_out=console.left_out(sound_only),
    )
    with console.named_bars() as (watch, _):
        fitted = fit(clicks, name or out.stem, world, draws=draws, seed=seed, watch=partial(watch, "bootstrap"))
    write_world(fitted, out)
    shown = report_of(fitted)
    shown.print(console.out)
    if report is not None:
        shown.write(report, "fit.json", fitted, partial(plots, fitted))
    console.line(f"world {fitted.params.world} written to {out}; --judge click:{out} runs it")
