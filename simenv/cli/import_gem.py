"""`simenv import-gem`: GEM-Bench's questions, products, answers and grades."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.errors import InputError


def import_gem(
    out: Annotated[Path, typer.Option(help="The folder that is written; with grades a new one.")],
    products: Annotated[
        Path | None, typer.Option(help="GEM-Bench's products.json, or products.tsv of CA-Prod: becomes ads.jsonl.")
    ] = None,
    questions: Annotated[
        Path | None, typer.Option(help="Its prompts.json, or queries.tsv of CA-Prod: becomes queries.jsonl.")
    ] = None,
    categories: Annotated[Path | None, typer.Option(help="The categories.json beside prompts.json.")] = None,
    results: Annotated[
        Path | None, typer.Option(help="A result.json of its solutions: becomes answers.jsonl, for simenv score.")
    ] = None,
    grades: Annotated[Path | None, typer.Option(help="Its evaluation_result.json of the answers of a run.")] = None,
    run: Annotated[Path | None, typer.Option(help="That run: it is copied, with the grades.")] = None,
) -> None:
    """Reads GEM-Bench's questions and products as packs, its answers, or its grades of a run's answers as feedback."""
    if (grades is None) != (run is None):
        raise InputError("grades and run belong together: give both")
    if products is None and questions is None and categories is None and results is None and grades is None:
        raise InputError("nothing to import: give products or questions, results, or grades with run")
    if results is not None:
        if products or questions or categories or grades:
            raise InputError("results are imported alone: give no products, questions, categories or grades")
        from simenv.datasets.gem_answers import ANSWERS, import_answers

        written = import_answers(results, out)
        console.line(f"{written.answers} answers in {out / ANSWERS}, {written.without} without an ad in the text")
        return
    if grades is None or run is None:
        from simenv.datasets.gem_packs import ADS, QUERIES, import_packs

        found = import_packs(out, products=products, questions=questions, categories=categories)
        parts = [f"{found.ads} ads in {out / ADS}"] if products is not None else []
        parts += [f"{found.queries} questions in {out / QUERIES}"] if questions is not None else []
        left_out = f"; left out: {found.left_out} products of a title that another one has" if found.left_out else ""
        console.line("; ".join(parts) + left_out)
        return
    if products or questions or categories:
        raise InputError("grades are imported alone: give no products, questions or categories")
    from simenv.datasets.gem_results import import_grades

    graded = import_grades(run, grades, out)
    unknown = f"; {graded.unknown} grades are of no answer of the run" if graded.unknown else ""
    console.line(f"{graded.grades} grades of {graded.answers} answers to {out}{unknown}")
