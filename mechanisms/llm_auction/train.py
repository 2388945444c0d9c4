"""`simenv train llm-auction`: the IRPO training loop, its state and its output folder.

The folder holds the adapter of the best epoch (`make_mechanism("llm_auction", adapter=FOLDER)` loads it), the manifest,
the learning curve, and `state.pt`, from which an interrupted training is resumed. All draws are keyed, so a resumed
training gives the same result: updates since the last saved state are repeated.
"""

from __future__ import annotations

import csv
import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from simenv.abilities import hash_of
from simenv.ctr.learned import calibration_error
from simenv.encoder import default_encoder
from simenv.errors import DataFileError
from simenv.files.atomic import replacing
from simenv.files.folders import ensure_folder
from simenv.judges.base import Judge
from simenv.judges.click_model import ClickModel
from simenv.llm import make_llm
from simenv.market.catalog import load_catalog
from simenv.markup import strip_markup
from simenv.runs.engines import check_engine
from simenv.runs.folder import records_hash
from simenv.seeding import keyed_rng
from simenv.users.personas import load_personas
from simenv.users.queries import load_queries

from . import intent, lora, reward_model, sft
from .click_features import PCTRExample
from .folder import now, parse, read_state, save_state, write_manifest
from .irpo import Config, distribution_facts, rewards, update
from .label_choice import Chosen, LabelChoices
from .levels import Group, Level, Links, Pages, Response
from .models import Models
from .pairs import train as train_on_pairs
from .part_auctions import PLAIN_QUESTIONS, PartAuctions
from .reward_model import PCTR, PredictedCTR, fit
from .sentence_choice import Sentence, SentenceChoices
from .split import only
from .spread import Spread
from .written import Written

CURVE = (
    "epoch",
    "reward",
    "share",
    "entropy",
    "kl",
    "tv_tilted",
    "auc",
    "calibration_error",
    "ads",
    "words",
    "faults",
    "used",
    "loss",
)


FREE = ("threads", "micro_batch", "checkpointing", "engine", "ray_address", "workers", "sampler", "sampler_folder")
"""Options that an interrupted training may change."""


class LLMAuctionTrainer:
    """Trains the mechanism llm_auction by iterative reward-preference optimization, or on preference pairs."""

    name = "llm-auction"

    def train(self, options: Mapping[str, Any], out: Path, console: Console) -> None:
        """Trains, or resumes the training in `out`.

        Args:
            options: Fields of `Config`; with "from", the path of preference pairs, those of `pairs.Config`.
            out: A new folder, or one with a training of the same options.
            console: Console for progress.

        Raises:
            InputError: an option is unknown or out of range, or the folder belongs to another training.
        """
        if "from" in options:
            train_on_pairs(options, out, console)
        else:
            config = parse(Config, options)
            check_engine(config.engine, ray_address=config.ray_address, workers=config.workers)
            Training(config, out, console).run()


class Training:
    """One training and its state."""

    def __init__(self, config: Config, out: Path, console: Console) -> None:
        self.config, self.out, self.console = config, out, console
        torch.set_num_threads(config.threads)
        saved = read_state(out, config, FREE)
        self.models = Models(config)
        self.policy, self.level, self.judge = self.models.policy, self.models.level, self.models.judge
        self.objective = self.models.objective
        self.spread = Spread(config, self.models, lambda text: console.print(text, highlight=False, soft_wrap=True))
        self.optimizer = torch.optim.AdamW(self.policy.trained.values(), lr=config.learning_rate, weight_decay=0.0)
        self.auctions = PartAuctions(config, self.judge)
        self.state: dict[str, Any] = {
            "epoch": 0,
            "step": 0,
            "clicked": 0,
            "warmed": False,
            "tuned": False,
            "groups": None,
            "log": [],
            "losses": [],
            "curve": [],
            "best": None,
            "reference": None,
            "seconds": {},
            "started": now(),
        }
        if saved is not None:
            lora.assign(self.policy.trained, saved.pop("lora"))
            self.optimizer.load_state_dict(saved.pop("optimizer"))
            self.state |= saved
            if any(len(row) != len(PCTRExample._fields) for row in self.state["log"]):
                raise DataFileError(
                    f"{out}: the clicks of this training were logged by another version of simenv, with other inputs",
                    hint="train into a new folder",
                )
        self.held_out = self.auctions.draw("validation", config.validation, 0)
        self.values: list[np.ndarray] | None = None
        self._fitted: tuple[int, PCTR] | None = None  # the number of logged clicks, and their model

    def run(self) -> None:
        """Trains to the end."""
        ensure_folder(self.out)
        self._manifest()
        state = self.state
        if not state["curve"]:
            self._validate(None)
            self._save()
        with self.spread:
            if self.config.sft_auctions and not state["tuned"]:
                self._fine_tune()
            while state["epoch"] < self.config.epochs:
                self._epoch(state["epoch"] + 1)
                state.update(epoch=state["epoch"] + 1, step=0, groups=None, losses=[])
                self._save()
                self._manifest()
        self._manifest(now())
        self.console.print(f"best epoch {state['best']}: written to {self.out}", highlight=False, soft_wrap=True)

    def _epoch(self, number: int) -> None:
        config, state = self.config, self.state
        source = self._reward_source(number)
        if config.warm_start and not state["warmed"]:
            auctions = config.warm_start * config.batch
            self._updates(0, source, config.model_copy(update={"loss": "sft", "epochs": 1, "auctions": auctions}))
            state.update(warmed=True, step=0, groups=None, losses=[])
            self._save()
        self._updates(number, source, config)
        self._validate(source if isinstance(source, PCTR) else None)

    def _fine_tune(self) -> None:
        """Supervised fine-tuning on examples, which sft.jsonl keeps; then a row of the learning curve."""
        config, policy = self.config, self.policy
        file = self.out / "sft.jsonl"
        with self._timed("examples"):
            made = sft.load(file) if file.is_file() else self._examples(file)
        self.console.print(f"fine-tuning on {sft.summary(made)}", highlight=False, soft_wrap=True)
        optimizer = torch.optim.AdamW(policy.trained.values(), lr=config.sft_rate, weight_decay=0.0)
        with self._timed("fine-tuning"):
            losses = sft.fine_tune(policy, made, optimizer, config, self._progress("fine-tuning"))
        self.state.update(tuned=True, losses=losses)
        self._validate(None)
        self.state["losses"] = []
        self._save()

    def _examples(self, file: Path) -> list[sft.Example]:
        config = self.config
        plain = round(config.plain_share * config.sft_auctions)
        auctions = self.auctions.draw("train", config.sft_auctions, 2000 * config.seed + 1999, plain=False)
        questions = self.auctions.plain("train", plain, 2000 * config.seed + 1999)
        made = sft.examples(make_llm(config.llm), auctions, questions, profile=config.profile)
        sft.save(made, file)
        return made

    def _progress(self, stage: str) -> Callable[[str], None]:
        return lambda text: self.console.print(f"{stage}: {text}", highlight=False, soft_wrap=True)

    def _updates(self, number: int, source: PCTR | Judge, config: Config) -> None:
        """Phase 2 of epoch `number`; 0 is the warm start, which has its own `config`."""
        state = self.state
        again = number > 1 and not config.fresh_bids
        fresh = self.auctions.draw("train", config.auctions, 2000 * config.seed + 2 * (1 if again else number))
        if state["groups"] is None:
            with self._timed("samples"):
                key = f"preferences {number}" if again else "preferences"
                groups = self.spread.groups(fresh, source, config, key, number)
            state["groups"] = [([_plain(r) for r in one.responses], one.ref_logps, one.rewards) for one in groups]
            self._save()
        level, anchor = self.models.level_of(number, config), self._anchor()
        if config.stage(number) == "sentences" and config.sentence_kl_weight is not None:
            config = config.model_copy(update={"kl_weight": config.sentence_kl_weight})
        groups = [
            Group([_response(r, level.of(episode)) for r in kept], *rest)
            for episode, (kept, *rest) in zip(fresh, state["groups"], strict=True)
        ]
        order = keyed_rng("irpo order", config.seed, number).permutation(len(fresh))
        while state["step"] < config.steps_per_epoch:
            places = order[state["step"] * config.batch :][: config.batch]
            done = max(0, number - 1) * config.steps_per_epoch + state["step"]
            with self._timed("updates"):
                batch = [(fresh[i], groups[i]) for i in places]
                extra = None if anchor is None else partial(anchor, step=done)
                state["losses"].append(update(level, self.optimizer, batch, config, done, extra))
            state["step"] += 1
            if state["step"] % config.save_every == 0:
                self._save()
                self._say(number, config)

    def _anchor(self) -> Callable[..., torch.Tensor] | None:
        """The loss of examples that each update adds, if any."""
        if not self.config.anchor:
            return None
        made = sft.load(self.out / "sft.jsonl")
        return partial(sft.anchor, self.policy, made, self.config)

    def _reward_source(self, number: int) -> PCTR | Judge:
        if self.config.reward == "oracle":
            return self.judge
        if self.state["clicked"] < number:
            if self.config.predicts and self.state["log"] and self.auctions.ctr is None:
                self._fit()  # a resumed training: the last epoch's model, which its policy knows
            with self._timed("clicks"):
                seed = 2000 * self.config.seed + 2 * number + 1  # other bids than those of phase 2
                auctions = self.auctions.draw("train", self.config.clicked_auctions, seed)
                rows = self.spread.clicks(auctions, self.config, number)
            self.state["log"] += [tuple(row) for row in rows]
            self.state["clicked"] = number
            self._save()
        model = self._fit()
        if not self.config.predicts:
            reward_model.save(model, self.out)
        return model

    def _fit(self) -> PCTR:
        """The reward model of the log. If prompts show its predictions, they do from here on."""
        clicks = len(self.state["log"])
        if self._fitted is None or self._fitted[0] != clicks:
            with self._timed("pctr"):
                log = [PCTRExample(*row) for row in self.state["log"]]
                model = fit(log, default_encoder(), self.config.seed, steps=self.config.pctr_steps)
            self._fitted = clicks, model
        model = self._fitted[1]
        if self.config.predicts:
            self.auctions.ctr = PredictedCTR(model)
            self.held_out = self.auctions.draw("validation", self.config.validation, 0)
        return model

    def _validate(self, pctr: PCTR | None) -> None:
        """Adds a row to the learning curve, on held-out personas and ads, and saves the best adapter."""
        state = self.state
        with self._timed("validation"):
            facts = self._exact_facts(self.level) if isinstance(self.level, Links) else {}
            if "reward" not in facts:
                facts |= self._sampled_facts()
            if pctr is not None:
                facts |= self._quality(pctr)
        losses = known_losses(state["losses"])
        if left_out := sum(loss is not None for loss in state["losses"]) - len(losses):
            self.console.print(f"{left_out} updates were left out: their gradients were not finite", highlight=False)
        facts |= {"epoch": len(state["curve"]), "used": len(losses), "loss": float(np.mean(losses)) if losses else None}
        state["curve"].append({name: facts.get(name) for name in CURVE})
        self._write_adapter(self.out / "epochs" / str(facts["epoch"]), pctr)
        best = state["best"]
        if best is None or (facts["reward"] or 0.0) > state["curve"][best]["reward"]:
            state["best"] = len(state["curve"]) - 1
            self._write_adapter(self.out, pctr)
        write_curve(state["curve"], self.out)
        shown = " ".join(f"{k} {v:.3f}" for k, v in facts.items() if k not in ("epoch", "used") and v is not None)
        self.console.print(f"epoch {facts['epoch']}: {shown}", highlight=False, soft_wrap=True)

    def _write_adapter(self, folder: Path, pctr: PCTR | None) -> None:
        """Writes the adapter, the classifier of questions, and the reward model if its predictions were in prompts."""
        lora.save(folder, self.policy.trained, self.config.r, self.config.alpha, self.policy.base)
        if self._intent is not None:
            intent.save(self._intent, folder)
        if self.config.predicts and pctr is not None:
            reward_model.save(pctr, folder)

    @cached_property
    def _intent(self) -> intent.CommercialIntent | None:
        """The classifier of questions; None if the training has questions of one kind alone."""
        if not self.config.plain_share:
            return None
        people = only(load_personas(self.config.personas), "train")
        commercial = [text for persona in people for text in persona.queries]
        if not commercial:
            return None
        return intent.fit(default_encoder(), commercial, [one.text for one in load_queries(PLAIN_QUESTIONS)])

    def _exact_facts(self, level: Links) -> dict[str, float | None]:
        """Computes facts of the policy's exact distribution, including rewards if the judge is the click model."""
        logs = level.distributions(self.held_out)
        reference = logs if self.state["reference"] is None else self.state["reference"]
        if isinstance(self.judge, ClickModel) and self.values is None:
            self.values = [level.true_rewards(self.judge, episode, self.objective) for episode in self.held_out]
        self.state["reference"] = logs
        return distribution_facts(logs, reference, self.values, self.config.kl_weight)

    def _sampled_facts(self) -> dict[str, float | None]:
        """Facts of one answer per auction, sampled as the mechanism samples them.

        Returns:
            reward: mean R, by the judge, less `plain_ad_cost` for each ad that it is due for; entropy: mean -log pi of
            an answer, nats; ads and words of an answer; faults: share of the answers with a violation.
        """
        drawn = self.level.deployed(self.held_out, "validation")
        answers = [(e, one[0]) for e, one in zip(self.held_out, drawn, strict=True) if one]
        if not answers:
            return {"reward": 0.0}
        scored = [(episode, [answer.response]) for episode, answer in answers]
        outcomes = [self.level.outcome(episode, answer.response) for episode, answer in answers]
        return {
            "reward": float(
                np.mean(rewards(self.level, self.judge, scored, self.objective, self.config.plain_ad_cost))
            ),
            "entropy": float(np.mean([-answer.logp for _, answer in answers])),
            "ads": float(np.mean([len(outcome.placements) for outcome in outcomes])),
            "words": float(np.mean([len(strip_markup(outcome.response).split()) for outcome in outcomes])),
            "faults": float(np.mean([bool(outcome.violations) for outcome in outcomes])),
        }

    def _quality(self, pctr: PCTR) -> dict[str, float]:
        """Returns AUC and calibration of the reward model on the policy's answers for held-out users and ads."""
        from sklearn.metrics import roc_auc_score

        rows = self.spread.clicks(self.held_out, self.config)
        truth = np.array([row.clicked for row in rows if row.clicked is not None])
        predicted = pctr.predict([row for row in rows if row.clicked is not None])
        if not len(truth) or truth.min() == truth.max():
            return {}
        return {
            "auc": float(roc_auc_score(truth, predicted)),
            "calibration_error": calibration_error(truth, predicted),
        }

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds = self.state["seconds"]
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started

    def _say(self, number: int, config: Config) -> None:
        losses = known_losses(self.state["losses"][-config.save_every :])
        mean = f"{np.mean(losses):.4f}" if losses else "none"
        done = f"{self.state['step']}/{config.steps_per_epoch}"
        took = f"{self.state['seconds']['updates']:.0f} s of updates so far"
        name = f"epoch {number}" if number else "warm start"
        self.console.print(f"{name}: update {done}, loss {mean}, {took}", highlight=False, soft_wrap=True)

    def _save(self) -> None:
        tensors = {name: value.detach() for name, value in self.policy.trained.items()}
        save_state(self.out, self.config, {"lora": tensors, "optimizer": self.optimizer.state_dict(), **self.state})

    def _manifest(self, finished: str | None = None) -> None:
        adapter = self.out / "adapter_model.safetensors"
        facts = {
            "started": self.state["started"],
            "finished": finished,
            "seconds": {stage: round(seconds, 1) for stage, seconds in self.state["seconds"].items()},
            "base_model": self.policy.base,
            "judge": self.judge.name,
            "judge_sha256": hash_of(self.judge),
            "data_sha256": {
                "catalog": records_hash(load_catalog(self.config.catalog)),
                "personas": records_hash(load_personas(self.config.personas)),
            },
            "best_epoch": self.state["best"],
            "adapter_sha256": hashlib.sha256(adapter.read_bytes()).hexdigest() if adapter.is_file() else None,
        }
        write_manifest(self.out, self.config, facts)


def _plain(response: Response) -> Any:
    """A response as the file of the state can hold it."""
    return tuple(response) if isinstance(response, Written | Chosen | Sentence) else response


def _response(plain: Any, level: Level) -> Response:
    """A response of a saved state."""
    if isinstance(level, LabelChoices):
        return Chosen(*plain)
    if isinstance(level, SentenceChoices):
        return Sentence(*plain)
    return Written(*plain) if isinstance(level, Pages) else plain


def known_losses(losses: Sequence[float | None]) -> list[float]:
    """The losses of the updates that were made."""
    return [loss for loss in losses if loss is not None and math.isfinite(loss)]


def write_curve(curve: list[dict[str, Any]], out: Path) -> None:
    """Writes the learning curve as curve.csv and curve.png."""
    from matplotlib.figure import Figure

    with replacing(out / "curve.csv") as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, CURVE, lineterminator="\n")
        writer.writeheader()
        writer.writerows(curve)
    figure = Figure(figsize=(10, 7.5), layout="constrained")
    names = [name for name in CURVE if name not in ("epoch", "used", "loss")]
    for axes, name in zip(figure.subplots(3, 4).flat, names, strict=False):
        points = [(row["epoch"], row[name]) for row in curve if row[name] is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o")
        axes.set_title(name.replace("_", " "))
        axes.set_xlabel("epoch")
    with replacing(out / "curve.png") as part:
        figure.savefig(part, format="png", dpi=100)
