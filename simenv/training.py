"""Trainers: what `simenv train NAME` runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console

from simenv import registry
from simenv.registry import Kind


class Trainer(Protocol):
    """Trains a mechanism."""

    name: str

    def train(self, options: Mapping[str, Any], out: Path, console: Console) -> None:
        """Trains, or goes on with the training in `out`.

        Args:
            options: The trainer's own options by name.
            out: A new folder, or that of a training with the same options that was cut off.
            console: Where progress goes.

        Raises:
            InputError: an unknown option, one out of range, or a folder of another training.
        """
        ...


TRAINER: Kind[Trainer] = Kind("trainer", "simenv.trainers", ("train",), "trains a mechanism")


def make_trainer(name: str) -> Trainer:
    """Builds a trainer by name: "llm-auction", package.module:Class or file.py:Class.

    Raises:
        UnknownName: no such trainer.
        InputError: it cannot be loaded.
    """
    return registry.make(TRAINER, name)
