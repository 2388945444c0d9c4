"""LLM-Auction in the written format against its rivals, on held-out personas and ads.

python -m benchmarks.whole_answers sample --training FOLDER --out answers.jsonl    # minutes on a GPU, an hour on a CPU
python -m benchmarks.whole_answers plain --training FOLDER --out plain.jsonl       # answers of the plain writer
python -m benchmarks.whole_answers score --training FOLDER --answers answers.jsonl plain.jsonl --out FOLDER

All rivals have the same base model and the same pCTR and, where their row says so, the same fine-tuned writer. The
digits in all prompts are that pCTR's predictions; in prompts with bids, those of the training's score.
Best of n and MOSAIC draw from the fine-tuned policy, which does not see bids: the first n of its answers. Clicks are
those of world v1; bids are uniform in 1 to 100. Each row is measured on the same auctions. `--rows` samples some rows
alone, so that two processes with one thread each may share the work; `score` reads all files together.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from mechanisms.best_of_n import BestOfN
from mechanisms.fixed_slots import FixedSlots
from mechanisms.gsp import GSP
from mechanisms.llm_auction import lora, reward_model, sampling
from mechanisms.llm_auction.adapter_files import read_adapter
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.levels import Episode, episodes
from mechanisms.llm_auction.mechanism import LLMAuction
from mechanisms.llm_auction.models import new_policy
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.reward_model import PredictedCTR
from mechanisms.llm_auction.slim import PREDICTED, Score, digits
from mechanisms.llm_auction.written import SAMPLING, Page, Written, ads_at_end, page, read, winners_page
from mechanisms.menu import read as read_item
from mechanisms.mosaic import Mosaic
from mechanisms.vcg import VCG
from simenv import Writer, markup, outcome
from simenv.encoder import default_encoder
from simenv.judges.click_model import ClickModel
from simenv.links import masked_links
from simenv.llm import LLM, ScriptedLLM, make_llm
from simenv.objective import Objective
from simenv.records import Ad, Auction, Outcome
from simenv.seeding import keyed_rng
from simenv.stats import Estimate, clustered_ratio
from simenv.text import sentence_around
from simenv.users.queries import FileQueries

POOL = 20
"""Answers of the fine-tuned policy without bids for each auction, for best of n and MOSAIC."""
BEST, SEARCHED = 64, 4
"""Answers among which the judge's clicks find the best one, for so many auctions of each cell."""
BIDS = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
UNCOMMERCIAL = 50
"""Auctions of questions without commercial intent."""
SWEPT = 24
"""Auctions of the sweep over bids."""
PER_BID = 4
"""Answers at each bid."""
ROWS = ("policies", "quiet", "sweep", "winners", "pool", "more")
"""What is sampled: an answer of each epoch, the same for questions without commercial intent, answers at each bid,
answers with GSP's winners by the fine-tuned and by the best policy, answers without bids."""


class Cell(NamedTuple):
    """Auctions with the same number of candidates and the same seed; seed -1: questions without commercial intent."""

    n: int
    seed: int

    def episodes(self, config: Config, count: int) -> list[Episode]:
        """The first `count` auctions of the test part."""
        queries = FileQueries("no_commercial_intent") if self.seed < 0 else None
        world = part_world("test", config, self.n, queries=queries)
        return episodes(world, count, 90_000 + abs(self.seed))


QUIET = Cell(8, -1)
"""Questions without commercial intent."""
SWEEP = Cell(8, 0)
"""Where bids are swept."""


class Replayed(Writer):
    """Writes the text that was sampled before."""

    def __init__(self, text: str) -> None:
        super().__init__(ScriptedLLM())
        self._text = text

    async def with_ads(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> str:
        return self._text

    async def answer(self, auction: Auction) -> str:
        return self._text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sample", "plain", "score"])
    parser.add_argument("--training", type=Path, required=True, help="folder of a training in the written format")
    parser.add_argument("--answers", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--auctions", type=int, default=40, help="for each n and seed")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="sample: what is sampled")
    parser.add_argument(
        "--epochs",
        type=int,
        nargs="*",
        help="sample: the epochs whose policies answer; by default all, the base model, "
        "and the best epoch with the profile hidden",
    )
    parser.add_argument("--score", choices=PREDICTED, help="sample: another score than the training's, for policies")
    given = parser.parse_args()
    cells = [Cell(n, seed) for n in given.n for seed in given.seeds]
    {"sample": sample, "plain": plain, "score": score}[given.what](given, cells)


def sample(given: argparse.Namespace, cells: Sequence[Cell]) -> None:
    """Samples the answers of all policies."""
    config = config_of(given.training)
    policy = new_policy(config)
    epochs = epochs_of(given.training)
    pctr = pctr_of(given.training)
    gsp = GSP(ScriptedLLM(), pctr)

    def asked(auction: Auction, *, show_bids: bool = True, profile: bool = config.profile) -> Page:
        score: Score = (given.score or score_of(config)) if show_bids else "pctr"
        shown = digits(auction, score, pctr)
        return page(auction, show_bids=show_bids, shown=shown, profile=profile)

    with given.out.open("w", encoding="utf-8") as file:

        def write(rows: Sequence[tuple[Cell, int, str, Page]], count: int = 1, *, required: bool = False) -> None:
            """Each row: where it belongs, the kind of its texts, and what is asked."""
            name = f"{rows[0][2]} of {len(rows)}"
            step = len(rows) if policy.device != "cpu" else 8  # on a CPU each answer is written when it is done
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                named = [(f"{cell} {i} {kind}", one) for cell, i, kind, one in part]
                texts = sampling.sample(policy, named, count, SAMPLING, name, required=required)
                for (cell, i, kind, _), some in zip(part, texts, strict=True):
                    row = {"n": cell.n, "seed": cell.seed, "i": i, "kind": kind, "texts": some}
                    file.write(json.dumps(row) + "\n")
                file.flush()
            print(name, flush=True)

        drawn = [(cell, i, e.auction) for cell in cells for i, e in enumerate(cell.episodes(config, given.auctions))]
        plain = [(QUIET, i, e.auction) for i, e in enumerate(QUIET.episodes(config, UNCOMMERCIAL))]
        some = [*(drawn if "policies" in given.rows else []), *(plain if "quiet" in given.rows else [])]
        pages = [asked(auction) for *_, auction in some]
        chosen = [epochs[i] for i in given.epochs] if given.epochs else [None, *epochs[1:]]
        for folder in chosen if some else []:
            load(policy, folder)
            kind = "base" if folder is None else f"epoch {folder.name}"
            kind += f", list by {given.score}" if given.score else ""
            write([(cell, i, kind, one) for (cell, i, _), one in zip(some, pages, strict=True)])
        if "policies" in given.rows and not given.epochs:
            load(policy, given.training)
            hidden = [(cell, i, asked(auction, profile=False)) for cell, i, auction in drawn]
            write([(cell, i, "profile hidden", one) for cell, i, one in hidden])
        if "sweep" in given.rows:
            load(policy, given.training)
            swept = [(i, e.auction) for i, e in enumerate(SWEEP.episodes(config, SWEPT))]
            for bid in BIDS:
                write([(SWEEP, i, f"bid {bid}", asked(rebid(one, bid))) for i, one in swept], PER_BID)
        if "winners" in given.rows:
            winners = [[auction.bid_of(i).ad for i in gsp.allocate(auction)] for *_, auction in drawn]
            placed = [
                winners_page(one[2], ads, profile=config.profile) for one, ads in zip(drawn, winners, strict=True)
            ]
            for kind, folder in (("winners", epochs[1]), ("winners, trained", given.training)):
                load(policy, folder)
                write([(cell, i, kind, one) for (cell, i, _), one in zip(drawn, placed, strict=True)], required=True)
        load(policy, epochs[1])
        free = [(cell, i, asked(auction, show_bids=False)) for cell, i, auction in drawn]
        if "pool" in given.rows:
            write([(cell, i, "pool", one) for cell, i, one in free], POOL)
        if "more" in given.rows:
            write([(cell, i, "more", one) for cell, i, one in free if i < SEARCHED], BEST - POOL)


def epochs_of(training: Path) -> list[Path]:
    """The adapters of all epochs: untrained, fine-tuned, and each epoch of IRPO."""
    return sorted((training / "epochs").iterdir(), key=lambda folder: int(folder.name))


def pctr_of(training: Path) -> PredictedCTR:
    """The last epoch's reward model, which all rows of the table use."""
    return PredictedCTR(reward_model.load(epochs_of(training)[-1], default_encoder()))


def score_of(config: Config) -> Score:
    """What the digits of prompts with bids are: the pCTR's predictions, or eCPM."""
    return "ecpm" if config.score == "ecpm" else "pctr"


def load(policy: AdaptedLLM, folder: Path | None) -> None:
    """Gives the policy the adapter of a folder; None: factors of 0, which leave the base model as it is."""
    if folder is None:
        lora.assign(policy.trained, {name: torch.zeros_like(value) for name, value in policy.trained.items()})
    else:
        factors = read_adapter(folder).factors
        lora.assign(policy.trained, {name: torch.from_numpy(value) for name, value in factors.items()})


def rebid(auction: Auction, amount: float) -> Auction:
    """The auction with another bid of its most relevant ad."""
    best = max(range(len(auction.bids)), key=lambda i: auction.bids[i].relevance)
    bids = [b.model_copy(update={"amount": float(amount)}) if i == best else b for i, b in enumerate(auction.bids)]
    return auction.model_copy(update={"bids": tuple(bids)})


def config_of(training: Path) -> Config:
    """The options of a training."""
    return Config.model_validate(json.loads((training / "manifest.json").read_text())["config"])


def plain(given: argparse.Namespace, cells: Sequence[Cell]) -> None:
    """Writes the answers with the plain writer, on this machine: GSP's, without ads, and LLM-Auction's choice of links
    by the adapter that ships."""
    config = config_of(given.training)
    pctr = pctr_of(given.training)
    llm: LLM = make_llm(config.llm)
    writer = Writer(llm)
    gsp, links = GSP(llm, pctr), LLMAuction(llm, format="slim")

    async def all_of(some: Sequence[Episode]) -> list[tuple[str, ...]]:
        async def one(auction: Auction) -> tuple[str, ...]:
            ads = [auction.bid_of(i).ad for i in gsp.allocate(auction)]
            chosen = await links.run(auction, np.random.default_rng(0))  # its draws are keyed by the auction
            return await writer.with_ads(auction, ads), await writer.answer(auction), chosen.response

        return list(await asyncio.gather(*(one(e.auction) for e in some)))

    with given.out.open("w", encoding="utf-8") as file:
        for cell in cells:
            for i, texts in enumerate(asyncio.run(all_of(cell.episodes(config, given.auctions)))):
                for kind, text in zip(("gsp plain", "answer", "links"), texts, strict=True):
                    row = {"n": cell.n, "seed": cell.seed, "i": i, "kind": kind, "texts": [[text, True]]}
                    file.write(json.dumps(row) + "\n")
            print(cell, flush=True)


class Measured(NamedTuple):
    """One answer of one row of the table."""

    persona: str
    reward: float
    revenue: float
    ads: float
    faults: float
    words: float
    links: tuple[str, ...]
    """Where each ad stands: words before it."""
    led: int
    """Ads whose sentence has words before the link."""


def score(given: argparse.Namespace, cells: Sequence[Cell]) -> None:
    """Judges all answers, and writes the tables."""
    config = config_of(given.training)
    pctr = pctr_of(given.training)
    judge, objective = ClickModel(default_encoder()), Objective()
    texts: dict[tuple[int, int, int], dict[str, list[Written]]] = defaultdict(dict)
    for file in given.answers:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts[row["n"], row["seed"], row["i"]][row["kind"]] = [Written(*text) for text in row["texts"]]
    rows: Rows = defaultdict(dict)
    for cell in cells:
        for i, episode in enumerate(cell.episodes(config, given.auctions)):
            known = texts.get((*cell, i), {})
            for name, shown in outcomes(episode.auction, known, pctr, objective, judge, episode):
                rows[name][cell, i] = measure(episode, shown, judge, objective)
        print(cell, flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    write_table(rows, given.out / "rivals.csv")
    write_sweep(config, texts, judge, given.out / "sweep.csv")
    write_plain(config, texts, given.out / "no_commercial_intent.csv")


def outcomes(
    auction: Auction,
    known: dict[str, list[Written]],
    pctr: PredictedCTR,
    objective: Objective,
    judge: ClickModel,
    episode: Episode,
) -> Iterator[tuple[str, Outcome]]:
    """The outcome of every row of the table for one auction."""
    bids = {bid.ad.id: bid.amount for bid in auction.bids}
    for kind, texts in known.items():
        if kind in ("base", "profile hidden") or kind.startswith("epoch"):
            yield kind, outcome(auction, read(auction, texts[0]), bids)
        if kind.startswith("epoch"):
            yield f"{kind}, ads at the end", outcome(auction, ads_at_end(auction, read(auction, texts[0])), bids)
        if kind == "links":
            yield "choice of links, plain writer", outcome(auction, texts[0].text, bids)
    writers = {"winners": "tuned writer", "winners, trained": "trained writer", "gsp plain": "plain writer"}
    for kind, name in writers.items():
        if kind not in known:
            continue
        text = known[kind][0].text if kind == "gsp plain" else read(auction, known[kind][0])
        for rule in (GSP, VCG):
            mechanism = rule(ScriptedLLM(), pctr)
            prices = mechanism.allocate(auction)
            missing = [auction.bid_of(i).ad for i in prices if auction.bid_of(i).ad.link not in text]
            whole = " ".join([text, *(f"{ad.link}: {ad.body}" for ad in missing)])
            yield f"{mechanism.name}, {name}", outcome(auction, whole, prices)
    if "answer" in known:
        slots = FixedSlots(ScriptedLLM(), pctr)
        slots._writer = Replayed(known["answer"][0].text)
        yield "fixed_slots", asyncio.run(slots.run(auction, np.random.default_rng(0)))
    if "pool" in known:
        answers = [read(auction, text) for text in known["pool"]]
        for count in (5, 20):
            best = BestOfN(ScriptedLLM(), pctr, objective, n=count)
            distinct = dict.fromkeys(answers[:count])
            yield (
                f"best of {count}, tuned policy",
                best.choose(auction, [best._candidate(auction, t) for t in distinct]),
            )
        mosaic = Mosaic(ScriptedLLM(), pctr, objective, samples=20)
        items = [
            read_item(auction, t, float(np.log(answers[:20].count(t))), pctr, objective)
            for t in dict.fromkeys(answers[:20])
        ]
        probs = mosaic.choice_probs(auction, items)
        place = int(keyed_rng("whole answers", auction.id).choice(len(items), p=probs / probs.sum()))
        paid = mosaic.payments(auction, items)
        yield "mosaic 20, tuned policy", mosaic._outcome(auction, items[place], float(probs[place]), paid)
    if "more" in known:
        answers = [read(auction, text) for kind in ("pool", "more") for text in known[kind]]
        shown = [outcome(auction, text, bids) for text in dict.fromkeys(answers)]
        true = [
            objective.reward(auction, judge.probabilities(episode.persona, auction, o), o.violations) for o in shown
        ]
        yield f"best of {BEST} by the judge's clicks", shown[int(np.argmax(true))]


def measure(episode: Episode, shown: Outcome, judge: ClickModel, objective: Objective) -> Measured:
    """Reward and revenue in expectation over the judge's clicks."""
    probs = judge.probabilities(episode.persona, episode.auction, shown)
    revenue = sum(p.price * probs[p.ad_id] for p in shown.placements) + sum(shown.transfers.values())
    masked = masked_links(shown.response)
    before = tuple(str(len(markup.strip_markup(shown.response[: p.span[0]]).split())) for p in shown.placements)
    return Measured(
        episode.persona.id,
        objective.reward(episode.auction, probs, shown.violations),
        revenue,
        len(shown.placements),
        float(bool(shown.violations)),
        len(markup.strip_markup(shown.response).split()),
        before,
        sum(sentence_around(masked, p.span)[0] < len(masked[: p.span[0]].rstrip()) for p in shown.placements),
    )


def mean(values: Sequence[float], people: Sequence[str]) -> Estimate:
    """A mean in currency with its interval, clustered by persona."""
    return clustered_ratio([(value, 1.0) for value in values], people)


Rows = dict[str, dict[tuple[Cell, int], Measured]]
"""Row -> cell and auction -> its answer."""


def write_table(rows: Rows, out: Path) -> None:
    """One line for each row and number of candidates, with paired differences to GSP with the tuned writer."""
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            [
                "n",
                "row",
                "answers",
                "reward",
                "±",
                "minus gsp tuned",
                "±",
                "revenue",
                "±",
                "ads",
                "faults",
                "words",
                "words before",
                "led",
            ]
        )
        rival = rows.get("gsp, tuned writer", {})
        for n in sorted({cell.n for some in rows.values() for cell, _ in some}):
            for name, some in rows.items():
                places = [place for place in some if place[0].n == n]
                own = [some[place] for place in places]
                if not own:
                    continue
                people = [m.persona for m in own]
                reward = mean([m.reward for m in own], people)
                revenue = mean([m.revenue for m in own], people)
                gap: Any = ("", "")
                if all(place in rival for place in places):
                    paired = mean([some[place].reward - rival[place].reward for place in places], people)
                    gap = (f"{paired.value:.2f}", f"{paired.margin:.2f}")
                before = [int(words) for m in own for words in m.links]
                writer.writerow(
                    [
                        n,
                        name,
                        len(own),
                        f"{reward.value:.2f}",
                        f"{reward.margin:.2f}",
                        *gap,
                        f"{revenue.value:.2f}",
                        f"{revenue.margin:.2f}",
                    ]
                    + [f"{np.mean([getattr(m, k) for m in own]):.3f}" for k in ("ads", "faults", "words")]
                    + [f"{np.mean(before):.0f}" if before else ""]
                    + [f"{sum(m.led for m in own) / len(before):.2f}" if before else ""]
                )


def write_sweep(config: Config, texts: dict[Any, dict[str, list[Written]]], judge: ClickModel, out: Path) -> None:
    """ITCTR of the most relevant ad at each bid."""
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["bid", "itctr", "shown"])
        for bid in BIDS:
            clicks, there = [], []
            for i, episode in enumerate(SWEEP.episodes(config, SWEPT)):
                auction = rebid(episode.auction, bid)
                ad = max(auction.bids, key=lambda b: b.relevance).ad
                for text in texts.get((*SWEEP, i), {}).get(f"bid {bid}", []):
                    shown = outcome(auction, read(auction, text), {b.ad.id: b.amount for b in auction.bids})
                    probs = judge.probabilities(episode.persona, auction, shown)
                    clicks.append(probs.get(ad.id, 0.0))
                    there.append(ad.id in probs)
            if clicks:
                writer.writerow([bid, f"{np.mean(clicks):.5f}", f"{np.mean(there):.4f}"])


def write_plain(config: Config, texts: dict[Any, dict[str, list[Written]]], out: Path) -> None:
    """Share of answers without an ad to questions without commercial intent."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for i, episode in enumerate(QUIET.episodes(config, UNCOMMERCIAL)):
        for kind, (text, *_) in texts.get((*QUIET, i), {}).items():
            links, _ = markup.parse(read(episode.auction, text), episode.auction)
            counts[kind].append(not links)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["row", "answers", "without an ad"])
        writer.writerows([kind, len(some), f"{np.mean(some):.3f}"] for kind, some in counts.items())


if __name__ == "__main__":
    main()
