"""A file of pairs and what every training on one shares: its options, its state, its learning curve.

`pairs.py` says what such a file is.
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
from simenv.files.rows import Row, read_rows
from simenv.llm import Prompt
from simenv.records import Record
from simenv.seeding import keyed_rng

from .folder import read_state

CURVE = ("update", "part", "loss", "accuracy", "margin")
"""Of curve.csv. part: train (the update's own pairs) or held_out; accuracy: share of pairs whose chosen answer gained
more log-probability than the rejected one; margin: by how much, times beta (TRL's rewards/margins)."""


class PairConfig(Record):
    """Every number of a training on pairs."""

    file: str
    """What --from names."""
    llm: str = "embedded"
    """Base model: embedded or local:FOLDER."""
    backend: Literal["own", "trl"] = "own"
    seed: int = 0
    epochs: int = Field(default=1, ge=1)
    """Passes over the file."""
    beta: float = Field(default=0.1, gt=0)
    """The paper's."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """For LoRA on a small model; the paper, all parameters of a large one: 1e-6."""
    warmup: float = Field(default=0.1, ge=0, lt=1)
    """Share of the updates, then cosine to 0 (the paper's)."""
    batch: int = Field(default=16, ge=1)
    """Pairs per update. The paper: 64."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the prompts whose pairs are not trained on, but measured after every pass."""
    r: int = Field(default=8, ge=1)
    alpha: float = Field(default=16.0, gt=0)
    blocks: tuple[int, ...] = ()
    """Transformer blocks with an adapter; () = all."""
    checkpointing: bool = False
    """Trade time for memory in the backward pass."""
    save_every: int = Field(default=10, ge=1)
    """Updates between two saved states."""
    threads: int = Field(default=2, ge=1)


class Pair(NamedTuple):
    """Two answers to one prompt."""

    prompt: Prompt
    chosen: str
    rejected: str


class Pairs(NamedTuple):
    """A file of pairs."""

    train: list[Pair]
    held_out: list[Pair]
    sha256: str


def read_pairs(config: PairConfig) -> Pairs:
    """The pairs of a file, in its order; all of one prompt are in the same part."""
    rows = read_rows(config.file)
    train: list[Pair] = []
    held_out: list[Pair] = []
    for row in rows:
        pair = _pair(row)
        drawn = keyed_rng("pairs held out", config.seed, pair.prompt.system, pair.prompt.user).random()
        (held_out if drawn < config.held_out else train).append(pair)
    if not train:
        raise DataFileError(f"{config.file}: no pair to train on: all {len(held_out)} are held out, lower held_out")
    return Pairs(train, held_out, hashlib.sha256(Path(config.file).read_bytes()).hexdigest())


def _pair(row: Row) -> Pair:
    for name in ("prompt", "chosen", "rejected"):
        if name not in row.fields:
            raise DataFileError(
                f"{row.where}: no column {name!r}: expected prompt, chosen and rejected, got {', '.join(row.fields)}"
            )
    prompt = _messages(row, "prompt", ["system", "user"])
    said = [_messages(row, name, ["assistant"])["assistant"] for name in ("chosen", "rejected")]
    return Pair(Prompt(system=prompt.get("system", ""), user=prompt["user"]), *said)


def _messages(row: Row, name: str, roles: list[str]) -> dict[str, str]:
    """Role -> text. A plain string is the last of `roles`; the others may be missing."""
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
    """The state of a training of these options and this file, or None in a new folder."""
    saved = read_state(out, config, free=("threads", "file"))
    if saved is not None and saved["sha256"] != pairs.sha256:
        raise DataFileError(f"{config.file} is not the file that the training in {out} began with")
    return saved


def counts(pairs: Pairs) -> dict[str, Any]:
    """What a manifest says of the file."""
    return {"pairs": len(pairs.train), "pairs_held_out": len(pairs.held_out), "file_sha256": pairs.sha256}


def write_curve(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes curve.csv."""
    with replacing(out / "curve.csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CURVE, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
