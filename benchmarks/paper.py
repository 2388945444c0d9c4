"""LLM-Auction, section 5, on the embedded model: every mechanism on users and ads that were not used in training.

python benchmarks/paper.py --training FOLDER [--n 150] [--full 40] [--out benchmarks/results/paper]

Only test personas and test ads (`mechanisms/llm_auction/split.py`), uniform bids in 1..100, the click model of world
v1. Tables:

links_8, links_16   link level: sentences are the ads' own copy (`link_level.py`), so the best answer with at most two
                    ads is known (menu_optimum), and rewards are shown as a share of it
full_8              all texts written by SmolLM2-135M

--training names the folder of a training of the choice of links: all mechanisms predict clicks with its pCTR ("the same
reward model"), and its best adapter is the policy.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.link_level import LinkLevelLLM
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.reward_model import PredictedCTR, load
from simenv import make_llm, make_mechanism
from simenv.background_loop import run_sync
from simenv.ctr.models import CTRModel
from simenv.ctr.oracle import OracleCTR
from simenv.encoder import default_encoder
from simenv.judges.click_model import ClickModel
from simenv.llm import LLM
from simenv.llm.weights import embedded_path
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.runs.rollout import Finished, rollout
from simenv.runs.summary import Cell, summarize
from simenv.world import World

REFERENCE = "llm_auction"
TILTS = (1, 3, 10, 30)
"""Tilts of MOSAIC, in currency."""
SHOWN = ("reward", "bid_weighted_clicks", "revenue", "welfare", "ads", "llm_calls", "tokens")


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--training", type=Path, required=True)
    arguments.add_argument("--n", type=int, default=150, help="auctions at link level")
    arguments.add_argument("--full", type=int, default=40, help="auctions with written answers")
    arguments.add_argument("--candidates", type=int, nargs="+", default=[8, 16])
    arguments.add_argument("--seed", type=int, default=7)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/paper"))
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    console, base = Console(width=150), make_llm("embedded")
    adapted = AdaptedLLM(embedded_path(), options.training, name="embedded with an adapter")
    ctr = PredictedCTR(load(options.training, default_encoder()))
    for n in options.candidates:
        run("links", n, options.n, False, base, adapted, ctr, options.seed, options.out, console)
    if options.full:
        run("full", options.candidates[0], options.full, True, base, adapted, ctr, options.seed, options.out, console)


def run(
    kind: str,
    candidates: int,
    n: int,
    write: bool,
    base: LLM,
    adapted: AdaptedLLM,
    ctr: CTRModel,
    seed: int,
    out: Path,
    console: Console,
) -> None:
    """One table."""
    world = part_world("test", Config(), candidates)
    world.horizon = 2  # two queries per persona: more personas, narrower intervals
    llms: list[LLM] = [base, adapted]
    if not write:
        llms = [LinkLevelLLM(llm, world.retriever.catalog) for llm in llms]
    started, chunks = time.perf_counter(), list[Finished]()

    async def go() -> None:
        await rollout(world, contenders(world, *llms, ctr, yardstick=not write), n=n, seed=seed, on_chunk=chunks.append)

    run_sync(go)
    rows = [transition for chunk in chunks for transition in chunk.transitions]
    facts = {"ctr_model": ctr.name, "candidates": candidates, "auctions": n, "seed": seed}
    facts |= {"seconds": round(time.perf_counter() - started), "judge_sha256": getattr(world.judge, "sha256", None)}
    save(f"{kind}_{candidates}", rows, facts, out, console)


def contenders(world: World, llm: LLM, adapted: LLM, ctr: CTRModel, *, yardstick: bool) -> dict[str, Mechanism]:
    """Label -> mechanism. All use the same click predictions, except the yardsticks, which use the true ones."""
    shared = {"llm": llm, "ctr_model": ctr, "objective": world.objective}

    def make(name: str, **options: Any) -> Mechanism:
        return make_mechanism(name, context=shared, **options)

    trained: Any = make("llm_auction", adapter="none")
    trained.policy = adapted  # the adapter chooses; the base model writes the texts, as for all mechanisms
    mechanisms: dict[str, Mechanism] = {
        REFERENCE: trained,
        "untrained policy": make("llm_auction", adapter="none"),
        "prompted": make("prompted"),
        "best_of_n 5": make("best_of_n", n=5),
        "mosaic 5, tilt 10": make("mosaic", samples=5, tilt=10.0),
        **{f"mosaic 20, tilt {tilt}": make("mosaic", samples=20, tilt=float(tilt)) for tilt in TILTS},
        "gsp": make("gsp"),
        "vcg": make("vcg"),
        "fixed_slots": make("fixed_slots"),
    }
    if yardstick:
        mechanisms["best_of_n 20"] = make("best_of_n", n=20)
        assert isinstance(world.judge, ClickModel)
        oracle = OracleCTR(world.judge, world.personas)
        optimum = {"ctr_model": oracle, "shortlist": world.retriever.n}
        mechanisms["tilted_optimum 10"] = make("tilted_optimum", kl_weight=10.0, **optimum)
        mechanisms["gsp, oracle"] = make("gsp", ctr_model=oracle)
        mechanisms["menu_optimum"] = make("menu_optimum", **optimum)
    return mechanisms


def save(name: str, rows: list[Transition], facts: Mapping[str, Any], out: Path, console: Console) -> None:
    """Prints and writes one table: means, shares of the optimum, paired differences to llm_auction."""
    table = summarize(rows, REFERENCE)
    cells = {(c.mechanism, c.metric): c for c in table.cells}
    mechanisms = list(dict.fromkeys(c.mechanism for c in table.cells))
    best = cells.get(("menu_optimum", "reward"))
    shown = Table(title=f"{name}: {json.dumps(dict(facts))}", title_justify="left", box=SIMPLE_HEAD)
    for column in ("mechanism", "% of optimum", "reward", "less llm_auction", *SHOWN[1:]):
        shown.add_column(column, justify="left" if column == "mechanism" else "right")
    with (out / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["mechanism", "metric", "mean", "low", "high", "difference", "difference_low", "difference_high"]
        )
        for mechanism in mechanisms:
            for metric in SHOWN:
                if (cell := cells.get((mechanism, metric))) is not None:
                    gap = cell.difference.numbers if cell.difference else (None, None, None)
                    writer.writerow([mechanism, metric, *_round(cell.estimate.numbers), *_round(gap)])
            shown.add_row(mechanism, *_row(cells, mechanism, best))
    (out / f"{name}.json").write_text(json.dumps(dict(facts), indent=1) + "\n", encoding="utf-8")
    console.print(shown)


def _row(cells: Mapping[tuple[str, str], Cell], mechanism: str, best: Cell | None) -> list[str]:
    reward = cells[mechanism, "reward"]
    share = f"{100 * reward.estimate.value / best.estimate.value:.1f}" if best else ""
    gap = f"{reward.difference.value:+.2f} ±{reward.difference.margin:.2f}" if reward.difference else ""
    rest = [cells.get((mechanism, metric)) for metric in SHOWN[1:]]
    return [
        share,
        f"{reward.estimate.value:.2f} ±{reward.estimate.margin:.2f}",
        gap,
        *("" if cell is None else f"{cell.estimate.value:.2f}" for cell in rest),
    ]


def _round(numbers: Sequence[float | None]) -> list[float | None]:
    return [None if x is None else round(float(x), 4) for x in numbers]


if __name__ == "__main__":
    main()
