"""`simenv report`: what advertisers showed, were clicked for, paid and gained in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.runs.options import names_of


def report(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    advertiser: Annotated[
        str | None, typer.Option(help="An ad's id, or an advertiser's name, whose ads are added up.")
    ] = None,
    all: Annotated[bool, typer.Option("--all", help="Every ad, and all ads together.")] = False,
    counterfactual: Annotated[
        bool,
        typer.Option(
            "--counterfactual",
            help="With --advertiser: also answer its auctions again without its ads, and report what changes. It "
            "needs the run's models.",
        ),
    ] = False,
    mechanisms: Annotated[
        str | None, typer.Option(help="Only the answers of these mechanisms: labels in the run, comma-separated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write it to this new .csv or .md file.")] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Reports impressions, clicks, costs, value and ROI of an advertiser, or of all of them, with intervals."""
    from simenv.advertisers.report import advertiser_report
    from simenv.advertisers.tables import readable, write
    from simenv.errors import InputError
    from simenv.files.folders import check_new_file

    if all == (advertiser is not None):
        raise InputError("name an advertiser, or all of them", hint="--advertiser ID, or --all")
    if out is not None:
        check_new_file(out, ".csv", ".md")
    with console.named_bars() as (watch, _):
        found = advertiser_report(
            run,
            advertiser,
            mechanisms=names_of(mechanisms),
            counterfactual=counterfactual,
            left_out=console.left_out(sound_only),
            watch=watch,
        )
    readable(found).print(console.out)
    if out is not None:
        write(found, out)
        console.written_to(out)
