"""`simenv ope`: runs off-policy evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from simenv.cli import console
from simenv.cli.options import SETTINGS_OF_ONE, SOUND_ONLY


def ope(
    run: Annotated[Path, typer.Argument(help="The folder of a run of a mechanism with known propensities.")],
    target: Annotated[str, typer.Option(help="The mechanism to evaluate; it must have choice_probs, like softmax.")],
    settings: Annotated[list[str] | None, typer.Option("--set", help=SETTINGS_OF_ONE)] = None,
    llm: Annotated[str, typer.Option(help="As in bench; the target writes no text here.")] = "scripted",
    ctr_model: Annotated[
        str | None, typer.Option(help="What the target predicts of clicks, as in bench; that of the run by default.")
    ] = None,
    sound_only: Annotated[bool, SOUND_ONLY] = False,
) -> None:
    """Estimates a mechanism's reward from the log of another one, without running it (off-policy evaluation)."""
    from simenv.llm import make_llm
    from simenv.runs.build import labelled
    from simenv.runs.folder import read_transitions
    from simenv.runs.ope import evaluate, print_report
    from simenv.runs.ope_target import target_of_run
    from simenv.runs.settings import options_of_mechanisms

    ((label, name),) = (named := labelled([target])).items()
    options = options_of_mechanisms(named, settings or ())[label]
    policy = target_of_run(run, name, options, llm=make_llm(llm), ctr_model=ctr_model)
    log = read_transitions(run, left_out=console.left_out(sound_only))
    print_report(evaluate(log, policy), " ".join([target, *(settings or ())]), console.out)
