"""`simenv make-pack`: writes new personas, ads or queries with a capable model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.runs.options import names_of


def make_pack(
    kind: Annotated[str, typer.Argument(help="personas, ads or queries (without commercial intent).")],
    llm: Annotated[str, typer.Option(help="A capable model: local:FOLDER or a LiteLLM name such as openai/gpt-4o.")],
    out: Annotated[
        Path, typer.Option(help="A new .jsonl file, or an unfinished one of the same options, which is continued.")
    ],
    n: Annotated[int, typer.Option(help="Number of records in the finished file.")] = 50,
    api_base: Annotated[str | None, typer.Option(help="Server of the model, e.g. http://127.0.0.1:8080/v1.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order of the cells and of the samples.")] = 0,
    like: Annotated[
        str | None,
        typer.Option(help="Pack or file of the same kind: example records, to which new ones must not be similar."),
    ] = None,
    categories: Annotated[
        str | None,
        typer.Option(help="A,B,...: categories of the ads or of personas' tastes, or topics of the queries."),
    ] = None,
    tries: Annotated[int, typer.Option(help="Maximum number of requests per record.")] = 5,
    timeout: Annotated[float, typer.Option(help="Seconds per call to a server.")] = 120.0,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run code of a local model's folder, if the model needs it.")
    ] = False,
) -> None:
    """Writes new records with a capable model: balanced, filtered, without near-duplicates, and with a manifest."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from simenv.background_loop import run_sync
    from simenv.files.folders import try_file
    from simenv.llm import make_llm
    from simenv.packmaker import write
    from simenv.packmaker.kinds import make_kind

    built = make_kind(kind, names_of(categories))
    if llm == "embedded":  # before the model is loaded
        raise write.incapable_model(llm)
    try_file(out)
    model = make_llm(llm, api_base=api_base, timeout=timeout, trust_remote_code=trust_remote_code)
    columns = (TextColumn(built.name, markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=console.err)
    bar = progress.add_task(built.name, total=n)

    def watch(count: int) -> None:
        progress.start()  # only now, so that an earlier error is the only line of output
        progress.update(bar, completed=count)

    try:
        written = run_sync(
            lambda: write.make_pack(built, model, out, n=n, seed=seed, like=like, tries=tries, on_record=watch)
        )
    finally:
        if progress.live.is_started:
            progress.stop()
    refused = f"; refused: {write.rejection_counts(written.rejected)}" if written.rejected else ""
    tokens = "tokens unknown" if written.usage.tokens is None else f"{written.usage.tokens:,} tokens"
    console.line(f"{written.records} {built.name} in {out}{refused}; {written.calls} calls, {tokens}")
