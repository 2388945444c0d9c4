"""Ablations of the training that writes whole answers, at a small budget, with three seeds each.

python -m benchmarks.written_ablations --training FOLDER --work FOLDER --out ablations.csv   # hours on two cores

Each variant trains with the trainer itself for two epochs on single sentences. It begins with the fine-tuned adapter of
`--training` and has that training's log of clicks, so all variants have the same reward model. It changes one part.
The seed draws the auctions, the samples and the order of the updates. What is measured is the reward of whole answers
by the clicks of world v1, as the mechanism samples them, on the same held-out personas and ads for all variants of a
seed, with 4 and 8 candidates in turn. Intervals are of all seeds, clustered by persona; differences are paired.
A variant whose answers are in `--work` is not trained again, so several processes may each take some of the seeds or
variants, and one of them all, at the end, writes the table.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.bench_rows import write_rows
from benchmarks.whole_answer_setup import config_of, epochs_of
from benchmarks.whole_answer_tables import Measured, mean, mean_of, measure
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.train import CURVE, Training
from mechanisms.llm_auction.written import Written
from simenv.files.folders import ensure_folder
from simenv.judges.click_model import ClickModel

SHARED = {
    "epochs": 2,
    "stages": ["sentences"] * 2,
    "candidates": [4, 8],
    "batch": 2,
    "micro_batch": 1,
    "validation": 1,
    "plain_share": 0.0,
    "plain_ad_cost": 0.0,
}
"""Options of every variant, beside the number of auctions; the others are those of the training. All questions count as
ones with commercial intent, which are what is measured. A process needs up to 10 GB."""
ABLATIONS: dict[str, dict[str, Any] | None] = {
    "base": {},
    "fine-tuned": None,
    "no fine-tuning": {"start": None, "anchor": 1e-9},
    "no iteration": {"epochs": 1, "stages": ["sentences"]},
    "dpo, beta 0.1": {"loss": "dpo"},
    "dpo, beta 0.5": {"loss": "dpo", "beta": 0.5},
    "ads at the end": {"ads_at_end": True},
    "profile hidden": {"profile": False},
}
"""What each changes; None: there is no training after the fine-tuning. "No iteration": all auctions against one
reference. An anchor is required."""
SEED = 91_000
"""Of the first seed's test auctions."""
ANSWERS = "answers.json"
"""What was measured of a variant, in its folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=Path, required=True, help="folder of a training in the written format")
    parser.add_argument("--work", type=Path, required=True, help="where the trainings are written")
    parser.add_argument("--out", type=Path, help="the table; without it, variants are only trained and measured")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=ABLATIONS, default=list(ABLATIONS), metavar="NAME")
    parser.add_argument("--train", type=int, default=24, help="training auctions of each variant and seed")
    parser.add_argument("--auctions", type=int, default=32, help="test auctions of each seed")
    given = parser.parse_args()
    if given.out is not None and "base" not in given.variants:
        parser.error('--out needs the variant "base", which the others are compared with')
    log = torch.load(given.training / "state.pt", weights_only=True)["log"]
    measured: dict[str, list[Measured]] = defaultdict(list)
    for seed in given.seeds:
        for name in given.variants:
            folder = given.work / f"{name.replace(' ', '_').replace(',', '')}_{seed}"
            if not (folder / ANSWERS).is_file():
                training = Training(options(given.training, name, seed, given.train), folder, Console(quiet=True))
                run(training, log, given.training / "sft.jsonl", epochs=ABLATIONS[name] is not None)
                found = answers(training, given.auctions, SEED + seed)
                (folder / ANSWERS).write_text(json.dumps([one._asdict() for one in found]))
            measured[name] += [Measured(**one) for one in json.loads((folder / ANSWERS).read_text())]
            print(f"{name}, seed {seed}: done", flush=True)
    if given.out is not None:
        rows = [row_of(name, some, measured["base"]) for name, some in measured.items()]
        write_rows(rows, given.out)
        print(*rows, sep="\n")


def options(training: Path, name: str, seed: int, auctions: int) -> Config:
    """The options of a variant that trains on `auctions` in all its epochs together."""
    shared = config_of(training).model_dump() | SHARED | {"seed": seed, "start": str(epochs_of(training)[1])}
    chosen = shared | (ABLATIONS[name] or {})
    return Config.model_validate(chosen | {"auctions": auctions // chosen["epochs"]})


def run(training: Training, log: Sequence[Any], examples: Path, *, epochs: bool) -> None:
    """Runs a training from a log of clicks, or only fits its reward model; `examples` are those of the anchor."""
    ensure_folder(training.out)
    shutil.copy(examples, training.out / "sft.jsonl")
    if not training.state["curve"]:
        row = dict.fromkeys(CURVE) | {"epoch": 0, "reward": 0.0}
        training.state.update(tuned=True, log=list(log), clicked=training.config.epochs, curve=[row], best=0)
    if epochs:
        training.run()
    training._fit()


def answers(training: Training, count: int, seed: int) -> list[Measured]:
    """One answer of the last policy to each test auction. A blank text shows no ad."""
    level, judge = training.level, training.judge
    assert isinstance(judge, ClickModel)
    auctions = training.auctions.draw("test", count, seed, plain=False)
    found = []
    for episode, some in zip(auctions, level.deployed(auctions, "ablation", scored=False), strict=True):
        response = some[0].response if some else Written("")
        found.append(measure(episode, level.outcome(episode, response), judge, training.objective))
    return found


def row_of(name: str, ours: Sequence[Measured], base: Sequence[Measured]) -> dict[str, Any]:
    """Means over the answers of all seeds, and the paired difference to the base's."""
    people = [one.persona for one in ours]
    reward = mean([one.reward for one in ours], people)
    gap = mean([one.reward - other.reward for one, other in zip(ours, base, strict=True)], people)
    ads = sum(one.ads for one in ours)
    return {
        "row": name,
        "answers": len(ours),
        "reward": f"{reward.value:.2f}",
        "±": f"{reward.margin:.2f}",
        "minus base": f"{gap.value:.2f}",
        "± of the difference": f"{gap.margin:.2f}",
        "ads": f"{mean_of(ours, 'ads'):.2f}",
        "words first": f"{sum(one.led for one in ours) / ads:.2f}" if ads else "",
        "words": f"{mean_of(ours, 'words'):.1f}",
        "faults": f"{mean_of(ours, 'faults'):.3f}",
    }


if __name__ == "__main__":
    main()
