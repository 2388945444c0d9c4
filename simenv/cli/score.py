"""`simenv score`: judges answers that somebody else's system wrote."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.bench import print_result, report
from simenv.cli.options import takes
from simenv.cli.progress import followed
from simenv.runs.options import ScoreOptions


@takes(ScoreOptions)
def score(
    files: Annotated[list[Path], typer.Argument(help=".csv, .tsv, .jsonl, .parquet or Markdown files of answers.")],
    out: Annotated[Path, typer.Option(help="A new folder for the results; with --resume, the folder of the run.")],
    options: ScoreOptions,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, with the same files and options.")
    ] = False,
    allow_changed_code: Annotated[
        bool,
        typer.Option("--allow-changed-code", help="With --resume: continue although the code was changed since."),
    ] = False,
) -> None:
    """Judges and measures answers that somebody else's system wrote, as if a mechanism had written them."""
    from simenv.scoring.score import run_score

    go_on = f"go on with the same command and --resume; finished chunks are in {shlex.quote(str(out))}"
    with followed(go_on) as progress:
        result = run_score(files, options, out, resume=resume, allow_changed_code=allow_changed_code, progress=progress)
    print_result(result)
    console.written_to(out)
    console.line(f"its tables, plots and answers in a browser: simenv view {shlex.quote(str(out))}", style="dim")
    if result.stopped is not None:
        console.error(result.stopped.text)
        console.note(f"{go_on}, with --{result.stopped.ceiling.replace('_', '-')} HIGHER")
    report(result.problems)
    if result.stopped is not None:
        raise typer.Exit(console.AT_A_CEILING)
