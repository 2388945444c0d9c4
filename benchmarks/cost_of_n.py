"""Calls and tokens of the embedded model per answer, as the number of candidate ads grows.

python benchmarks/cost_of_n.py [--auctions 2] [--candidates 4 8 16] [--out benchmarks/results/cost_of_n.json]

Every mechanism answers the same queries with the same relevance. A completion that several mechanisms request counts
for each of them. Growth is a line through the means, a + b n: "constant" if it rises by less than 20% from the smallest
to the largest number of candidates, otherwise "linear", with both coefficients.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from simenv import make_llm, make_mechanism
from simenv.background_loop import run_sync
from simenv.market.bidders import ShadedBidder
from simenv.mechanism import mechanism_names, run_mechanism
from simenv.records import Auction
from simenv.world_factory import make_world

OUT = Path(__file__).parent / "results" / "cost_of_n.json"
COUNTS = ("calls", "prompt_tokens", "completion_tokens")
_FLAT = 0.2


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--auctions", type=int, default=2)
    arguments.add_argument("--candidates", type=int, nargs="+", default=[4, 8, 16])
    arguments.add_argument("--llm", default="embedded")
    arguments.add_argument("--out", type=Path, default=OUT)
    options = arguments.parse_args()
    llm = make_llm(options.llm)
    mechanisms = {name: make_mechanism(name, context={"llm": llm}) for name in mechanism_names()}
    means: dict[str, dict[str, list[float]]] = {name: {count: [] for count in COUNTS} for name in mechanisms}
    for n in options.candidates:
        drawn = auctions(options.auctions, n)
        for name, mechanism in mechanisms.items():
            usages = [run_sync(run_mechanism, mechanism, auction).usage for auction in drawn]
            for count in COUNTS:
                means[name][count].append(float(np.mean([getattr(usage, count) for usage in usages])))
            print(f"{n:3} candidates  {name:20}", *(f"{means[name][c][-1]:9.1f} {c}" for c in COUNTS), flush=True)
    report = {
        "llm": llm.name,
        "auctions": options.auctions,
        "candidates": options.candidates,
        "mechanisms": {
            name: {
                "calls": counts["calls"],
                "prompt_tokens": counts["prompt_tokens"],
                "completion_tokens": counts["completion_tokens"],
                "growth_calls": growth(options.candidates, counts["calls"]),
                "growth_tokens": growth(
                    options.candidates, np.add(counts["prompt_tokens"], counts["completion_tokens"])
                ),
            }
            for name, counts in means.items()
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def auctions(number: int, candidates: int) -> list[Auction]:
    """The first turn of each of `number` sessions; every advertiser bids its value."""
    world = make_world(candidates=candidates, horizon=1, bidder=ShadedBidder())
    return [world.auction(run_sync(world.session, 0, i), 0) for i in range(number)]


def growth(candidates: Sequence[int], means: Iterable[float]) -> dict[str, float | str]:
    """Fits a line through the means: {"kind", "intercept", "slope"}."""
    slope, intercept = np.polyfit(np.array(candidates, dtype=np.float64), np.array(list(means)), 1).tolist()
    low, high = (intercept + slope * n for n in (min(candidates), max(candidates)))
    kind = "constant" if abs(high - low) <= _FLAT * max(abs(low), 1e-9) else "linear"
    return {"kind": kind, "intercept": round(intercept, 2), "slope": round(slope, 3)}


if __name__ == "__main__":
    main()
