"""The folder of a training: its options, the saved state to resume from, and its manifest."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import ValidationError

from simenv.errors import DataFileError, InputError
from simenv.files.atomic import PART, write_bytes_atomically
from simenv.llm.weights import embedded_path
from simenv.records import Record

Options = TypeVar("Options", bound=Record)


def parse(kind: type[Options], options: Mapping[str, Any]) -> Options:
    """Validates the options of a training.

    Raises:
        InputError: an option is unknown or out of range.
    """
    try:
        return kind.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"option {'.'.join(map(str, first['loc']))}" if first["loc"] else "options"
        known = ", ".join(kind.model_fields)
        problem = first["msg"].removeprefix("Value error, ")
        raise InputError(f"training {where}: {problem}; the options are {known}") from None


def base_model(llm: str) -> Path:
    """The folder of the base model. `llm`: "embedded" or "local:FOLDER"."""
    return embedded_path() if llm == "embedded" else Path(llm.removeprefix("local:")).expanduser()


def now() -> str:
    """The current UTC time in ISO format, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def save_state(out: Path, config: Record, contents: Mapping[str, Any]) -> None:
    """Writes state.pt atomically: a reader sees the old state or the new one, never a partial one."""
    state = io.BytesIO()  # of a full disk, torch would say something else
    torch.save({"config": config.model_dump_json(), **contents}, state)
    write_bytes_atomically(out / "state.pt", state.getvalue())


def read_state(out: Path, config: Record, free: Sequence[str] = ("threads",)) -> dict[str, Any] | None:
    """Reads the state that `save_state` wrote; None in a new folder.

    Args:
        out: The training's folder.
        config: The options of this training.
        free: Names of options that may differ from the saved ones, because they do not change the result.

    Raises:
        DataFileError: the folder is not empty and holds no training, or its state is damaged.
        InputError: the training in it has other options.
    """
    file = out / "state.pt"
    if not file.is_file():
        if out.is_dir() and any(
            p.name not in ("manifest.json", "sft.jsonl") and p.suffix != PART for p in out.iterdir()
        ):
            raise DataFileError(f"{out} is not empty and holds no training: give a new folder")
        return None
    try:
        saved: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        options = json.loads(saved.pop("config"))
        if not isinstance(options, dict):
            raise TypeError(f"options of type {type(options).__name__}")
    except Exception as error:  # the bytes of a damaged file may raise anything
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = "train into a new folder: the adapters in epochs/ are those of the finished epochs"
        raise DataFileError(f"{file}: damaged, or not the state of a training: {message:.200}", hint=remedy) from None
    given = json.loads(config.model_dump_json())
    # A state of an older version lacks options that were added later: it was trained with their defaults.
    defaults = {name: field.default for name, field in type(config).model_fields.items() if not field.is_required()}
    before = json.loads(json.dumps(defaults)) | options
    others = [name for name in sorted(before.keys() | given) if before.get(name) != given.get(name)]
    changed = [f"{name} was {before.get(name)!r}, now {given.get(name)!r}" for name in others if name not in free]
    if changed:
        raise InputError(f"{out} holds a training with other options: {'; '.join(changed)}")
    return saved


def write_manifest(out: Path, config: Record, facts: Mapping[str, Any], packages: Sequence[str] = ()) -> None:
    """Writes manifest.json: the command, the options, `facts`, and the versions of the packages that affect results."""
    manifest = {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "config": config.model_dump(),
        **facts,
        "packages": {name: version(name) for name in ("simenv-ads", "torch", "transformers", *packages)},
    }
    write_bytes_atomically(out / "manifest.json", (json.dumps(manifest, indent=2) + "\n").encode())
