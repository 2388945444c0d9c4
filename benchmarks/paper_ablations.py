"""Ablations of LLM-Auction: the effect of each part of the training, at link level and with a small budget.

python -m benchmarks.paper_ablations [--variants base "dpo, beta 0.1" ...] [--seeds 0] [--n 60]

Every variant is trained from scratch on training personas and ads, and measured on test personas and test ads as in
`paper_exact.py` and `paper_links.py`: without sampling, with the click probabilities of world v1's click model. The
budget is much smaller than that of the shipped adapter, and auctions have six candidates, so a variant takes minutes.
Compare rows only with each other.

ablations.csv has one row per variant and seed, written when it is finished; existing rows are not run again. Trainings
are kept in --work, and an interrupted training resumes.

share            of the best list's reward, ratio of sums, 95% interval by persona; gap: reward minus that of the
                 variant in `against`, paired by auction
tv_tilted        total variation to pi_0 exp(R / w) / Z, w the weight that the base variant's epochs add up to
share_shuffled   with the candidates in another order
share_score      with the retriever's score hidden, or shown where it was hidden in training
spearman, ratio, largest_fall, largest_jump    of ITCTR over bids 1..100: see `paper_links.py`
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.bench_rows import write_rows
from benchmarks.paper_exact import expected
from benchmarks.paper_links import curve, focal_clicks, monotone, shuffled
from mechanisms.llm_auction.irpo import Config, distribution_facts
from mechanisms.llm_auction.levels import Episode, Links, episodes
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.slim import PLACES, offer
from mechanisms.llm_auction.train import LLMAuctionTrainer
from simenv.judges.click_model import ClickModel
from simenv.llm.weights import embedded_path
from simenv.objective import Objective
from simenv.stats import clustered_ratio

Floats = npt.NDArray[np.float64]

CURVES = 30
"""Number of auctions with curves over bids: six forward passes each."""
EPOCHS, AUCTIONS = 2, 120
BUDGET: dict[str, Any] = {
    "epochs": EPOCHS,
    "auctions": AUCTIONS,
    "clicked_auctions": 60,
    "responses": 5,
    "validation": 20,
    "candidates": [6],
    "threads": 1,
}
"""Options of every variant, except the ones that it changes."""


class Variant(NamedTuple):
    """A training, defined by its changes to the base."""

    changes: dict[str, Any]
    against: str = "base"


VARIANTS: dict[str, Variant] = {
    "base": Variant({}),
    "dpo, beta 0.1": Variant({"loss": "dpo"}),
    "dpo, beta 0.5": Variant({"loss": "dpo", "beta": 0.5}),
    # The same number of auctions, clicks and updates, and the KL weight that corresponds to EPOCHS epochs.
    "no iteration": Variant(
        {"epochs": 1, "auctions": EPOCHS * AUCTIONS, "clicked_auctions": 120, "kl_weight": Config().kl_weight / EPOCHS}
    ),
    "fixed bids": Variant({"fresh_bids": False}),
    # In the base, at most two ads are shown and two have no penalty, so the penalty is always 0.
    "one free ad": Variant({"max_ads": 1}),
    "one free ad, no penalty": Variant({"max_ads": 1, "penalty": False}, "one free ad"),
    "judge: embedded": Variant({"judge": "embedded"}),
    # Every verdict is a call that takes seconds, so this variant has a seventh of the clicks.
    "judge: llm": Variant({"judge": "llm", "clicked_auctions": 15, "responses": 3, "validation": 6}),
    "warm start": Variant({"warm_start": 20, "auctions": 80}),  # as many updates in all
    "no score": Variant({"show_score": False}),
    "oracle reward": Variant({"reward": "oracle"}),
}


class Measured(NamedTuple):
    """Results of a policy on the test auctions."""

    row: dict[str, Any]
    rewards: list[float]
    """Expected reward in each auction."""


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS), metavar="VARIANT")
    arguments.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments.add_argument("--n", type=int, default=60, help="test auctions")
    arguments.add_argument("--auctions", type=int, help="another budget, to try this out: training auctions per epoch")
    arguments.add_argument("--work", type=Path, default=Path("runs/ablations"), help="where trainings are kept")
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/paper"))
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    file, console = options.out / "ablations.csv", Console(width=160)
    rows = read(file)
    for seed in options.seeds:
        for name in ["untrained", *options.variants]:
            if any(row["variant"] == name and row["seed"] == str(seed) for row in rows):
                continue
            folder = options.work / f"{name.replace(':', '').replace(',', '').replace(' ', '-')}-{seed}"
            row = run(name, seed, options.n, options.auctions, folder, options.work, console)
            rows.append({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()})
            write_rows(rows, file)
    show(rows, console)


def run(
    name: str, seed: int, n: int, auctions: int | None, folder: Path, work: Path, console: Console
) -> dict[str, Any]:
    """Trains a variant (or resumes its training) and measures it."""
    variant = VARIANTS.get(name, Variant({}))
    config = BUDGET | variant.changes | {"seed": seed} | ({"auctions": auctions} if auctions else {})
    manifest: dict[str, Any] = {"best_epoch": None, "seconds": {}}
    if name != "untrained":
        LLMAuctionTrainer().train(config, folder, console)
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    measured = measure(None if name == "untrained" else folder, Config.model_validate(config), n)
    work.mkdir(parents=True, exist_ok=True)
    (work / f"{name}-{seed}.json").write_text(json.dumps(measured.rewards), encoding="utf-8")
    rival = work / f"{variant.against}-{seed}.json"
    gap: Sequence[float | None] = (None, None, None)
    if name not in (variant.against, "untrained") and rival.is_file():
        rewards = json.loads(rival.read_text(encoding="utf-8"))
        differences = [(ours - theirs, 1.0) for ours, theirs in zip(measured.rewards, rewards, strict=True)]
        people = [e.persona.id for e in test_auctions(n, Config().max_ads)]
        gap = clustered_ratio(differences, people).numbers
    seconds = round(sum(manifest["seconds"].values()))
    facts = {"variant": name, "seed": seed, "n": n, "best_epoch": manifest["best_epoch"], "seconds": seconds}
    compared = {"against": variant.against, **dict(zip(("gap", "gap_low", "gap_high"), gap, strict=True))}
    return facts | measured.row | compared


def measure(folder: Path | None, config: Config, n: int) -> Measured:
    """Results of a trained policy on the test auctions; folder None: of the untrained policy."""
    policy, before = Links(AdaptedLLM(embedded_path(), folder)), untrained()
    auctions = test_auctions(n, config.max_ads)
    form: dict[str, Any] = {"show_score": config.show_score, "places": PLACES}
    values = true_rewards(n, config.max_ads)
    offered = [e._replace(offer=offer(e.auction, **form)) for e in auctions]
    logs, refs = policy.distributions(offered), before.distributions(offered)
    facts = distribution_facts(logs, refs, values, kl_weight=Config().kl_weight / EPOCHS)
    rewards = [expected(log.double().exp().numpy(), value) for log, value in zip(logs, values, strict=True)]
    best = [float(value.max()) for value in values]
    share = clustered_ratio(list(zip(rewards, best, strict=True)), [e.persona.id for e in auctions])
    curves = [curve(policy, e, c, **form) for e, c in zip(auctions, clicks(n, config.max_ads), strict=False)]
    rises = monotone("", np.array(curves))
    row: dict[str, Any] = {"reward": facts["reward"], "share": share.value, "low": share.low, "high": share.high}
    row |= {name: facts[name] for name in ("entropy", "kl", "tv_tilted")}
    other_score = form | {"show_score": not config.show_score}
    row["share_score"] = share_of(policy, [e._replace(offer=offer(e.auction, **other_score)) for e in auctions], values)
    orders = [shuffled(e.auction) for e in auctions]
    moved = [e._replace(offer=offer(e.auction, order=order, **form)) for e, order in zip(auctions, orders, strict=True)]
    # The reward of an answer does not depend on the places of its ads in the list.
    places = [np.ix_([*order, len(order)], [*order, len(order)]) for order in orders]
    row["share_shuffled"] = share_of(policy, moved, [v[place] for v, place in zip(values, places, strict=True)])
    row |= {"spearman": rises["spearman_of_mean"], "itctr_1": rises["itctr_1"], "itctr_100": rises["itctr_100"]}
    row |= {"ratio": rises["ratio"], "largest_fall": rises["largest_fall_of_mean"]}
    return Measured(row | {"largest_jump": rises["largest_jump"]}, rewards)


def share_of(policy: Links, auctions: Sequence[Episode], values: Sequence[Floats]) -> float | None:
    logs = policy.distributions(auctions)
    return distribution_facts(logs, logs, values, kl_weight=1.0)["share"]


@cache
def untrained() -> Links:
    return Links(AdaptedLLM(embedded_path()))


@cache
def test_judge() -> ClickModel:
    judge = part_world("test", Config(), 1).judge
    assert isinstance(judge, ClickModel)
    return judge


@cache
def test_auctions(n: int, max_ads: int) -> list[Episode]:
    world = part_world("test", Config(max_ads=max_ads), BUDGET["candidates"][0], test_judge())
    world.horizon = 2  # two queries per persona: more personas, narrower intervals
    return episodes(world, n, 7, places=PLACES)


@cache
def true_rewards(n: int, max_ads: int) -> list[Floats]:
    """Expected reward of every list of ads, with candidates in the retriever's order."""
    return [untrained().true_rewards(test_judge(), episode, Objective()) for episode in test_auctions(n, max_ads)]


@cache
def clicks(n: int, max_ads: int) -> list[Floats]:
    return [focal_clicks(test_judge(), untrained(), episode) for episode in test_auctions(n, max_ads)[:CURVES]]


def read(file: Path) -> list[dict[str, Any]]:
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


SHOWN = ("entropy", "tv_tilted", "share_score", "share_shuffled", "spearman", "ratio", "largest_fall", "largest_jump")


def show(rows: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Prints the table."""
    table = Table(box=SIMPLE_HEAD)
    for column in ("variant", "seed", "best epoch", "share %", "reward", "gap", *SHOWN):
        table.add_column(column, justify="left" if column == "variant" else "right")
    for row in rows:
        share, low, high = (100 * float(row[name]) for name in ("share", "low", "high"))
        gap = ""
        if row["gap"] not in (None, ""):
            value, least, most = (float(row[name]) for name in ("gap", "gap_low", "gap_high"))
            gap = f"{value:+.2f} ±{(most - least) / 2:.2f}"
        cells = [f"{float(row[name]):.3g}" for name in SHOWN]
        best = row["best_epoch"]
        reward = f"{float(row['reward']):.2f}"
        shown = (str(row["seed"]), "" if best is None else str(best), f"{share:.1f} [{low:.1f}, {high:.1f}]", reward)
        table.add_row(str(row["variant"]), *shown, gap, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
