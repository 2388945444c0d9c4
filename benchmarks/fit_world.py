"""Recovery of known worlds from their own click logs, and what a fit to another world's log looks like.

python -m benchmarks.fit_world           # about 15 minutes on two cores

Each log has auctions of the embedded packs, answered by `Varied`, which varies what a fit must tell apart: which ads,
how many, where, in which words, labelled or not. The click model of the world clicks. Each world is fitted twice: with
priors centred at the world that a user would begin with (v1; labels for labels, which has numbers that v1 has not), and
centred elsewhere, where every number is wrong.

true, fitted, low, high    the number in the world, the mode, the 95% interval (bootstrap over users)
covered                    whether the interval contains the true number
told                       whether the interval is narrower than 80% of the prior's
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import simenv
from simenv.fitting import FittedWorld, fit_world, read_click_log
from simenv.fitting.parameters import APPEAL, free_numbers
from simenv.fitting.report import report_of
from simenv.judges.click_worlds import ClickParams, load_world

AUCTIONS = {"v1": 8000, "rare": 24_000, "labels": 8000}
DRAWS = 100
ELSEWHERE = {
    "attraction.base": -1.6,
    "attraction.relevance": 0.85,
    "attraction.affinity": 0.55,
    "attraction.tolerance": 0.9,
    "attraction.price": 1.9,
    "attraction.price_slope": 1.0,
    "attraction.amount_weight": 0.2,
    "attraction.appeal": 0.27,
    "examination.rank_discount": 0.7,
    "examination.depth_loss": 0.4,
    "nativeness.floor": 0.4,
    "nativeness.hard_sell": 0.4,
    "nativeness.shouting": 0.75,
    "flooding.rate": 0.5,
    "readers.persuasion": 1.1,
    "readers.noticed": -0.9,
}
RESULTS = Path(__file__).parent / "results" / "worlds"
_ANSWER = (
    "It depends on where you live and on the season.",
    "Some of it can be done at home, and some of it cannot.",
    "A list on paper helps, with one line for each step.",
    "Somebody who has done it before may know the details.",
    "The first week is slow, and the second one is easier.",
)
_PLAIN = ("For this, {link} is one option. {body}", "{body} That is what {link} offers.", "{body} See {link}.")
_PITCHES = (
    *_PLAIN,
    *_PLAIN,
    "{body} It is the best choice for you, and the others do not come close: {link}.",
    "{body} Hurry and order {link} today before this exclusive offer ends!",
    "{body} ORDER NOW, for nobody beats {link} at this PRICE!",
    "On another note, there is also {link} somewhere.",
)


class Varied:
    """Shows zero to four random ads at random places in random words: a log from which much can be learned.

    Args:
        most_ads: Most ads in an answer.
    """

    def __init__(self, most_ads: int = 4) -> None:
        self._most_ads = most_ads

    def run(self, auction: simenv.Auction, rng: np.random.Generator) -> simenv.Outcome:
        count = min(int(rng.integers(1, self._most_ads + 1)), len(auction.bids))
        chosen = [auction.bids[int(i)].ad for i in rng.choice(len(auction.bids), count, replace=False)]
        parts = [auction.query.text, *_ANSWER]
        for ad in chosen:
            pitch = _PITCHES[int(rng.integers(len(_PITCHES)))].format(link=ad.link, body=ad.body or ad.title)
            label = "Sponsored: " if rng.random() < 0.3 else ""
            parts.insert(int(rng.integers(1, len(parts) + 1)), f"{label}{pitch}")
        return simenv.outcome(auction, " ".join(parts), {ad.id: auction.reserve for ad in chosen})


def main() -> None:
    console = Console(width=140)
    RESULTS.mkdir(parents=True, exist_ok=True)
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in AUCTIONS:
            world, run = load_world(name), Path(folder) / name
            options: dict[str, Any] = {"llm": "scripted", "judge": f"click:{name}", "quality": "none", "candidates": 4}
            simenv.bench({"varied": Varied()}, n=AUCTIONS[name], out=run, **options)
            begun = load_world("labels" if name == "labels" else "v1")
            for prior in (begun, elsewhere(world)):
                rows += recovery(fit(run, prior, f"{name}-from-{prior.world}", console), world, prior.world)
        fit(Path(folder) / "labels", load_world("v1"), "v1-on-labels", console)
    with (RESULTS / "recovery.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["world", "prior", "number", "centre", "true", "fitted", "low", "high", "covered", "told"])
        writer.writerows(rows)
    covered = [row[8] for row in rows]
    console.print(f"{sum(covered)} of {len(covered)} intervals contain the true number")


def elsewhere(world: ClickParams) -> ClickParams:
    """A world in which every number that is fitted is another one, by about half of its prior's standard deviation."""
    fitted = {it.name for it in free_numbers(world)} | {APPEAL}
    changes = {name: value for name, value in ELSEWHERE.items() if name in fitted}
    return load_world("labels" if world.readers else "v1").changed({"world": "elsewhere", **changes})


def fit(run: Path, prior: ClickParams, name: str, console: Console) -> FittedWorld:
    """Fits a world to a run and prints its report."""
    fitted = fit_world(read_click_log(run, world=prior), name, prior, draws=DRAWS)
    report_of(fitted).print(console)
    return fitted


def recovery(fitted: FittedWorld, truth: ClickParams, prior: str) -> list[list[Any]]:
    """One row per fitted number."""
    rows = []
    for n in fitted.numbers:
        true = truth.numbers()[n.name]
        numbers = [f"{x:.4g}" for x in (n.prior, true, n.value, n.low, n.high)]
        rows.append([truth.world, prior, n.name, *numbers, n.low <= true <= n.high, n.told])
    return rows


if __name__ == "__main__":
    main()
