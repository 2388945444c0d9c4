"""`simenv check`: tests a mechanism against the interface and its own claims."""

from __future__ import annotations

from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SETTINGS_OF_ONE


def check(
    mechanism: Annotated[str, typer.Argument(help="A name, package.module:Class or file.py:Class.")],
    llm: Annotated[str, typer.Option(help="As in bench; scripted needs no model.")] = "scripted",
    auctions: Annotated[int, typer.Option(help="Number of random auctions, in addition to the degenerate ones.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the random auctions.")] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", help=SETTINGS_OF_ONE)] = None,
) -> None:
    """Tests whether a mechanism satisfies the interface and its own claims."""
    from simenv.check import check_mechanism
    from simenv.llm import make_llm
    from simenv.mechanism import make_mechanism
    from simenv.runs.settings import options_of_one

    options = options_of_one(mechanism, settings or ())
    built = make_mechanism(mechanism, context={"llm": make_llm(llm)}, **options)
    report = check_mechanism(built, auctions=auctions, seed=seed)
    claims = ", ".join(report.claims) or "no claims"
    console.line(f"{report.mechanism}: passed on {report.auctions} auctions in {report.runs} runs ({claims})")
