"""`simenv fit-evaluator`: learns a click-intent evaluator from a run's judged answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SOUND_ONLY
from simenv.files.blocks import print_block


def fit_evaluator(
    run: Annotated[Path, typer.Argument(help="The folder of the run with the judged answers.")],
    out: Annotated[Path, typer.Option(help="A new .json file; use it as --ctr-model evaluator:FILE.")],
    mechanism: Annotated[str | None, typer.Option(help="Use only the answers of this mechanism.")] = None,
    readers: Annotated[
        int, typer.Option(help="Number of further personas of the run who read each answer: the run's judge is asked.")
    ] = 0,
    swaps: Annotated[
        int,
        typer.Option(help="Number of copies of each answer with another ad in it, which the run's judge reads too."),
    ] = 1,
    contrasts: Annotated[
        bool,
        typer.Option(
            "--contrasts",
            help="Let the run's judge also read the development part of the contrast suite (936 answers).",
        ),
    ] = False,
    llm: Annotated[
        str | None,
        typer.Option(
            help="A language model that grades each reading from 1 to 5; without one, grades are the readers' click "
            "probabilities, cut at their quintiles."
        ),
    ] = None,
    api_base: Annotated[str | None, typer.Option(help="Server of that model.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Learns a click-intent evaluator from a run's judged answers, and measures it on held-out personas and ads."""
    from simenv.background_loop import run_sync
    from simenv.encoder import default_encoder
    from simenv.errors import UnknownName
    from simenv.files.folders import check_new_file
    from simenv.fitting.evaluator import fit_evaluator as fit
    from simenv.fitting.evaluator_report import blocks_of
    from simenv.fitting.grading import graded
    from simenv.fitting.readings import readings
    from simenv.judges.intent_grader import IntentGrader
    from simenv.llm import make_llm
    from simenv.runs.judged_again import JudgedRun

    check_new_file(out, ".json")
    judged = JudgedRun(run, left_out=console.left_out(sound_only))
    if mechanism is not None and mechanism not in judged.answers:
        raise UnknownName("mechanism of the run", mechanism, judged.answers)
    grader = IntentGrader(make_llm(llm, api_base=api_base)) if llm else None
    encoder = default_encoder()
    with console.named_bars() as (watch, _):
        rows = run_sync(
            lambda: readings(
                judged,
                encoder,
                mechanism=mechanism,
                readers=readers,
                swaps=swaps,
                contrasts=contrasts,
                seed=seed,
                watch=watch,
            )
        )
        grades = None if grader is None else run_sync(lambda: graded(rows, grader, watch))
    fitted = fit(rows, encoder, grades=grades, graded_by=llm or "", seed=seed, log=run.name)
    fitted.evaluator.file.save(out)
    for block in blocks_of(fitted):
        print_block(block, console.out)
    console.written_to(out)
