"""`simenv validate-quality`: tests a measure of answer quality."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.files.blocks import print_table


def validate_quality(
    quality: Annotated[
        str, typer.Option(help="embedded, likelihood, llm, package.module:Class or file.py:Class.")
    ] = "embedded",
    llm: Annotated[str | None, typer.Option(help="The language model of the measure, for likelihood and llm.")] = None,
    api_base: Annotated[str | None, typer.Option(help="Server of that model.")] = None,
    part: Annotated[str, typer.Option(help="Scenarios: test (never tune on it), dev or all.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Maximum number of scenarios; at least 2.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A new .json file for the figures.")] = None,
) -> None:
    """Tests a quality measure: plain good answers against echoes, refusals, loops, and answers cut or off the topic."""
    from simenv.background_loop import run_sync
    from simenv.errors import InputError
    from simenv.files.atomic import write_bytes_atomically
    from simenv.files.folders import check_new_file
    from simenv.llm import make_llm
    from simenv.quality.factory import make_quality
    from simenv.validity.quality_contrasts import measure_contrasts
    from simenv.validity.scenarios import load_scenarios

    scenarios = load_scenarios(part, limit)
    if out is not None:
        check_new_file(out, ".json")
    model = make_llm(llm, api_base=api_base) if llm else None
    measure = make_quality(quality, llm=model, user_llm=model)
    if measure is None:
        raise InputError("quality none measures nothing")
    report = run_sync(measure_contrasts, measure, scenarios, part, seed)
    rows = [
        (
            kind,
            f"{found.right}/{found.pairs}",
            f"{found.share.value:.3f} ({found.share.low:.3f}, {found.share.high:.3f})",
        )
        for kind, found in report.contrasts.items()
    ]
    header = ("satisfies more > less", "ordered correctly", "share (95% interval)")
    print_table(f"{report.measure}, {report.scenarios} scenarios of the part {part}", header, rows, console.out)
    means = ", ".join(f"{form} {'-' if mean is None else f'{mean:.2f}'}" for form, mean in report.means.items())
    console.out.print(f"Mean satisfaction: {means}. Truth is not compared.", highlight=False)
    if out is not None:
        write_bytes_atomically(out, report.model_dump_json(indent=2).encode())
        console.written_to(out)
