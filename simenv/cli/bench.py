"""`simenv bench`: runs mechanisms on the same auctions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import takes
from simenv.runs.options import BenchOptions


@takes(BenchOptions)
def bench(
    out: Annotated[Path, typer.Option(help="A new folder for the results; with --resume, the folder of the run.")],
    options: BenchOptions,
    given: set[str],
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, with its own options.")] = False,
) -> None:
    """Runs mechanisms on the same auctions and prints a table with intervals."""
    from simenv.runs.bench import resumed_options

    if resume:
        options = resumed_options(options, given, out)
    run_and_print(options, out, resume=resume)
    console.written_to(out)


def run_and_print(options: BenchOptions, folder: Path, *, resume: bool = False) -> None:
    """Runs a benchmark under a progress bar and prints its tables."""
    from simenv.runs.bench import Progress, run_bench
    from simenv.runs.tables import print_tables

    with console.answers_bar() as (started, answered):
        result = run_bench(
            options, folder, resume=resume, progress=Progress(started=started, answered=answered, warned=console.warn)
        )
    print_tables(result.summary, console.out)
    if result.disagreement is not None:
        text = f"The judges' click probabilities differ by {result.disagreement:.3f} on average."
        console.out.print(text, highlight=False)
