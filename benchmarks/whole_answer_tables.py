"""Judges the answers that `whole_answers.py` sampled, and writes its tables."""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.bench_rows import write_rows
from benchmarks.whole_answer_setup import (
    BEST,
    BIDS,
    QUIET,
    SWEEP,
    SWEPT,
    UNCOMMERCIAL,
    Cell,
    config_of,
    pctr_of,
    rebid,
    refuses_of,
)
from mechanisms.best_of_n import BestOfN
from mechanisms.fixed_slots import FixedSlots
from mechanisms.gsp import GSP
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.levels import Episode
from mechanisms.llm_auction.reward_model import PredictedCTR
from mechanisms.llm_auction.written import Written, ads_at_end, read, read_with
from mechanisms.menu import read as read_item
from mechanisms.mosaic import Mosaic
from mechanisms.vcg import VCG
from simenv import Writer, markup, outcome
from simenv.encoder import default_encoder
from simenv.judges.click_model import ClickModel
from simenv.links import masked_links
from simenv.llm import ScriptedLLM
from simenv.objective import Objective
from simenv.records import Ad, Auction, Outcome
from simenv.seeding import keyed_rng
from simenv.stats import Estimate, clustered_ratio
from simenv.text import sentence_around

REFUSED = "refused"
"""The plain answer of an auction that the mechanism offers no ads."""


class Replayed(Writer):
    """Writes the text that was sampled before."""

    def __init__(self, text: str) -> None:
        super().__init__(ScriptedLLM())
        self._text = text

    async def with_ads(self, auction: Auction, ads: Sequence[Ad], sample: int = 0) -> str:
        return self._text

    async def answer(self, auction: Auction) -> str:
        return self._text


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
    calls: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    for file in given.answers:
        for line in file.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            texts[row["n"], row["seed"], row["i"]][row["kind"]] = [Written(*text) for text in row["texts"]]
            count = calls[row["kind"], row["n"]]
            count[:] = count[0] + len(row["texts"]), count[1] + row.get("second_calls", 0)
    rows: Rows = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        for i, episode in enumerate(cell.episodes(config, given.auctions)):
            known = as_the_mechanism(texts.get((*cell, i), {}))
            for name, shown in outcomes(episode.auction, known, pctr, objective, judge, episode):
                rows[name][cell, i].append(measure(episode, shown, judge, objective))
        print(cell, flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    write_table(rows, given.out / "rivals.csv")
    refuses = refuses_of(given.training)
    write_sweep(config, texts, judge, refuses, given.out / "sweep.csv")
    write_plain(config, texts, refuses, given.out / "no_commercial_intent.csv")
    names = ("row", "n", "answers", "with a second call")
    write_rows(
        [dict(zip(names, (*key, *count), strict=True)) for key, count in calls.items() if key[0] != REFUSED],
        given.out / "second_calls.csv",
    )


def as_the_mechanism(known: Mapping[str, list[Written]]) -> dict[str, list[Written]]:
    """The answers of an auction; those of LLM-Auction's policies are the plain one if it offers no ads."""
    plain = known.get(REFUSED)
    if plain is None:
        return dict(known)
    own = {kind for kind in known if kind == "profile hidden" or kind.startswith("epoch")}
    return {kind: plain * len(texts) if kind in own else texts for kind, texts in known.items()}


def outcomes(
    auction: Auction,
    known: dict[str, list[Written]],
    pctr: PredictedCTR,
    objective: Objective,
    judge: ClickModel,
    episode: Episode,
) -> Iterator[tuple[str, Outcome]]:
    """The outcomes of every row of the table for one auction: one for each sampled answer."""
    bids = {bid.ad.id: bid.amount for bid in auction.bids}
    for kind, texts in known.items():
        if kind in ("base", "profile hidden") or kind.startswith("epoch"):
            for text in texts:
                answer = read(auction, text)
                yield kind, outcome(auction, answer, bids)
                if kind.startswith("epoch"):
                    yield f"{kind}, ads at the end", outcome(auction, ads_at_end(auction, answer), bids)
        if kind == "links":
            yield "choice of links, plain writer", outcome(auction, texts[0].text, bids)
    writers = {"winners": "tuned writer", "winners, trained": "trained writer", "gsp plain": "plain writer"}
    for kind, name in writers.items():
        if kind not in known:
            continue
        for rule in (GSP, VCG):
            mechanism = rule(ScriptedLLM(), pctr)
            prices = mechanism.allocate(auction)
            winners = [auction.bid_of(i).ad for i in prices]
            for one in known[kind]:
                text = one.text if kind == "gsp plain" else read_with(auction, one, winners)
                yield f"{mechanism.name}, {name}", outcome(auction, text, prices)
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


Rows = dict[str, dict[tuple[Cell, int], list[Measured]]]
"""Row -> cell and auction -> its answers."""


def mean_of(answers: Sequence[Measured], name: str) -> float:
    """A field's mean over the answers to an auction."""
    return float(np.mean([getattr(one, name) for one in answers]))


def write_table(rows: Rows, out: Path) -> None:
    """One line for each row and number of candidates, with paired differences to GSP's with two writers."""
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
                "minus gsp plain",
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
        rivals = [rows.get(f"gsp, {writer}", {}) for writer in ("tuned writer", "plain writer")]
        for n in sorted({cell.n for some in rows.values() for cell, _ in some}):
            for row, some in rows.items():
                places = [place for place in some if place[0].n == n]
                if not places:
                    continue
                own = [one for place in places for one in some[place]]
                people = [some[place][0].persona for place in places]
                reward, revenue = (
                    mean([mean_of(some[p], name) for p in places], people) for name in ("reward", "revenue")
                )
                gaps = []
                for rival in rivals:
                    if all(place in rival for place in places):
                        gap = mean([mean_of(some[p], "reward") - mean_of(rival[p], "reward") for p in places], people)
                        gaps += [f"{gap.value:.2f}", f"{gap.margin:.2f}"]
                    else:
                        gaps += ["", ""]
                before = [int(words) for m in own for words in m.links]
                writer.writerow(
                    [
                        n,
                        row,
                        len(own),
                        f"{reward.value:.2f}",
                        f"{reward.margin:.2f}",
                        *gaps,
                        f"{revenue.value:.2f}",
                        f"{revenue.margin:.2f}",
                    ]
                    + [f"{np.mean([getattr(m, k) for m in own]):.3f}" for k in ("ads", "faults", "words")]
                    + [f"{np.mean(before):.0f}" if before else ""]
                    + [f"{sum(m.led for m in own) / len(before):.2f}" if before else ""]
                )


def write_sweep(
    config: Config,
    texts: dict[Any, dict[str, list[Written]]],
    judge: ClickModel,
    refuses: Callable[[Auction], bool],
    out: Path,
) -> None:
    """ITCTR of the most relevant ad at each bid; 0 where the mechanism offers no ads."""
    rows = []
    for bid in BIDS:
        clicks, there = [], []
        for i, episode in enumerate(SWEEP.episodes(config, SWEPT)):
            auction = rebid(episode.auction, bid)
            ad = max(auction.bids, key=lambda b: b.relevance).ad
            for text in texts.get((*SWEEP, i), {}).get(f"bid {bid}", []):
                shown = outcome(auction, read(auction, text), {b.ad.id: b.amount for b in auction.bids})
                probs = {} if refuses(auction) else judge.probabilities(episode.persona, auction, shown)
                clicks.append(probs.get(ad.id, 0.0))
                there.append(ad.id in probs)
        if clicks:
            rows.append({"bid": bid, "itctr": f"{np.mean(clicks):.5f}", "shown": f"{np.mean(there):.4f}"})
    if rows:
        write_rows(rows, out)


def write_plain(
    config: Config, texts: dict[Any, dict[str, list[Written]]], refuses: Callable[[Auction], bool], out: Path
) -> None:
    """Share of answers without an ad to questions without commercial intent, of the mechanism and of its policy."""
    counts: dict[str, list[tuple[bool, bool]]] = defaultdict(list)
    for i, episode in enumerate(QUIET.episodes(config, UNCOMMERCIAL)):
        for kind, (text, *_) in texts.get((*QUIET, i), {}).items():
            links, _ = markup.parse(read(episode.auction, text), episode.auction)
            counts[kind].append((not links or refuses(episode.auction), not links))
    names = ("row", "answers", "without an ad", "by the policy alone")
    rows = [(kind, len(some), *(f"{share:.3f}" for share in np.mean(some, axis=0))) for kind, some in counts.items()]
    if rows:
        write_rows([dict(zip(names, row, strict=True)) for row in rows], out)
