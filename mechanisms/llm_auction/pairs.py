"""`simenv train llm-auction --from FILE`: DPO on logged answers, without new calls of a policy or a judge.

The file is written by `simenv export RUN --format preferences`, or is any .jsonl or .parquet file with the columns
prompt, chosen and rejected. One pass is one off-policy epoch of LLM-Auction's Algorithm 1: the answers may come from
any mechanism, and the reference is the model that training starts from.

    loss = -log sigmoid(beta ((log pi - log pi_ref)(chosen) - (log pi - log pi_ref)(rejected)))

There are two back ends: "own" is a loop in this file, for small models; "trl" is TRL's DPOTrainer with peft, for large
models (several GPUs with `accelerate launch`). Both write adapter files in peft's format, which `LLMAuction` loads with
format "json".
"""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from rich.console import Console
from torch.nn import functional

from simenv.errors import DataFileError
from simenv.files.rows import Row, read_rows
from simenv.llm import Prompt
from simenv.records import Record
from simenv.seeding import keyed_rng

from . import lora
from .folder import base_model, now, parse, read_state, save_state, write_manifest
from .irpo import cosine
from .policy import AdaptedLLM

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


def train(options: Mapping[str, Any], out: Path, console: Console) -> None:
    """Trains on a file of pairs, or resumes the training in `out`.

    Args:
        options: Fields of `PairConfig`, with `file` under the name "from".
        out: A new folder, or one with a training of the same options and file.
        console: Receives the progress messages.

    Raises:
        InputError: an option is unknown or out of range, `out` holds another training, or a back end is not installed.
        DataFileError: the file is missing, is empty, lacks a column, or has a row that is not a pair.
    """
    config = parse(PairConfig, {"file": options["from"], **{k: v for k, v in options.items() if k != "from"}})
    pairs = read_pairs(config)
    torch.set_num_threads(config.threads)
    if config.backend == "trl":
        from .trl_backend import train_with_trl

        train_with_trl(config, pairs, out, console)
    else:
        PairTraining(config, pairs, out, console).run()


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
    return Pairs(train, held_out, hashlib.sha256(Path(config.file).read_bytes()).hexdigest())


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


class PairTraining:
    """A training with the back end "own"."""

    def __init__(self, config: PairConfig, pairs: Pairs, out: Path, console: Console) -> None:
        self.config, self.pairs, self.out, self.console = config, pairs, out, console
        saved = resume(out, config, pairs)
        self.state: dict[str, Any] = {
            "sha256": pairs.sha256,
            "step": 0,
            "refs": [],
            "curve": [],
            "seconds": 0.0,
            "started": now(),
        }
        self.policy = AdaptedLLM(
            base_model(config.llm),
            r=config.r,
            alpha=config.alpha,
            blocks=config.blocks,
            seed=config.seed,
            checkpointing=config.checkpointing,
        )
        self.optimizer = torch.optim.AdamW(self.policy.trained.values(), lr=config.learning_rate, weight_decay=0.0)
        if saved is not None:
            lora.assign(self.policy.trained, saved.pop("lora"))
            self.optimizer.load_state_dict(saved.pop("optimizer"))
            self.state |= saved
        self.per_pass = math.ceil(len(pairs.train) / config.batch)
        """Updates per pass."""

    def run(self) -> None:
        """Trains to the end."""
        config, state = self.config, self.state
        self.out.mkdir(parents=True, exist_ok=True)
        self._manifest()
        self._references()
        while state["step"] < config.epochs * self.per_pass:
            started = time.perf_counter()
            number, place = divmod(state["step"], self.per_pass)
            order = keyed_rng("pair order", config.seed, number).permutation(len(self.pairs.train))
            self._update([int(i) for i in order[place * config.batch :][: config.batch]])
            state["step"] += 1
            if place == self.per_pass - 1:
                self._measure()
            state["seconds"] += time.perf_counter() - started
            if state["step"] % config.save_every == 0 or state["step"] == config.epochs * self.per_pass:
                self._save()
                self._print_progress()
        lora.save(self.out, self.policy.trained, config.r, config.alpha, self.policy.base)
        write_curve(state["curve"], self.out)
        self._manifest(now())
        self.console.print(f"written to {self.out}", highlight=False, soft_wrap=True)

    def _references(self) -> None:
        """Computes the reference log-probabilities of all answers, once, before the first update changes the model."""
        refs, pairs = self.state["refs"], [*self.pairs.train, *self.pairs.held_out]
        while len(refs) < len(pairs):
            with torch.no_grad():
                refs.append(self._logps(pairs[len(refs)]).tolist())
            if len(refs) % 20 == 0 or len(refs) == len(pairs):
                self._save()
                self.console.print(f"reference: {len(refs)}/{len(pairs)} pairs", highlight=False, soft_wrap=True)

    def _update(self, chosen: Sequence[int]) -> None:
        self.optimizer.zero_grad()
        margins = []
        for i in chosen:
            margin = self._margin(i)
            (-functional.logsigmoid(margin) / len(chosen)).backward()  # type: ignore[no-untyped-call]
            margins.append(float(margin.detach()))
        for rates in self.optimizer.param_groups:
            total = self.config.epochs * self.per_pass
            rates["lr"] = cosine(self.state["step"], total, self.config.learning_rate, self.config.warmup)
        torch.nn.utils.clip_grad_norm_(self.policy.trained.values(), 1.0)
        self.optimizer.step()
        self._add_to_curve("train", self.state["step"] + 1, margins)

    def _measure(self) -> None:
        """Adds a row of the curve for the held-out pairs."""
        start = len(self.pairs.train)
        with torch.no_grad():
            margins = [float(self._margin(start + i)) for i in range(len(self.pairs.held_out))]
        if margins:
            self._add_to_curve("held_out", self.state["step"], margins)

    def _margin(self, i: int) -> torch.Tensor:
        """beta times the difference of log-ratios of pair i; held-out pairs come after the training pairs."""
        n = len(self.pairs.train)
        pair = self.pairs.train[i] if i < n else self.pairs.held_out[i - n]
        ratios = self._logps(pair) - torch.tensor(self.state["refs"][i])
        return self.config.beta * (ratios[0] - ratios[1])

    def _logps(self, pair: PreferencePair) -> torch.Tensor:
        return self.policy.text_logps(pair.prompt, [pair.chosen, pair.rejected])

    def _add_to_curve(self, part: str, update: int, margins: Sequence[float]) -> None:
        m = np.array(margins)
        numbers = (float(np.logaddexp(0, -m).mean()), float((m > 0).mean()), float(m.mean()))
        self.state["curve"].append(dict(zip(CURVE, (update, part, *numbers), strict=True)))

    def _save(self) -> None:
        tensors = {name: value.detach() for name, value in self.policy.trained.items()}
        save_state(self.out, self.config, {"lora": tensors, "optimizer": self.optimizer.state_dict(), **self.state})

    def _print_progress(self) -> None:
        row = self.state["curve"][-1]
        shown = f"loss {row['loss']:.4f} accuracy {row['accuracy']:.3f} margin {row['margin']:.3f}"
        done = f"{self.state['step']}/{self.config.epochs * self.per_pass}"
        self.console.print(f"update {done}, {row['part']}: {shown}", highlight=False, soft_wrap=True)

    def _manifest(self, finished: str | None = None) -> None:
        facts = {"started": self.state["started"], "finished": finished, "seconds": round(self.state["seconds"], 1)}
        write_manifest(self.out, self.config, facts | {"base_model": self.policy.base} | counts(self.pairs))


def counts(pairs: Pairs) -> dict[str, Any]:
    """The manifest's entries about the file."""
    return {"pairs": len(pairs.train), "pairs_held_out": len(pairs.held_out), "file_sha256": pairs.sha256}


def write_curve(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes curve.csv."""
    with (out / "curve.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CURVE, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
