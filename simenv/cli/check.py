"""`simenv check`: tests a mechanism against the interface and its own claims."""

from __future__ import annotations

from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SETTINGS_OF_ONE


def check(
    mechanisms: Annotated[
        str,
        typer.Argument(help="Comma-separated names, package.module:Class or file.py:Class; LABEL=NAME to rename."),
    ],
    llm: Annotated[str, typer.Option(help="As in bench; scripted needs no model.")] = "scripted",
    auctions: Annotated[int, typer.Option(help="Number of random auctions, in addition to the degenerate ones.")] = 20,
    seed: Annotated[int, typer.Option(help="Seed of the random auctions.")] = 0,
    settings: Annotated[list[str] | None, typer.Option("--set", help=SETTINGS_OF_ONE)] = None,
) -> None:
    """Tests whether a mechanism satisfies the interface and its own claims."""
    from simenv.check import check_mechanism
    from simenv.errors import InputError
    from simenv.llm import make_llm
    from simenv.mechanism import make_mechanism
    from simenv.runs.build import labelled
    from simenv.runs.options import names_of
    from simenv.runs.settings import options_of_mechanisms

    named = labelled(names_of(mechanisms))
    if not named:
        raise InputError(f"expected the name of a mechanism, got {mechanisms!r}")
    options, context = options_of_mechanisms(named, settings or ()), {"llm": make_llm(llm)}
    built = {label: make_mechanism(name, context=context, **options[label]) for label, name in named.items()}
    for label, mechanism in built.items():
        report = check_mechanism(mechanism, auctions=auctions, seed=seed)
        name = report.mechanism if named[label] == label else label
        console.line(f"{name}: {report.summary}")
        for warning in report.warnings:
            console.warn(f"{name} {warning}")
