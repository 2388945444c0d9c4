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

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch.nn import functional

from simenv.files.folders import ensure_folder
from simenv.seeding import keyed_rng

from . import lora
from .folder import now, parse, save_state, write_manifest
from .irpo import cosine
from .models import new_policy
from .pair_data import CURVE, PairConfig, Pairs, PreferencePair, counts, read_pairs, resume, write_curve


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
        self.policy = new_policy(config)
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
        ensure_folder(self.out)
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
