"""`simenv validate-judge`: tests a judge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.runs.options import names_of


def validate_judge(
    judge: Annotated[
        str,
        typer.Option(
            help="click (the click model), click:WORLD (v1, rare, labels, fatigue or a .toml file), embedded "
            "(embedded models' likelihoods), llm, package.module:Class, file.py:Class, or auto: llm if a model is "
            "named, else click."
        ),
    ] = "auto",
    judge_ensemble: Annotated[
        str | None,
        typer.Option(help="Members of a judge ensemble: NAME,NAME,... (click, embedded, an LLM; NAME#wording2)."),
    ] = None,
    judge_samples: Annotated[
        int, typer.Option(help="Number of verdicts per answer for an LLM without probabilities.")
    ] = 1,
    llm: Annotated[
        str | None,
        typer.Option(help="The judge LLM: embedded, local:FOLDER or a LiteLLM name such as openai/gpt-4o-mini."),
    ] = None,
    api_base: Annotated[str | None, typer.Option(help="Server of the judge LLM.")] = None,
    llm_options: Annotated[
        str | None, typer.Option(help="What requests to the judge LLM's server ask for, as in simenv bench.")
    ] = None,
    part: Annotated[str, typer.Option(help="Scenarios: test (never tune on it), dev or all.")] = "test",
    webis: Annotated[Path | None, typer.Option(help="Folder with the Webis pairs (TOPIC_query_pairs.csv).")] = None,
    labels: Annotated[
        Path | None, typer.Option(help=".csv, .tsv, .jsonl or .parquet with columns query, ad, label (0, 1).")
    ] = None,
    label_columns: Annotated[str | None, typer.Option(help="OURS=THEIRS,... for other column names.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Maximum number of scenarios, attacks per kind, sessions, auctions of the run, and outside queries "
            "per topic."
        ),
    ] = None,
    repeats: Annotated[
        int, typer.Option(help="Number of verdicts that estimate a probability, for a judge without probabilities.")
    ] = 5,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    concurrency: Annotated[int, typer.Option(help="Maximum number of concurrent calls to a server.")] = 16,
    timeout: Annotated[float, typer.Option(help="Seconds per call to a server.")] = 120.0,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code of a local model's folder, if the model needs it.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(
            help="The folder of a run. Its judge judges the answers to at most 200 auctions again, with other keys, "
            "and the judge card is written there. A judge that is named here judges them twice."
        ),
    ] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for validity.json, report.md, plots, and the judge card.")
    ] = None,
) -> None:
    """Tests a judge, and sums it up on a judge card: contrasts, placebos, hostile ads, labels, noise, costs."""
    from simenv import registry
    from simenv.background_loop import run_sync
    from simenv.files.folders import check_folder, try_folder
    from simenv.files.rows import parse_columns
    from simenv.judges.factory import make_judge
    from simenv.llm import LANGUAGE_MODEL, check_server_options, make_llm
    from simenv.runs.judged_again import JudgedRun
    from simenv.runs.options import ModelOptions, read_options
    from simenv.validity.card import AUCTIONS, CARD_TEXT, judge_card, report_of_card, write_card
    from simenv.validity.report import report_of, write_report
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
    asked = read_options(ModelOptions, {"llm_options": llm_options or {}}).llm_options
    if llm is not None or judge_ensemble is None:
        check_server_options(llm or "embedded", asked)
    load_scenarios(part, limit)  # reports a wrong name before a model is loaded
    if out is not None:
        check_folder(out)
    judged = None
    named = judge != "auto" or llm is not None or judge_ensemble is not None
    if run is not None:
        judged = JudgedRun(run, min(limit or AUCTIONS, AUCTIONS), left_out=console.left_out(sound_only))
        if not named:
            try_folder(run)
    built = (
        judged.judge()
        if judged is not None and not named
        else make_judge(
            judge,
            llm=llm,
            ensemble=names_of(judge_ensemble),
            samples=judge_samples,
            find_llm=lambda name: make_llm(
                name,
                api_base=api_base,
                concurrency=concurrency,
                timeout=timeout,
                server_options={} if registry.is_name_of(LANGUAGE_MODEL, name) and name != llm else asked,
                trust_remote_code=trust_remote_code,
            ),
        )
    )
    with console.named_bars() as (watch, _):
        report = run_sync(lambda: validate(built, options, watch=watch))
        if out is not None:
            write_report(report, out)
        card = run_sync(lambda: judge_card(built, report, judged, watch=watch))
    answers = {} if judged is None else judged.answers
    report_of(report).print(console.out)
    report_of_card(card, answers).print(console.out)
    if out is not None:
        write_card(card, answers, out)
        console.written_to(out)
    if run is not None and judged is not None and judged.is_by(built):
        write_card(card, answers, run)
        console.written_to(run / CARD_TEXT)
