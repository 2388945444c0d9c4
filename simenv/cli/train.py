"""`simenv train`: trains a mechanism that can be trained, found through the entry-point group `simenv.trainers`."""

from __future__ import annotations

import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from simenv.errors import DataFileError, InputError, UnknownName

GROUP = "simenv.trainers"
"""A trainer is `train(options, out, console)`: its options, the folder to write or go on with, where progress goes."""


def train(
    mechanism: Annotated[str, typer.Argument(help="What to train: llm-auction.")],
    out: Annotated[Path, typer.Option(help="A new folder, or that of a training of the same options: it goes on.")],
    config: Annotated[Path | None, typer.Option(help="A .toml file of options; those given here come first.")] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Preference pairs, as `simenv export` writes them, instead of auctions."),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Base model: embedded or local:FOLDER.")] = None,
    judge: Annotated[str | None, typer.Option(help="Who clicks: click (the click model), embedded or llm.")] = None,
    judge_llm: Annotated[str | None, typer.Option(help="The judge's model, as --llm of bench.")] = None,
    reward: Annotated[str | None, typer.Option(help="pctr (learned from clicks) or oracle (the judge's own).")] = None,
    loss: Annotated[str | None, typer.Option(help="regression, dpo or sft.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Rounds of clicks and training.")] = None,
    auctions: Annotated[int | None, typer.Option(help="Training auctions per epoch.")] = None,
    seed: Annotated[int | None, typer.Option(help="Names the training.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="OPTION=VALUE, any other option of the trainer. Repeatable.")
    ] = None,
) -> None:
    """Trains a mechanism; started again with the same options, it goes on where it was."""
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
    }
    options = _read(config) | {name: value for name, value in named.items() if value is not None}
    for setting in set_ or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"cannot read --set {setting!r}: expected OPTION=VALUE")
        options[name] = _value(value)
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if mechanism not in found:
        raise UnknownName("trainer", mechanism, found)
    found[mechanism].load()(options, out, Console())


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataFileError(f"cannot read {path}: {error}") from None


def _value(text: str) -> Any:
    """A TOML value if it is one (8, 0.5, [8, 16]), else the text itself."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text
