"""`simenv audit`: the incentive laboratory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from simenv.cli import options as common


def audit(
    mechanisms: Annotated[str, typer.Argument(help=common.ANY_MECHANISMS)],
    n: Annotated[int, typer.Option(help="Number of auctions.")] = 20,
    seed: Annotated[int, typer.Option(help="Names the auctions, values and draws.")] = 0,
    llm: common.Llm = "embedded",
    api_base: common.ApiBase = None,
    judge_llm: common.JudgeLLM = None,
    judge_api_base: common.JudgeApiBase = None,
    judge: Annotated[
        str, typer.Option(help="The world: auto, click (the click model), embedded or llm; see bench.")
    ] = "auto",
    judge_samples: common.JudgeSamples = 1,
    ctr_model: common.CtrModel = "cosine",
    set_: common.Settings = None,
    max_calls: Annotated[
        int | None, typer.Option(help="Most language model calls; the audit then stops with what it has.")
    ] = None,
    cache: common.Cache = None,
    bids: Annotated[int, typer.Option(help="Bids around each value among which a better one is looked for.")] = 12,
    curve_bids: Annotated[int, typer.Option(help="Bids of an allocation curve, from 0 to 100.")] = 21,
    advertisers: Annotated[int, typer.Option(help="Advertisers of each auction whose bid is swept.")] = 4,
    replicas: Annotated[int, typer.Option(help="Runs of each auction, where a mechanism samples.")] = 16,
    target_roi: Annotated[float, typer.Option(help="Of value maximisers: value per cost, at least 1.")] = 1.0,
    collusion: Annotated[int, typer.Option(help="Auctions in which two collude.")] = 20,
    wrong_ctr: Annotated[int, typer.Option(help="Auctions that are run with wrong predictions of clicks.")] = 10,
    play: Annotated[int, typer.Option(help="Auctions that are played until bidders have learned.")] = 4,
    rounds: Annotated[int, typer.Option(help="How often each bidder learns.")] = 8,
    play_seeds: Annotated[int, typer.Option(help="How often each auction is played.")] = 3,
    personas: common.Personas = "everyday",
    queries: common.Queries = None,
    catalog: common.Catalog = "everyday",
    candidates: common.Candidates = 8,
    max_ads: common.MaxAds = 2,
    reserve: common.Reserve = 0.0,
    horizon: Annotated[
        int, typer.Option(help="Queries per persona: few, so that many personas are met in few auctions.")
    ] = 1,
    concurrency: common.Concurrency = 16,
    timeout: common.Timeout = 120.0,
    out: Annotated[Path | None, typer.Option(help="A new folder for audit.json, report.md and plots.")] = None,
) -> None:
    """What advertisers could gain by other bids than their values: allocation curves, regret, play, collusion."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from simenv.audit.records import AuditOptions
    from simenv.audit.records import check_options as check_audit_options
    from simenv.audit.report import print_report, write_report
    from simenv.audit.run import audit as run_audit
    from simenv.background_loop import run_sync
    from simenv.ctr.models import make_ctr_model
    from simenv.files.folders import make_folder
    from simenv.runs.bench import BenchOptions, check_options, find_mechanisms
    from simenv.runs.build import assemble, open_cassette, read_data

    asked = AuditOptions(
        n=n,
        seed=seed,
        bids=bids,
        curve_bids=curve_bids,
        advertisers=advertisers,
        replicas=replicas,
        target_roi=target_roi,
        collusion=collusion,
        wrong_ctr=wrong_ctr,
        play=play,
        rounds=rounds,
        play_seeds=play_seeds,
        max_calls=max_calls,
    )
    check_audit_options(asked)
    options = BenchOptions(
        mechanisms=common.names(mechanisms),
        n=n,
        seed=seed,
        llm=llm,
        api_base=api_base,
        judge_llm=judge_llm,
        judge_api_base=judge_api_base,
        judge=judge,
        judge_samples=judge_samples,
        personas=personas,
        queries=str(queries) if queries else None,
        catalog=catalog,
        candidates=candidates,
        max_ads=max_ads,
        reserve=reserve,
        horizon=horizon,
        settings=tuple(set_ or ()),
        ctr_model=ctr_model,
        quality="none",
        concurrency=concurrency,
        timeout=timeout,
        cache=str(cache) if cache else None,
    )
    check_options(options)
    recipes = find_mechanisms(options.mechanisms, options.settings)
    if out is not None:
        make_folder(out)
    made = assemble(options, recipes, read_data(options), open_cassette(options))
    console, err = Console(), Console(stderr=True)
    if made.warning is not None:
        err.print(f"simenv: {made.warning}", style="yellow", markup=False, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err) as progress:
        bars: dict[str, TaskID] = {}

        def watch(part: str, done: int, planned: int) -> None:
            if part not in bars:
                bars[part] = progress.add_task(part)
            progress.update(bars[part], completed=done, total=planned)

        def say(text: str) -> None:
            progress.console.print(text, style="dim", highlight=False, soft_wrap=True)

        predictions = make_ctr_model(ctr_model, made.world)
        found = run_sync(
            lambda: run_audit(
                made.world,
                made.mechanisms,
                asked,
                ctr_model=predictions,
                rebuild=made.rebuild,
                ad_llm=made.ad_llm.name,
                watch=watch,
                say=say,
            )
        )
    print_report(found, console)
    if out is not None:
        write_report(found, out)
        console.print(f"written to {out}", style="dim", soft_wrap=True)
