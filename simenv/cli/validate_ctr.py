"""`simenv validate-ctr`: tests CTR models on pairs of answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.runs.options import names_of


def validate_ctr(
    models: Annotated[
        str,
        typer.Argument(help="CTR models: NAME,NAME,... as in --ctr-model, such as cosine,evaluator:FILE; no oracle."),
    ],
    part: Annotated[str, typer.Option(help="Scenarios: test (never tune on it), dev or all.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Maximum number of scenarios.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A new .json file for the figures.")] = None,
) -> None:
    """Tests CTR models: predictions must fall where an ad is swapped or worded worse, and stay where it is renamed."""
    import json

    from simenv.ctr.models import make_ctr_model
    from simenv.encoder import default_encoder
    from simenv.files.atomic import write_bytes_atomically
    from simenv.files.blocks import print_block
    from simenv.files.folders import check_new_file
    from simenv.registry import Lazy
    from simenv.validity.ctr_pairs import measure_ctr
    from simenv.validity.ctr_report import blocks_of
    from simenv.validity.scenarios import load_scenarios

    scenarios = load_scenarios(part, limit)
    if out is not None:
        check_new_file(out, ".json")
    built = [make_ctr_model(name, {"encoder": Lazy(default_encoder)}) for name in names_of(models)]
    reports = [measure_ctr(model, scenarios, part, default_encoder(), seed) for model in built]
    for report in reports:
        for block in blocks_of(report):
            print_block(block, console.out)
    if out is not None:
        figures = [report.model_dump(mode="json") for report in reports]
        write_bytes_atomically(out, (json.dumps(figures, indent=2) + "\n").encode())
        console.written_to(out)
