"""LLM-Auction in the written format against its rivals, on held-out personas and ads.

python -m benchmarks.whole_answers sample --training FOLDER --out answers.jsonl    # minutes on a GPU, an hour on a CPU
python -m benchmarks.whole_answers plain --training FOLDER --out plain.jsonl       # answers of the plain writer
python -m benchmarks.whole_answers score --training FOLDER --answers answers.jsonl plain.jsonl --out FOLDER

All rivals have the same base model and the same pCTR and, where their row says so, the same fine-tuned writer. The
digits in all prompts are that pCTR's predictions; in prompts with bids, those of the training's score.
Best of n and MOSAIC draw from the fine-tuned policy, which does not see bids: the first n of its answers. A text that
does not answer is shown as the mechanism shows it, with a plain answer of a second call before its ads; so is a plain
answer where the mechanism offers no ads. Clicks are those of world v1; bids are uniform in 1 to 100. Each row is
measured on the same auctions. `--rows` samples some rows alone, so that two processes with one thread each may share
the work; `score` reads all files together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.whole_answer_setup import (
    BEST,
    BIDS,
    QUIET,
    SWEEP,
    SWEPT,
    UNCOMMERCIAL,
    Cell,
    config_of,
    epochs_of,
    load,
    pctr_of,
    rebid,
    refuses_of,
    score_of,
)
from benchmarks.whole_answer_tables import REFUSED, score
from mechanisms.gsp import GSP
from mechanisms.llm_auction import sampling
from mechanisms.llm_auction.mechanism import LLMAuction
from mechanisms.llm_auction.models import new_policy
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.slim import PREDICTED, Score, digits
from mechanisms.llm_auction.written import SAMPLING, Page, TunedWriter, answers, page, read_with, winners_page
from simenv import Writer
from simenv.background_loop import as_task, gather, run_sync
from simenv.llm import LLM, ScriptedLLM, make_llm
from simenv.records import Ad, Auction

POOL = 20
"""Answers of the fine-tuned policy without bids for each auction, for best of n and MOSAIC."""
SEARCHED = 4
"""For so many auctions of each cell, `BEST` answers are sampled."""
PER_BID = 4
"""Answers at each bid."""


class Asked(NamedTuple):
    """What is sampled of an auction, and where it belongs."""

    cell: Cell
    i: int
    kind: str
    auction: Auction
    page: Page
    winners: Sequence[Ad] = ()
    """The ads that were chosen before. If there are none, the policy chooses."""


class AnsweringOnce(TunedWriter):
    """Writes the plain answer of an auction once, for all texts that need it."""

    def __init__(self, policy: AdaptedLLM) -> None:
        super().__init__(policy)
        self._answers: dict[str, asyncio.Task[str]] = {}

    async def answer(self, auction: Auction) -> str:
        if auction.id not in self._answers:
            self._answers[auction.id] = as_task(super().answer(auction))
        return await self._answers[auction.id]


ROWS = ("policies", "hidden", "quiet", "sweep", "refused", "winners", "pool", "more")
"""What is sampled: an answer of each epoch, of the best one with the profile hidden, of each epoch to questions without
commercial intent, answers at each bid, the plain answers of auctions that the mechanism offers no ads, answers with
GSP's winners by the fine-tuned and by the best policy, answers without bids."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sample", "plain", "score"])
    parser.add_argument("--training", type=Path, required=True, help="folder of a training in the written format")
    parser.add_argument("--answers", type=Path, nargs="*", default=[])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--auctions", type=int, default=40, help="for each n and seed")
    parser.add_argument("--samples", type=int, default=1, help="sample: answers of a policy to each auction")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS, help="sample: what is sampled")
    parser.add_argument(
        "--epochs",
        type=int,
        nargs="*",
        help="sample: the epochs whose policies answer; by default all, and the base model",
    )
    parser.add_argument("--links", type=Path, help="plain: folder of a training of the choice of links")
    parser.add_argument("--score", choices=PREDICTED, help="sample: that of prompts with bids, not the training's")
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
        order: Score = (given.score or score_of(config)) if show_bids else "pctr"
        return page(auction, show_bids=show_bids, shown=digits(auction, order, pctr), profile=profile)

    with given.out.open("w", encoding="utf-8") as file:

        def write(rows: Sequence[Asked], count: int = 1) -> None:
            """Samples answers, and writes them as the mechanism shows them."""
            again, name, writer = 0, f"{rows[0].kind} of {len(rows)}", AnsweringOnce(policy)
            step = len(rows) if policy.device != "cpu" else 8  # on a CPU each answer is written when it is done
            for start in range(0, len(rows), step):
                part = rows[start : start + step]
                named = [(f"{one.cell} {one.i} {one.kind}", one.page) for one in part]
                texts = sampling.sample(policy, named, count, SAMPLING, name, required=bool(rows[0].winners))
                read = [
                    (one, read_with(one.auction, text, one.winners or one.page.linked(text.text)))
                    for one, some in zip(part, texts, strict=True)
                    for text in some
                ]
                shown = run_sync(gather, [writer.answered(one.auction, text) for one, text in read])
                for k, one in enumerate(part):
                    own = slice(k * count, (k + 1) * count)
                    calls = sum(not answers(one.auction, text) for _, text in read[own])
                    row = {"n": one.cell.n, "seed": one.cell.seed, "i": one.i, "kind": one.kind}
                    row |= {"texts": [[text, True] for text in shown[own]], "second_calls": calls}
                    file.write(json.dumps(row) + "\n")
                    again += calls
                file.flush()
            print(f"{name}: {again} with a second call", flush=True)

        drawn = [(cell, i, e.auction) for cell in cells for i, e in enumerate(cell.episodes(config, given.auctions))]
        plain = [(QUIET, i, e.auction) for i, e in enumerate(QUIET.episodes(config, UNCOMMERCIAL))]
        some = [*(drawn if "policies" in given.rows else []), *(plain if "quiet" in given.rows else [])]
        chosen = [epochs[i] for i in given.epochs] if given.epochs else [None, *epochs[1:]]
        for folder in chosen if some else []:
            load(policy, folder)
            kind = "base" if folder is None else f"epoch {folder.name}"
            kind += f", list by {given.score}" if given.score else ""
            write([Asked(cell, i, kind, auction, asked(auction)) for cell, i, auction in some], given.samples)
        if "hidden" in given.rows:
            load(policy, given.training)
            hidden = [(cell, i, auction, asked(auction, profile=False)) for cell, i, auction in drawn]
            write([Asked(cell, i, "profile hidden", *one) for cell, i, *one in hidden])
        if "sweep" in given.rows:
            load(policy, given.training)
            swept = [episode.auction for episode in SWEEP.episodes(config, SWEPT)]
            for bid in BIDS:
                moved = [rebid(auction, bid) for auction in swept]
                write([Asked(SWEEP, i, f"bid {bid}", one, asked(one)) for i, one in enumerate(moved)], PER_BID)
        if "refused" in given.rows:
            load(policy, given.training)
            refuses = refuses_of(given.training)
            some = [one for one in drawn if refuses(one[2])]
            writer = TunedWriter(policy if policy.device != "cpu" else policy.on_onnx())
            texts = run_sync(gather, [writer.answer(auction) for *_, auction in some])
            for (cell, i, _), text in zip(some, texts, strict=True):
                row = {"n": cell.n, "seed": cell.seed, "i": i, "kind": REFUSED, "texts": [[text, True]]}
                file.write(json.dumps(row) + "\n")
        if "winners" in given.rows:
            placed = []
            for cell, i, auction in drawn:
                ads = [auction.bid_of(ad_id).ad for ad_id in gsp.allocate(auction)]
                placed.append(Asked(cell, i, "", auction, winners_page(auction, ads, profile=config.profile), ads))
            for kind, folder in (("winners", epochs[1]), ("winners, trained", given.training)):
                load(policy, folder)
                write([one._replace(kind=kind) for one in placed], given.samples)
        load(policy, epochs[1])
        free = [(cell, i, auction, asked(auction, show_bids=False)) for cell, i, auction in drawn]
        if "pool" in given.rows:
            write([Asked(cell, i, "pool", *one) for cell, i, *one in free], POOL)
        if "more" in given.rows:
            write([Asked(cell, i, "more", *one) for cell, i, *one in free if i < SEARCHED], BEST - POOL)


def plain(given: argparse.Namespace, cells: Sequence[Cell]) -> None:
    """Writes answers with the plain writer: GSP's, without ads, and with the choice of links of `--links`."""
    config = config_of(given.training)
    llm: LLM = make_llm(config.llm)
    writer, gsp = Writer(llm), GSP(llm, pctr_of(given.training))
    links = None if given.links is None else LLMAuction(llm, adapter=given.links, format="slim")

    async def texts_of(auction: Auction) -> dict[str, str]:
        ads = [auction.bid_of(ad_id).ad for ad_id in gsp.allocate(auction)]
        texts = {"gsp plain": await writer.with_ads(auction, ads), "answer": await writer.answer(auction)}
        if links is not None:  # its draws are keyed by the auction
            texts["links"] = (await links.run(auction, np.random.default_rng(0))).response
        return texts

    with given.out.open("w", encoding="utf-8") as file:
        for cell in cells:
            auctions = [episode.auction for episode in cell.episodes(config, given.auctions)]
            for i, texts in enumerate(run_sync(gather, [texts_of(auction) for auction in auctions])):
                for kind, text in texts.items():
                    row = {"n": cell.n, "seed": cell.seed, "i": i, "kind": kind, "texts": [[text, True]]}
                    file.write(json.dumps(row) + "\n")
            print(cell, flush=True)


if __name__ == "__main__":
    main()
