"""`simenv demo`: a small benchmark, one example answer, the verdicts of two judges, and a report for the browser."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simenv.cli import console
from simenv.cli.bench import run_and_print
from simenv.runs.options import BenchOptions

if TYPE_CHECKING:
    from simenv.records import Feedback, Transition

MECHANISMS = ("organic", "prompted", "gsp", "best_of_n", "llm_auction")


def demo(
    n: Annotated[int, typer.Option(help="Number of auctions.")] = 48,
    seed: Annotated[int, typer.Option(help="Seed of the run.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="A new folder for the run and its report; one for temporary files by default.")
    ] = None,
) -> None:
    """Compares five mechanisms on the embedded model, shows one answer, and writes a report for the browser."""
    from simenv.cli.view import print_view
    from simenv.report.view import view
    from simenv.runs.folder import read_transitions

    console.out.print(
        f"Five mechanisms answer the same {n} questions of the embedded personas. SmolLM2-135M writes the answers on "
        "this machine; the click model clicks.\n"
    )
    folder = out if out is not None else Path(tempfile.mkdtemp(prefix="simenv-demo-")) / "run"
    # Two queries a session instead of five: the same answers over more personas give narrower intervals.
    run_and_print(BenchOptions(mechanisms=MECHANISMS, n=n, seed=seed, horizon=2), folder)
    show_judges(list(read_transitions(folder)))
    console.out.print()
    print_view(view(folder))


def show_judges(transitions: list[Transition]) -> None:
    """Prints the GSP answer with the most expected clicks, and the verdicts of both judges on it."""
    from simenv.background_loop import run_sync
    from simenv.env.environment import transcript
    from simenv.judges.factory import make_judge
    from simenv.users.personas import load_personas

    shown = [t for t in transitions if t.mechanism == "gsp" and t.outcome.placements]
    if not shown:
        return
    best = max(shown, key=lambda t: sum(c.click_prob or 0.0 for c in t.feedback.clicks))
    console.out.print("\nOne answer, as the user sees it", style="bold")
    console.out.print(transcript(best))
    persona = next(p for p in load_personas() if p.id == best.persona_id)
    for name in ("click", "embedded"):
        judge = make_judge(name)
        feedback: Feedback = run_sync(judge.judge, persona, best.auction, best.outcome)
        console.out.print(f"\nVerdict of {judge.name}", style="bold")
        for click in feedback.clicks:
            chance = f"probability {click.click_prob:.2f}" if click.click_prob is not None else "no probability"
            verdict = {True: "clicks", False: "does not click", None: "abstains"}[click.clicked]
            console.out.print(f"  {click.ad_id}: {verdict}, {chance}")
    console.out.print(
        "\nBoth judges were tested on cases with an obvious answer; the documentation reports their accuracy. With "
        "--llm or --judge-llm, a capable model writes the queries and judges the clicks.",
        style="dim",
    )
