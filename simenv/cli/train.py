"""`simenv train`: trains a mechanism."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from simenv import registry
from simenv.cli import console
from simenv.errors import DataFileError, InputError
from simenv.files.limits import read_bytes
from simenv.importing import quoted


def train(
    trainer: Annotated[
        str, typer.Argument(help="Name of the trainer: llm-auction, package.module:Class or file.py:Class.")
    ],
    out: Annotated[
        Path, typer.Option(help="A new folder, or the folder of an unfinished training with the same options.")
    ],
    config: Annotated[
        Path | None, typer.Option(help="A .toml file of options; options on the command line override it.")
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Preference pairs, as `simenv export` writes them, instead of auctions."),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Base model: embedded or local:FOLDER.")] = None,
    judge: Annotated[str | None, typer.Option(help="The judge: click (the click model), embedded or llm.")] = None,
    judge_llm: Annotated[str | None, typer.Option(help="The judge's model, like --llm of bench.")] = None,
    reward: Annotated[
        str | None, typer.Option(help="pctr (learned from clicks) or oracle (the judge's click probabilities).")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="regression, dpo or sft.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Rounds of clicks and training.")] = None,
    auctions: Annotated[int | None, typer.Option(help="Training auctions per epoch.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the training.")] = None,
    engine: Annotated[str | None, typer.Option(help="Where answers are sampled and judged: local or ray.")] = None,
    ray_address: Annotated[str | None, typer.Option(help="As for bench.")] = None,
    workers: Annotated[int | None, typer.Option(help="As for bench.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="OPTION=VALUE of the trainer (or NAME.OPTION=VALUE). Repeatable."),
    ] = None,
    track: Annotated[
        str | None, typer.Option(help="Experiment tracker that gets the learning curve: mlflow or wandb.")
    ] = None,
) -> None:
    """Trains a mechanism. The same command continues an unfinished training."""
    from simenv.files.folders import try_folder
    from simenv.training import make_trainer

    try_folder(out)  # before a model is loaded
    tracker = None
    if track is not None:
        from simenv.integrations.tracking import make_tracker, track_training

        tracker = make_tracker(track)

    named = {
        "from": None if from_ is None else str(from_),
        "llm": llm,
        "judge": judge,
        "judge_llm": judge_llm,
        "reward": reward,
        "loss": loss,
        "epochs": epochs,
        "auctions": auctions,
        "seed": seed,
        "engine": engine,
        "ray_address": ray_address,
        "workers": workers,
    }
    options = _read(config) | {name: value for name, value in named.items() if value is not None}
    for text in settings or ():
        option, equals, value = text.removeprefix(f"{trainer}.").partition("=")
        if not equals or not option:
            raise InputError(f"cannot read setting {quoted(text)}: expected OPTION=VALUE")
        options[option] = registry.parse_value(value)
    make_trainer(trainer).train(options, out, console.out)
    if tracker is not None:
        track_training(out, tracker)


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(read_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise DataFileError(f"cannot read {path}: {error}") from None
