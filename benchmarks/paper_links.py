"""Exact results for LLM-Auction's policy at link level: figures 4a and 4b, and the source of its relevance.

python benchmarks/paper_links.py --training FOLDER [--n 60] [--out benchmarks/results/paper]

Test personas and test ads, without sampling: one forward pass gives the policy's distribution over all choices, and the
click model gives every click probability. The prompt shows a bid as a randomly rounded number of repetitions; curves
over the bid of one ad are exact means over that ad's rounding draw.

curves.csv, figure_4a.png   mean ITCTR of one ad (the second most relevant) at every integer bid, per epoch
figure_4b.png               the same on three single auctions, last epoch kept
monotone.csv                Spearman, ITCTR(100) / ITCTR(1), largest fall and largest jump, per epoch
ablation.csv                reward as a share of the optimum with the list shuffled, or without the retriever's score
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.stats import spearmanr

from benchmarks.bench_rows import write_rows
from mechanisms.llm_auction.irpo import Config, distribution_facts
from mechanisms.llm_auction.levels import Episode, Links, episodes
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.policy import AdaptedLLM, cell
from mechanisms.llm_auction.slim import REPEATS, offer
from simenv.judges.click_model import ClickModel
from simenv.llm.weights import embedded_path
from simenv.objective import Objective
from simenv.records import Auction
from simenv.seeding import keyed_rng

BIDS = np.arange(1, 101)
FOCAL = 1
"""Index of the ad whose bid varies: the second most relevant, which neither always wins nor always loses."""

Floats = npt.NDArray[np.float64]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--training", type=Path, required=True, help="folder of a training of the choice of links")
    arguments.add_argument("--n", type=int, default=60)
    arguments.add_argument("--candidates", type=int, default=8)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/paper"))
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    world = part_world("test", Config(), options.candidates)
    world.horizon = 2
    assert isinstance(world.judge, ClickModel)
    auctions = episodes(world, options.n, 7)
    kept = sorted((options.training / "epochs").glob("*"), key=lambda folder: int(folder.name))
    adapters = {"untrained": None} | {f"epoch {folder.name}": folder for folder in kept if folder.name != "0"}
    adapters["kept"] = options.training
    policies = ((label, Links(AdaptedLLM(embedded_path(), folder))) for label, folder in adapters.items())
    clicks: list[Floats] = []
    curves, ablations = {}, []
    for label, policy in policies:
        clicks = clicks or [focal_clicks(world.judge, policy, episode) for episode in auctions]
        curves[label] = np.array([curve(policy, e, of) for e, of in zip(auctions, clicks, strict=True)])
        if label in ("untrained", "kept"):
            ablations += ablation(label, policy, auctions, world.judge)
    write_rows([monotone(label, rows) for label, rows in curves.items()], options.out / "monotone.csv")
    write_rows(ablations, options.out / "ablation.csv")
    write_rows(
        [
            {"policy": k, "bid": int(b), "itctr": round(x, 5)}
            for k, rows in curves.items()
            for b, x in zip(BIDS, rows.mean(0), strict=True)
        ],
        options.out / "curves.csv",
    )
    plot(options.out / "figure_4a.png", {label: rows.mean(0) for label, rows in curves.items() if label != "kept"})
    plot(options.out / "figure_4b.png", {f"auction {i + 1}": curves["kept"][i] for i in range(3)})


def focal_clicks(judge: ClickModel, level: Links, episode: Episode) -> Floats:
    """Click probability of the focal ad in every choice, in the layout of the policy's distribution; 0 if not shown."""
    n, ad = len(episode.offer.bids), episode.offer.bids[FOCAL].ad.id
    table = np.zeros((n + 1, n + 1))
    for choice in episode.offer.choices():
        if FOCAL in choice:
            probs = judge.probabilities(episode.persona, episode.auction, level.outcome(episode, choice))
            table[cell(choice, n)] = probs[ad]
    return table


def curve(policy: Links, episode: Episode, clicks: Floats, **form: Any) -> Floats:
    """ITCTR of the focal ad at every bid (LLM-Auction, eq. 1): shape (100,). `form`: further options of `offer`."""
    ad = episode.offer.bids[FOCAL].ad.id
    shown = [episode._replace(offer=offer(episode.auction, counts={ad: n}, **form)) for n in range(REPEATS + 1)]
    at_count = [float((logs.double().exp().numpy() * clicks).sum()) for logs in policy.distributions(shown)]
    return np.interp(REPEATS * BIDS / 100, np.arange(REPEATS + 1), at_count)  # the mean over the rounding draw


def monotone(label: str, rows: Floats) -> dict[str, Any]:
    """Monotonicity statistics of one policy's curves."""
    mean = rows.mean(0)
    return {
        "policy": label,
        "spearman_of_mean": round(float(spearmanr(BIDS, mean).statistic), 4),
        "mean_spearman": round(float(np.mean([spearmanr(BIDS, row).statistic for row in rows])), 4),
        "itctr_1": round(float(mean[0]), 4),
        "itctr_100": round(float(mean[-1]), 4),
        "ratio": round(float(mean[-1] / mean[0]), 2),
        "largest_fall_of_mean": round(float(max(0.0, -np.diff(mean).min())), 5),
        "largest_jump": round(float(np.abs(np.diff(rows, axis=1)).max()), 4),
    }


def ablation(label: str, policy: Links, auctions: Sequence[Episode], judge: ClickModel) -> list[dict[str, Any]]:
    """Results with the list in another order, and without the retriever's score."""
    ways: dict[str, Callable[[Auction], Any]] = {
        "as trained": offer,
        "list shuffled": lambda auction: offer(auction, order=shuffled(auction)),
        "no score": lambda auction: offer(auction, show_score=False),
        "list shuffled, no score": lambda auction: offer(auction, order=shuffled(auction), show_score=False),
    }
    rows = []
    for way, make in ways.items():
        offered = [episode._replace(offer=make(episode.auction)) for episode in auctions]
        logs = policy.distributions(offered)
        values = [policy.true_rewards(judge, episode, Objective()) for episode in offered]
        facts = distribution_facts(logs, logs, values, kl_weight=10.0)
        numbers = {name: round(facts[name] or 0.0, 4) for name in ("reward", "share", "entropy")}
        rows.append({"policy": label, "prompt": way} | numbers)
        Console().print(rows[-1])
    return rows


def shuffled(auction: Auction) -> list[int]:
    return [int(i) for i in keyed_rng("shuffled list", auction.id).permutation(len(auction.bids))]


def plot(path: Path, lines: dict[str, Iterable[float]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for label, values in lines.items():
        axes.plot(BIDS, list(values), label=label)
    axes.set_xlabel("bid, currency per click")
    axes.set_ylabel("ITCTR")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
