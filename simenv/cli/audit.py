"""`simenv audit`: measures the gains of advertisers from bids that differ from their values."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.auditing.command import AuditCommandOptions
from simenv.cli import console
from simenv.cli.options import takes


@takes(AuditCommandOptions)
def audit(
    mechanisms: Annotated[
        str,
        typer.Argument(help="Comma-separated names, package.module:Class or file.py:Class; LABEL=NAME to rename."),
    ],
    options: AuditCommandOptions,
    out: Annotated[Path | None, typer.Option(help="A new folder for audit.json, report.md and plots.")] = None,
) -> None:
    """Measures gains from bids that differ from the values: allocation curves, regret, learned play, collusion."""
    from simenv.auditing.command import AuditProgress, run_audit
    from simenv.auditing.report import report_of, write_report
    from simenv.files.folders import check_folder

    if out is not None:
        check_folder(out)  # before the work
    with console.named_bars(10) as (watch, between):

        def say(text: str) -> None:
            between.print(text, style="dim", soft_wrap=True)

        result = run_audit(options, progress=AuditProgress(watch=watch, say=say, warned=console.warn))
    report_of(result.report).print(console.out)  # first, so that it is seen even if the disk is full by now
    if out is not None:
        write_report(result.report, out)
        console.written_to(out)
