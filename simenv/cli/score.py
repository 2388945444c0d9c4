"""`simenv score`: judges answers that somebody else's system wrote."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.bench import print_result, report
from simenv.cli.options import takes
from simenv.cli.progress import run_progress
from simenv.errors import SimenvError
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
    from simenv.runs.answering import Progress
    from simenv.scoring.score import run_score

    go_on = f"go on with the same command and --resume; finished chunks are in {shlex.quote(str(out))}"
    begun = False
    try:
        with run_progress(console.err) as shown:

            def started(answers: int) -> None:
                nonlocal begun
                begun = True
                shown.started(answers)

            progress = Progress(
                stage=shown.stage,
                started=started,
                answered=shown.answered,
                skipped=shown.skipped,
                warned=console.warn,
                noted=console.note,
            )
            result = run_score(
                files, options, out, resume=resume, allow_changed_code=allow_changed_code, progress=progress
            )
    except SimenvError as error:
        if begun:
            error.add_note(go_on)
        raise
    print_result(result)
    console.written_to(out)
    console.line(f"its tables, plots and answers in a browser: simenv view {shlex.quote(str(out))}", style="dim")
    if result.stopped is not None:
        console.error(result.stopped.text)
        console.note(f"{go_on}, with --{result.stopped.ceiling.replace('_', '-')} HIGHER")
    report(result.problems)
    if result.stopped is not None:
        raise typer.Exit(console.AT_A_CEILING)
