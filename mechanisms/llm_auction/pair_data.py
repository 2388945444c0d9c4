"""Reads a file of preference pairs; options, saved state and learning curve of a training on it.

Both back ends use this module. `pairs.py` describes the file's format.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field

from simenv.errors import DataFileError
from simenv.files.atomic import replacing
from simenv.files.rows import read_rows
from simenv.files.tables import Row
from simenv.llm import Prompt
from simenv.records import Record
from simenv.seeding import keyed_rng

from .folder import read_state

CURVE = ("update", "part", "loss", "accuracy", "margin")
"""Columns of curve.csv. part: train (the pairs of the update) or held_out; accuracy: share of pairs whose chosen answer
gained more log-probability than the rejected one; margin: mean difference of the gains, times beta (TRL's
rewards/margins)."""


class PairConfig(Record):
    """All options of a training on pairs."""

    file: str
    """Path of the pairs; the training option "from"."""
    llm: str = "embedded"
    """Base model: embedded or local:FOLDER."""
    backend: Literal["own", "trl"] = "own"
    seed: int = 0
    epochs: int = Field(default=1, ge=1)
    """Passes over the file."""
    beta: float = Field(default=0.1, gt=0)
    """The paper's value."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """For LoRA on a small model. The paper, for all parameters of a large model: 1e-6."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the updates with a rising rate, then cosine to 0 (the paper's value)."""
    batch: int = Field(default=16, ge=1)
    """Pairs per update. The paper: 64."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts whose pairs are held out and measured after every pass."""
    r: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    blocks: tuple[int, ...] = ()
    """Transformer blocks with an adapter; () = all."""
    checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    save_every: int = Field(default=10, ge=1)
    """Updates between two saved states."""
    threads: int = Field(default=2, ge=1)


class PreferencePair(NamedTuple):
    """A chosen and a rejected answer to one prompt."""

    prompt: Prompt
    chosen: str
    rejected: str


class Pairs(NamedTuple):
    """The pairs of a file, split into training and held-out pairs."""

    train: list[PreferencePair]
    held_out: list[PreferencePair]
    sha256: str
    """Hash of the file."""


def read_pairs(config: PairConfig) -> Pairs:
    """The pairs of a file, in its order; all pairs of one prompt are in the same part."""
    rows = read_rows(config.file)
    train: list[PreferencePair] = []
    held_out: list[PreferencePair] = []
    for row in rows:
        pair = _pair(row)
        drawn = keyed_rng("pairs held out", config.seed, pair.prompt.system, pair.prompt.user).random()
        (held_out if drawn < config.held_out else train).append(pair)
    if not train:
        raise DataFileError(f"{config.file}: no pair to train on: all {len(held_out)} are held out, lower held_out")
    with Path(config.file).open("rb") as file:
        return Pairs(train, held_out, hashlib.file_digest(file, "sha256").hexdigest())


def _pair(row: Row) -> PreferencePair:
    for name in ("prompt", "chosen", "rejected"):
        if name not in row.fields:
            raise DataFileError(
                f"{row.where}: no column {name!r}: expected prompt, chosen and rejected, got {', '.join(row.fields)}"
            )
    prompt = _messages(row, "prompt", ["system", "user"])
    answers = [_messages(row, name, ["assistant"])["assistant"] for name in ("chosen", "rejected")]
    return PreferencePair(Prompt(system=prompt.get("system", ""), user=prompt["user"]), *answers)


def _messages(row: Row, name: str, roles: list[str]) -> dict[str, str]:
    """Role -> text. A plain string is the text of the last of `roles`; the other roles may be missing."""
    value = row.fields[name]
    messages = [{"role": roles[-1], "content": value}] if isinstance(value, str) else value
    wrong = DataFileError(
        f"{row.where}: {name} must be a text or a list of messages with the roles {', '.join(roles)}, got {value!r:.80}"
    )
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise wrong
    got = [message.get("role") for message in messages]
    texts = [message.get("content") for message in messages]
    if got not in (roles, roles[-1:]) or not all(isinstance(text, str) and text for text in texts):
        raise wrong
    return dict(zip(got, texts, strict=True))


def resume(out: Path, config: PairConfig, pairs: Pairs) -> dict[str, Any] | None:
    """The saved state of a training with these options and this file; None in a new folder."""
    saved = read_state(out, config, free=("threads", "file"))
    if saved is not None and saved["sha256"] != pairs.sha256:
        raise DataFileError(f"{config.file} is not the file that the training in {out} was started with")
    return saved


def counts(pairs: Pairs) -> dict[str, Any]:
    """The manifest's entries about the file."""
    return {"pairs": len(pairs.train), "pairs_held_out": len(pairs.held_out), "file_sha256": pairs.sha256}


def write_curve(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes curve.csv."""
    with replacing(out / "curve.csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CURVE, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
