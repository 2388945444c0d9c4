"""LLM-Auction's main comparison at link level, on many auctions and without noise from decoding.

python benchmarks/paper_exact.py --training FOLDER ... [--n 150] [--candidates 8 16] [--out benchmarks/results/paper]

Test personas and test ads (`mechanisms/llm_auction/split.py`), uniform bids in 1..100, sentences are the ads' own copy,
click probabilities are those of world v1's click model, and all lists of at most two ads are enumerated. So a policy's
expected reward and the optimum are exact. All mechanisms predict clicks with the first training's pCTR unless the row
states otherwise; the policy of each further training has its own row.

The post-generation rows draw from one generator, the untrained policy on the prompt without bids, so that they differ
from llm_auction only by the mechanism; `paper.py` runs the registered mechanisms, with their own prompts.

The optimum uses two terms of the world that no mechanism sees: an ad's appeal and a persona's tastes. Three rows are
the best list under less information: without these two terms (still more than a platform knows, because it includes the
persona's traits); also without traits and prices; also without an ad's fit to its place in the answer.

choices   number of answers that must be written before one is shown
share     of the optimum's reward, ratio of sums; gap: reward minus llm_auction's, paired. 95% intervals by persona.
"""

from __future__ import annotations

import argparse
import csv
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mechanisms.llm_auction.irpo import Config, rewards
from mechanisms.llm_auction.levels import Links, episodes, sample
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.policy import AdaptedLLM, cell
from mechanisms.llm_auction.reward_model import PCTR, PredictedCTR, load
from mechanisms.llm_auction.slim import offer
from simenv import make_llm, make_mechanism
from simenv.ctr.models import CosineCTR, CTRModel
from simenv.ctr.oracle import OracleCTR
from simenv.encoder import default_encoder
from simenv.judges.click_model import ClickModel
from simenv.llm.weights import embedded_path
from simenv.objective import Objective
from simenv.records import Auction
from simenv.stats import clustered_ratio

TILTS = (1, 3, 10, 30)
"""Tilts of MOSAIC, in currency."""
DRAWS = 10
"""Number of sample sets per auction over which post-generation mechanisms are averaged."""

Floats = npt.NDArray[np.float64]


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--training", type=Path, nargs="+", required=True)
    arguments.add_argument("--n", type=int, default=150)
    arguments.add_argument("--candidates", type=int, nargs="+", default=[8, 16])
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/paper"))
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    trained = {
        f"llm_auction, {folder.name}" if i else "llm_auction": Links(AdaptedLLM(embedded_path(), folder))
        for i, folder in enumerate(options.training)
    }
    untrained = Links(AdaptedLLM(embedded_path()))
    pctr = load(options.training[0], default_encoder())
    for n in options.candidates:
        started = time.perf_counter()
        rows, personas = measure(trained, untrained, pctr, options.n, n)
        report(f"exact_{n}", rows, personas, options.out)
        Console().print(f"{time.perf_counter() - started:.0f} s", style="dim")


def measure(
    trained: Mapping[str, Links], untrained: Links, pctr: PCTR, count: int, candidates: int
) -> tuple[dict[str, list[float]], list[str]]:
    """Row label -> expected reward in every auction, and the auctions' personas."""
    world = part_world("test", Config(), candidates)
    world.horizon = 2  # two queries per persona: more personas, narrower intervals
    assert isinstance(world.judge, ClickModel)
    auctions = episodes(world, count, 7)
    bid_free = [e._replace(offer=offer(e.auction, counts={b.ad.id: 0 for b in e.auction.bids})) for e in auctions]
    policies = {label: policy.distributions(auctions) for label, policy in trained.items()}
    policies["untrained policy"] = untrained.distributions(auctions)
    generators = untrained.distributions(bid_free)
    oracle = OracleCTR(world.judge, world.personas)
    hidden = {"attraction.affinity": 0.0, "attraction.appeal": 0.0}
    traits = hidden | {"attraction.tolerance": 0.0, "attraction.price": 0.0}
    withheld = {
        "optimum but for hidden terms": hidden,
        "... and traits and prices": traits,
        "... and nativeness": traits | {"nativeness.floor": 1.0},
    }
    partial = {label: world.judge.with_params(world.judge.params.changed(n)) for label, n in withheld.items()}
    ranking = {
        "gsp and vcg": PredictedCTR(pctr),
        "gsp and vcg, cosine": CosineCTR(),
        "gsp and vcg, oracle": oracle,
    }
    rows: dict[str, list[float]] = {}

    def add(label: str, reward: float) -> None:
        rows.setdefault(label, []).append(float(reward))

    for i, (episode, generator) in enumerate(zip(auctions, generators, strict=True)):
        n, choices = len(episode.offer.bids), episode.offer.choices()
        truth = untrained.true_rewards(world.judge, episode, Objective())
        predicted = np.full(truth.shape, -np.inf)
        for choice, reward in zip(choices, rewards(untrained, pctr, [(episode, choices)], Objective())[0], strict=True):
            predicted[cell(choice, n)] = reward
        known = np.isfinite(truth)
        for label, logs in policies.items():
            add(label, expected(logs[i].double().exp().numpy(), truth))
        add("uniform over choices", truth[known].mean())
        for samples, tilt in [(5, 0.0), (20, 0.0), (5, 10.0), *((20, float(tilt)) for tilt in TILTS)]:
            name = f"mosaic {samples}, tilt {tilt:g}" if tilt else f"best of {samples}"
            add(name, post_generation(generator, predicted, truth, samples, tilt, episode.auction.id))
        for label, ctr in ranking.items():
            add(label, truth[cell(ranked(episode.auction, ctr), n)])
        add("argmax of pCTR", truth[np.unravel_index(int(np.argmax(predicted)), truth.shape)])
        for label, judge in partial.items():
            visible = untrained.true_rewards(judge, episode, Objective())
            add(label, truth[np.unravel_index(int(np.argmax(visible)), truth.shape)])
        add("optimum", truth[known].max())
    return rows, [episode.persona.id for episode in auctions]


def expected(probs: Floats, truth: Floats) -> float:
    known = np.isfinite(truth)
    return float(probs[known] @ truth[known])


def post_generation(
    generator: Any, predicted: Floats, truth: Floats, samples: int, tilt: float, auction_id: str
) -> float:
    """Mean reward of a choice among samples: softmax of predicted reward / tilt, or the best one if tilt is 0."""
    total, n = 0.0, truth.shape[0] - 1
    for draw in range(DRAWS):
        cells = [cell(one.response, n) for one in sample(generator, samples, auction_id, "post-generation", draw)]
        guess = np.array([predicted[c] for c in cells])
        real = np.array([truth[c] for c in cells])
        weights = np.exp((guess - guess.max()) / tilt) if tilt else (np.arange(samples) == guess.argmax()).astype(float)
        total += float(weights @ real / weights.sum())
    return total / DRAWS


def ranked(auction: Auction, ctr: CTRModel) -> tuple[int, ...]:
    """The two ads with the largest bid x click probability: the allocation of GSP and VCG."""
    mechanism: Any = make_mechanism("gsp", context={"llm": make_llm("scripted"), "ctr_model": ctr})
    place = {bid.ad.id: i for i, bid in enumerate(offer(auction).bids)}
    return tuple(place[ad_id] for ad_id in mechanism.allocate(auction))


def choices_of(label: str) -> int:
    """5 for "best of 5" and for "mosaic 5, tilt 10", otherwise 1."""
    match = re.search(r"(?:best of|mosaic) (\d+)", label)
    return int(match[1]) if match else 1


def report(name: str, rows: dict[str, list[float]], personas: Sequence[str], out: Path) -> None:
    """Prints and writes the table."""
    ours, best = np.array(rows["llm_auction"]), np.array(rows["optimum"])
    table = Table(title=f"{name}: {len(ours)} auctions", title_justify="left", box=SIMPLE_HEAD)
    for column in ("mechanism", "choices", "share %", "reward", "less llm_auction"):
        table.add_column(column, justify="left" if column == "mechanism" else "right")
    with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["mechanism", "choices", "share", "low", "high", "reward", "gap", "gap_low", "gap_high"])
        for label, values in rows.items():
            share = clustered_ratio(list(zip(values, best.tolist(), strict=True)), personas)
            gap = clustered_ratio([(x, 1.0) for x in (np.array(values) - ours).tolist()], personas)
            numbers = [*share, float(np.mean(values)), *gap]
            writer.writerow([label, choices_of(label), *(round(x, 4) for x in numbers)])
            table.add_row(
                label,
                str(choices_of(label)),
                f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]",
                f"{np.mean(values):.2f}",
                f"{gap.value:+.2f} ±{gap.margin:.2f}",
            )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
