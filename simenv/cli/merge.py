"""`simenv merge`: puts the parts of a sharded run together."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.bench import print_result, report
from simenv.errors import PartsMissing


def merge(
    parts: Annotated[list[Path], typer.Argument(help="Folders of all parts: bench runs with --shard.")],
    out: Annotated[Path, typer.Option(help="A new folder for the whole run.")],
    across_machines: Annotated[
        bool,
        typer.Option("--across-machines", help="Also merge parts of machines that may give other bytes."),
    ] = False,
) -> None:
    """Puts the parts of a sharded run together, to the bytes of a run in one process, and prints its table."""
    from simenv.runs.merge import merge as merge_parts

    try:
        result = merge_parts(parts, out, across_machines=across_machines)
    except PartsMissing as error:
        for part in error.unfinished:
            error.add_note(f"finish it with: simenv bench --resume --out {shlex.quote(part)}")
        if error.missing:
            error.add_note(f"run it with: --shard {error.missing[0]} and a new --out")
        raise
    print_result(result)
    console.written_to(out)
    report(result.problems)
