"""Options that several commands share: their types and their help, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ANY_MECHANISMS = "Comma-separated names, package.module:Class or file.py:Class; LABEL=NAME to rename."

Llm = Annotated[
    str, typer.Option(help="Ad-LLM: embedded, scripted, local:FOLDER or a LiteLLM name such as openai/gpt-4o-mini.")
]
ApiBase = Annotated[str | None, typer.Option(help="Server of the Ad-LLM, e.g. http://127.0.0.1:8080/v1.")]
JudgeLLM = Annotated[
    str | None, typer.Option(help="User-LLM: writes queries and clicks. The Ad-LLM if that is capable.")
]
JudgeApiBase = Annotated[str | None, typer.Option(help="Server of the User-LLM.")]
Judge = Annotated[
    str, typer.Option(help="auto, click (the click model), embedded (embedded models' likelihoods) or llm.")
]
JudgeEnsemble = Annotated[
    str | None, typer.Option(help="Several judges in one: NAME,NAME,... (click, embedded, an LLM; #wording2).")
]
JudgeSamples = Annotated[int, typer.Option(help="Verdicts per answer of an LLM without probabilities.")]
Personas = Annotated[str, typer.Option(help="Pack name, or .csv, .tsv, .jsonl, .parquet file.")]
Queries = Annotated[Path | None, typer.Option(help="Pack name, .txt with one a line, or a table with a text.")]
Catalog = Annotated[str, typer.Option(help="Pack name, or a table with a column title.")]
Columns = Annotated[str | None, typer.Option(help="OURS=THEIRS,... for foreign column names.")]
Candidates = Annotated[int, typer.Option(help="Candidate ads per auction.")]
MaxAds = Annotated[int, typer.Option(help="Number of ads that is free of penalty.")]
Reserve = Annotated[float, typer.Option(help="Least price, currency per click.")]
CtrModel = Annotated[str, typer.Option(help="What mechanisms predict of clicks: cosine, learned:FILE or oracle.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="MECHANISM.OPTION=VALUE, for instance best_of_n.n=8. Repeatable.")
]
Cache = Annotated[Path | None, typer.Option(help="Take completions from this file where it has them, else add.")]
Concurrency = Annotated[int, typer.Option(help="Most calls in flight to a server.")]
Timeout = Annotated[float, typer.Option(help="Seconds per call to a server.")]


def names(given: str | None) -> tuple[str, ...]:
    """The names of a comma-separated list."""
    return tuple(name.strip() for name in (given or "").split(",") if name.strip())
