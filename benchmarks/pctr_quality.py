"""Quality of the pCTR model of LLM-Auction on personas and ads that it has not seen, by number of training clicks.

python -m benchmarks.pctr_quality [--clicks 1000 4000 16000] [--test 600] [--part test] [--out FILE.csv]

Answers with ads are made cheaply: a plain answer to the query, written once by the model, and for each ad a sentence
of its own copy after one of a few leads, at any sentence boundary. Ads, their number (1 to 3), places and wordings are
drawn at random. Training personas and ads (`mechanisms/llm_auction/split.py`) give the clicks that the model is fitted
to; the personas and ads of a held-out part give all figures. Clicks are those of world v1.

auc, log_loss, calibration_error   of predictions on single answers to test auctions; the calibration error is the mean
                                   difference of predicted and observed click rate over ten equal-sized bins
share       each test auction has 16 such answers, one of them without ads. R of the answer with the highest predicted
            R, divided by R of the best one, both with the true click probabilities: a ratio of sums, 95% interval by
            persona
alone_auc   of `PredictedCTR.relevance`, which sees no answer, on answers with one ad

Yardsticks choose by the true probabilities without the terms that no platform can know.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from sklearn.metrics import log_loss, roc_auc_score

from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.levels import Episode, episodes, judge_clicks
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.reward_model import PCTR, PredictedCTR, fit, pctr_examples
from mechanisms.llm_auction.split import Part
from simenv import Writer, make_llm, markup
from simenv.background_loop import gather, run_sync
from simenv.ctr.learned import calibration_error
from simenv.encoder import default_encoder
from simenv.judges.click_model import ClickModel
from simenv.llm import LLM
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.objective import Objective
from simenv.records import Ad, Outcome
from simenv.seeding import keyed_rng
from simenv.stats import clustered_ratio
from simenv.text import sentences, sentences_with_space

Floats = npt.NDArray[np.float64]
Shown = tuple[Episode, Outcome]

CHOICES = 16
"""Answers of a test auction."""
CANDIDATES = (8, 16)
QUERIES = 3
"""Queries of each persona."""
LEADS = (
    "One option worth a look is {link}: {copy}",
    "You could also consider {link}: {copy}",
    "{link} may help here. {copy}",
    "{copy} That is {link}.",
    "For this, {link} is worth knowing about: {copy}",
    "Some people use {link} for exactly this: {copy}",
    "Do not miss {link}, get it today! {copy}",
    "BEST DEAL: {link}! {copy}",
)
"""The last two press to buy, so that the log shows what this costs."""
HIDDEN = {"attraction.affinity": 0.0, "attraction.appeal": 0.0}
TRAITS = HIDDEN | {"attraction.tolerance": 0.0, "attraction.price": 0.0}
YARDSTICKS = {"no hidden terms": HIDDEN, "no hidden terms, traits and prices": TRAITS}


class Quality(NamedTuple):
    """One row of the table."""

    model: str
    clicks: int
    auc: float
    log_loss: float
    calibration_error: float
    alone_auc: float
    share: float
    low: float
    high: float
    seconds: float


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--clicks", type=int, nargs="+", default=[1000, 4000, 16000], help="judged ads in the log")
    arguments.add_argument("--test", type=int, default=600, help="test auctions")
    arguments.add_argument("--part", default="test", choices=["validation", "test"], help="held-out part")
    arguments.add_argument("--seeds", type=int, default=1, help="fits of each number of clicks")
    arguments.add_argument("--llm", default="embedded", help="writes the plain answers: embedded or scripted")
    arguments.add_argument("--cassette", type=Path, help="file that keeps the plain answers for the next time")
    arguments.add_argument("--label", default="pctr", help="name of the model in the table")
    arguments.add_argument("--out", type=Path, help="table to which rows are added")
    options = arguments.parse_args()
    llm = make_llm(options.llm)
    if options.cassette is not None:
        llm = CassetteLLM(Cassette(options.cassette, "cache"), llm)
    train = answers(llm, "train", max(options.clicks))
    log = [row for shown, clicks in zip(train, clicked(train), strict=True) for row in examples(shown, clicks)]
    test = [one for seed in (0, 1) for one in choices(llm, options.part, options.test // 2, seed)]
    rows = yardsticks(test)
    for count in options.clicks:
        for seed in range(options.seeds):
            started = time.perf_counter()
            model = fit(log[:count], default_encoder(), seed)
            rows.append(quality(model, options.label, count, test, time.perf_counter() - started))
    show(rows)
    if options.out is not None:
        write(rows, options.out)


def drawn(llm: LLM, part: Part, count: int, seed: int) -> list[tuple[Episode, str]]:
    """Auctions of a part, half with 8 and half with 16 candidates, and the plain answer to each."""
    found: list[Episode] = []
    for i, candidates in enumerate(CANDIDATES):
        world = part_world(part, Config(), candidates)
        world.horizon = QUERIES
        found += episodes(world, count // len(CANDIDATES), 10 * seed + i)
    first = {episode.auction.query.text: episode.auction for episode in found}
    writer = Writer(llm)

    async def write() -> list[str]:
        return await gather(
            # Keyed by the query, so that every auction with this query gets the same answer.
            writer.answer(auction.model_copy(update={"id": f"plain answer, {text}"}))
            for text, auction in first.items()
        )

    plain = dict(zip(first, run_sync(write), strict=True))
    return [(episode, plain[episode.auction.query.text]) for episode in found]


def answers(llm: LLM, part: Part, ads: int) -> list[Shown]:
    """Answers that show `ads` ads in all, each in its own auction."""
    made: list[Shown] = []
    total = 0
    for seed in range(1, 100):
        found = drawn(llm, part, 1000, seed)
        order = keyed_rng("pctr quality order", seed).permutation(len(found))
        for place in order:
            if total >= ads:
                return made
            episode, plain = found[place]
            made.append((episode, answer(episode, plain, "log", 1)))
            total += len(made[-1][1].placements)
    raise ValueError(f"{ads} ads are more than the packs give")


def choices(llm: LLM, part: Part, count: int, seed: int) -> list[list[Shown]]:
    """The possible answers to each test auction."""
    return [
        [(episode, answer(episode, plain, f"choice {i}", int(i > 0))) for i in range(CHOICES)]
        for episode, plain in drawn(llm, part, count, seed)
    ]


def answer(episode: Episode, plain: str, key: str, ads: int) -> Outcome:
    """The plain answer with ads at random places, in random words: at least one if `ads` is 1, none if it is 0."""
    auction = episode.auction
    rng = keyed_rng("pctr quality", auction.id, key)
    count = ads * min(int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15])), len(auction.bids))
    weights = 1 / (2 + np.arange(len(auction.bids)))  # the retriever's order: more of the relevant ones
    picked = rng.choice(len(auction.bids), size=count, replace=False, p=weights / weights.sum())
    pieces = [piece.strip() for piece in sentences_with_space(plain) if piece.strip()]
    for i in picked:
        pieces.insert(int(rng.integers(len(pieces) + 1)), worded(auction.bids[i].ad, rng))
    return markup.outcome(auction, " ".join(pieces), {bid.ad.id: bid.amount for bid in auction.bids})


def worded(ad: Ad, rng: np.random.Generator) -> str:
    """A lead with the ad's link, and one or two sentences of its copy."""
    copy = sentences(ad.body) or [f"From {ad.advertiser}."]
    first = int(rng.integers(len(copy)))
    lead = LEADS[int(rng.integers(len(LEADS)))]
    return lead.format(link=ad.link, copy=copy[first])


def clicked(shown: Sequence[Shown]) -> list[dict[str, bool | None]]:
    """The judge's clicks on each answer."""
    world = part_world("train", Config(), CANDIDATES[0])
    return [{click.ad_id: click.clicked for click in clicks} for clicks in judge_clicks(world.judge, shown)]


def examples(shown: Shown, clicks: dict[str, bool | None] | None = None) -> list[Any]:
    """The pCTR examples of one answer."""
    episode, outcome = shown
    return pctr_examples(episode.auction, outcome.response, [p.ad_id for p in outcome.placements], clicks)


def rewards(shown: Sequence[Shown], probs: Sequence[Sequence[float]]) -> list[float]:
    """R of each answer, given the click probabilities of its ads."""
    objective = Objective()
    return [
        objective.reward(
            episode.auction,
            dict(zip([p.ad_id for p in outcome.placements], p, strict=True)),
            outcome.violations,
        )
        for (episode, outcome), p in zip(shown, probs, strict=True)
    ]


def true_probs(judge: ClickModel, shown: Sequence[Shown]) -> list[list[float]]:
    """The judge's click probabilities of each answer's ads."""
    return [list(judge.probabilities(e.persona, e.auction, outcome).values()) for e, outcome in shown]


def split(values: Sequence[float], shown: Sequence[Shown]) -> list[list[float]]:
    """Values of all ads in a row, by answer."""
    rest = iter(values)
    return [[next(rest) for _ in outcome.placements] for _, outcome in shown]


def share(
    test: Sequence[Sequence[Shown]], truth: Sequence[list[float]], predicted: Sequence[list[float]]
) -> tuple[float, float, float]:
    """Share of the best answers' R that the choices by `predicted` R get, with its interval."""
    chosen = [true[int(np.argmax(guess))] for true, guess in zip(truth, predicted, strict=True)]
    best = [max(true) for true in truth]
    return clustered_ratio(list(zip(chosen, best, strict=True)), [one[0][0].persona.id for one in test]).numbers


def yardsticks(test: Sequence[Sequence[Shown]]) -> list[Quality]:
    """Choices by what is known of the true probabilities, and at random."""
    judge = part_world("test", Config(), CANDIDATES[0]).judge
    assert isinstance(judge, ClickModel)
    truth = [rewards(one, true_probs(judge, one)) for one in test]
    rows = []
    by_chance = [list(keyed_rng("by chance", i).random(len(one))) for i, one in enumerate(test)]
    guesses: dict[str, list[list[float]]] = {"random answer": by_chance}
    for name, changes in YARDSTICKS.items():
        partial = judge.with_params(judge.params.changed(changes))
        guesses[name] = [rewards(one, true_probs(partial, one)) for one in test]
    for name, guess in guesses.items():
        nan = float("nan")
        rows.append(Quality(name, 0, nan, nan, nan, nan, *share(test, truth, guess), 0.0))
    return rows


def quality(model: PCTR, label: str, count: int, test: Sequence[Sequence[Shown]], seconds: float) -> Quality:
    """Measures one model."""
    judge = part_world("test", Config(), CANDIDATES[0]).judge
    assert isinstance(judge, ClickModel)
    truth = [rewards(one, true_probs(judge, one)) for one in test]
    flat = [shown for one in test for shown in one]
    probs = model.predict([row for shown in flat for row in examples(shown)]).tolist()
    by_answer = iter(split(probs, flat))
    guess = [rewards(one, [next(by_answer) for _ in one]) for one in test]
    verdicts = judge_clicks(judge, flat)
    known = np.array([bool(click.clicked) for clicks in verdicts for click in clicks], dtype=np.float64)
    single = [(shown, clicks[0]) for shown, clicks in zip(flat, verdicts, strict=True) if len(clicks) == 1]
    ctr = PredictedCTR(model)
    relevance = {
        (one[0][0].auction.id, bid.ad.id): float(prob)
        for one in test
        for bid, prob in zip(one[0][0].auction.bids, ctr.relevance(one[0][0].auction), strict=True)
    }
    alone = [relevance[episode.auction.id, click.ad_id] for (episode, _), click in single]
    return Quality(
        label,
        count,
        float(roc_auc_score(known, probs)),
        float(log_loss(known, probs)),
        calibration_error(known, np.array(probs)),
        float(roc_auc_score([bool(click.clicked) for _, click in single], alone)),
        *share(test, truth, guess),
        seconds,
    )


def show(rows: Sequence[Quality]) -> None:
    """Prints the table."""
    table = Table(*Quality._fields, box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(*[f"{value:.3f}" if isinstance(value, float) else str(value) for value in row])
    Console(width=150).print(table)


def write(rows: Sequence[Quality], file: Path) -> None:
    """Adds the rows to a table."""
    new = not file.exists()
    with file.open("a", encoding="utf-8", newline="") as table:
        writer = csv.writer(table, lineterminator="\n")
        if new:
            writer.writerow(Quality._fields)
        writer.writerows([[f"{v:.4f}" if isinstance(v, float) else v for v in row] for row in rows])


if __name__ == "__main__":
    main()
