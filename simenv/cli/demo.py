"""The demo: the benchmark in small, one answer to read, and two judges side by side."""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from simenv.background_loop import run_sync
from simenv.encoder import default_encoder
from simenv.env.environment import transcript
from simenv.judges.click_model import ClickModel
from simenv.judges.embedded_judge import EmbeddedJudge
from simenv.llm import make_llm
from simenv.records import Feedback, Transition
from simenv.runs.bench import BenchOptions, run_bench
from simenv.runs.folder import read_transitions
from simenv.users.personas import load_personas


def run_demo(n: int, seed: int, out: Console, err: Console) -> None:
    """Runs five mechanisms on the embedded model and prints what a person wants to see first.

    Raises:
        MissingWeights: the embedded model is not installed.
    """
    # Two queries a session instead of five: the same answers over more personas give narrower intervals.
    options = BenchOptions(
        mechanisms=("organic", "prompted", "gsp", "best_of_n", "llm_auction"), n=n, seed=seed, horizon=2
    )
    out.print(
        f"Five mechanisms answer the same {n} questions of the embedded personas. SmolLM2-135M writes the answers on "
        "this machine; the click model clicks.\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        run_bench(options, Path(folder) / "run", out, err)
        transitions = list(read_transitions(Path(folder) / "run"))
    show_judges(transitions, out)


def show_judges(transitions: list[Transition], out: Console) -> None:
    """Prints the GSP answer whose ads are clicked most, and the embedded judge's verdict beside the click model's."""
    shown = [t for t in transitions if t.mechanism == "gsp" and t.outcome.placements]
    if not shown:
        return
    best = max(shown, key=lambda t: sum(c.click_prob or 0.0 for c in t.feedback.clicks))
    out.print("\n[bold]One answer, as the user sees it[/bold]")
    out.print(escape(transcript(best)), highlight=False)
    persona = next(p for p in load_personas() if p.id == best.persona_id)
    for judge in (ClickModel(default_encoder()), EmbeddedJudge(make_llm("embedded"), default_encoder())):
        feedback: Feedback = run_sync(judge.judge, persona, best.auction, best.outcome)
        out.print(f"\n[bold]What {judge.name} says of it[/bold]")
        for click in feedback.clicks:
            chance = f"probability {click.click_prob:.2f}" if click.click_prob is not None else "no probability"
            verdict = {True: "clicks", False: "does not click", None: "abstains"}[click.clicked]
            out.print(escape(f"  {click.ad_id}: {verdict}, {chance}"), highlight=False)
    out.print(
        "\nBoth were held to what a careful human would find plain: README says how far each can be trusted. Name a "
        "capable model with --llm or --judge-llm and it writes the queries and gives the clicks.",
        style="dim",
    )
