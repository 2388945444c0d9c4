"""`simenv validate-judge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simenv.cli import options as common


def validate_judge(
    judge: Annotated[
        str,
        typer.Option(
            help="click (the click model), embedded (embedded models' likelihoods), llm, or auto: llm if able."
        ),
    ] = "auto",
    judge_ensemble: common.JudgeEnsemble = None,
    judge_samples: common.JudgeSamples = 1,
    llm: Annotated[
        str, typer.Option(help="The judge LLM: embedded, local:FOLDER or a LiteLLM name such as openai/gpt-4o-mini.")
    ] = "embedded",
    api_base: Annotated[str | None, typer.Option(help="Server of the judge LLM.")] = None,
    part: Annotated[str, typer.Option(help="Scenarios: test (never tune on it), dev or all.")] = "test",
    webis: Annotated[Path | None, typer.Option(help="Folder with the Webis pairs (TOPIC_query_pairs.csv).")] = None,
    labels: Annotated[
        Path | None, typer.Option(help=".csv, .tsv, .jsonl or .parquet with columns query, ad, label (0, 1).")
    ] = None,
    label_columns: common.Columns = None,
    limit: Annotated[
        int | None, typer.Option(help="Most scenarios, attacks per kind, sessions and outside queries per topic.")
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="How often a judge without probabilities is asked where one is needed.")
    ] = 5,
    seed: Annotated[int, typer.Option(help="Names the draws.")] = 0,
    concurrency: common.Concurrency = 16,
    timeout: common.Timeout = 120.0,
    out: Annotated[Path | None, typer.Option(help="A new folder for validity.json, report.md and plots.")] = None,
) -> None:
    """Reports whether a judge can be believed: contrasts, placebos, hostile ads, outside data, reliability."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from simenv.background_loop import run_sync
    from simenv.files.folders import check_folder
    from simenv.files.rows import parse_columns
    from simenv.judges.factory import make_judge
    from simenv.validity.report import print_report, write_report
    from simenv.validity.run import ValidityOptions, validate
    from simenv.validity.scenarios import load_scenarios

    options = ValidityOptions(
        part=part,
        seed=seed,
        limit=limit,
        repeats=repeats,
        webis=str(webis) if webis else None,
        labels=str(labels) if labels else None,
        label_columns=parse_columns(label_columns),
    )
    load_scenarios(part, limit)  # a wrong name fails before a model is loaded
    if out is not None:
        check_folder(out)
    built = make_judge(
        judge,
        llm=llm,
        ensemble=common.names(judge_ensemble),
        samples=judge_samples,
        api_base=api_base,
        concurrency=concurrency,
        timeout=timeout,
    )
    console = Console()
    columns = (TextColumn("{task.description:12}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars: dict[str, TaskID] = {}

        def watch(section: str, done: int, planned: int) -> None:
            if section not in bars:
                bars[section] = progress.add_task(section)
            progress.update(bars[section], completed=done, total=planned)

        found = run_sync(lambda: validate(built, options, watch=watch))
    print_report(found, console)
    if out is not None:
        write_report(found, out)
        console.print(f"written to {out}", style="dim", soft_wrap=True)
