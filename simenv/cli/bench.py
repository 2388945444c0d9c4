"""`simenv bench`: runs mechanisms on the same auctions."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simenv.cli import console
from simenv.cli.options import takes
from simenv.cli.progress import followed
from simenv.runs.options import BenchOptions

if TYPE_CHECKING:
    from simenv.runs.bench import BenchResult


@takes(BenchOptions)
def bench(
    out: Annotated[Path, typer.Option(help="A new folder for the results; with --resume, the folder of the run.")],
    options: BenchOptions,
    given: set[str],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in --out, with its own options; a larger --n extends it.")
    ] = False,
    allow_changed_code: Annotated[
        bool,
        typer.Option("--allow-changed-code", help="With --resume: continue although the run's code was changed since."),
    ] = False,
    ignore_disk_space: Annotated[
        bool, typer.Option("--ignore-disk-space", help="Continue although the disk seems too small for the run.")
    ] = False,
    track: Annotated[
        str | None, typer.Option(help="Experiment tracker that follows the run: mlflow or wandb, if it is installed.")
    ] = None,
) -> None:
    """Runs mechanisms on the same auctions and prints a table with intervals."""
    from simenv.runs.resume import resumed_options

    if resume:
        options = resumed_options(options, given, out)
    go_on = f"go on with: simenv bench --resume --out {shlex.quote(str(out))}"
    result = run_and_print(
        options,
        out,
        resume=resume,
        allow_changed_code=allow_changed_code,
        ignore_disk_space=ignore_disk_space,
        go_on=go_on,
        track=track,
    )
    console.written_to(out)
    if options.shard is not None:
        console.note(f"this is shard {options.shard}: put all of them together with simenv merge")
    else:
        console.line(f"its tables, plots and answers in a browser: simenv view {shlex.quote(str(out))}", style="dim")
    if result.stopped is not None:
        console.error(result.stopped.text)
        console.note(f"{go_on} --{result.stopped.ceiling.replace('_', '-')} HIGHER")
    report(result.problems)
    if result.stopped is not None:
        raise typer.Exit(console.AT_A_CEILING)


def report(problems: Sequence[str]) -> None:
    """Prints what makes a table worthless.

    Raises:
        typer.Exit: with code 1, if anything does.
    """
    for problem in problems:
        console.error(problem)
    if problems:
        raise typer.Exit(1)


def run_and_print(
    options: BenchOptions,
    folder: Path,
    *,
    resume: bool = False,
    allow_changed_code: bool = False,
    ignore_disk_space: bool = False,
    go_on: str | None = None,
    track: str | None = None,
) -> BenchResult:
    """Runs a benchmark under a progress bar and prints its tables.

    Args:
        options: What to run.
        folder: Where to.
        resume: As in `run_bench`.
        allow_changed_code: As in `run_bench`.
        ignore_disk_space: As in `run_bench`.
        go_on: What to say if the run stops after it has begun.
        track: Name of the experiment tracker.

    Returns:
        The finished benchmark.
    """
    from simenv.runs.bench import run_bench

    tracker = None
    if track is not None:
        from simenv.integrations.tracking import make_tracker, tracked

        tracker = make_tracker(track)
    with followed(go_on) as progress:
        result = run_bench(
            options,
            folder,
            resume=resume,
            allow_changed_code=allow_changed_code,
            ignore_disk_space=ignore_disk_space,
            progress=progress if tracker is None else tracked(tracker, progress),
        )
    print_result(result)
    return result
    return result.problems


def print_result(result: BenchResult) -> None:
    """Prints the tables of a run."""
    from simenv.runs.tables import print_tables

    print_tables(result.summary, console.out)
    if result.disagreement is not None:
        console.line(f"The judges' click probabilities differ by {result.disagreement:.3f} on average.")
