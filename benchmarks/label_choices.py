"""What the written format's policy reads when it chooses an ad.

python -m benchmarks.label_choices --training FOLDER --out read.csv

The distribution of the ad at the first link of an answer is exact: one forward pass gives it. The beginnings of the
answers are those of the fine-tuned policy without bids, on held-out personas and ads. The reward of an ad there is the
expected reward of the beginning with the ad in its own words, by the clicks of world v1; "share" is that of the policy
in % of the best ad's; "opens" is the probability that an ad comes there. The last rows change the policy's prompts.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.bench_rows import write_rows
from benchmarks.whole_answer_setup import BIDS, Cell, config_of, epochs_of, load, pctr_of, rebid, score_of
from mechanisms.llm_auction import sampling
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.label_choice import Chosen, LabelChoices, link_places
from mechanisms.llm_auction.levels import Episode, Pages
from mechanisms.llm_auction.models import new_policy
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.reward_model import PredictedCTR
from mechanisms.llm_auction.slim import Score, digits
from mechanisms.llm_auction.written import SAMPLING, Page, page
from simenv.encoder import default_encoder
from simenv.judges.click_model import ClickModel
from simenv.objective import Objective
from simenv.records import Auction
from simenv.seeding import keyed_rng
from simenv.stats import clustered_ratio


class Place(NamedTuple):
    """The first link of an answer, and the reward of each ad of the auction there."""

    cell: Cell
    episode: Episode
    before: str
    rewards: dict[str, float]
    predicted: dict[str, float]
    """R of each ad there by the reward model's clicks."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=Path, required=True, help="folder of a training in the written format")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--auctions", type=int, default=12, help="for each n and seed")
    parser.add_argument("--epochs", type=int, nargs="*", help="those whose policies are measured; by default all")
    parser.add_argument("--bids", type=float, nargs="*", default=BIDS, help="bids of the most relevant ad")
    read(parser.parse_args())


def places(policy: AdaptedLLM, config: Config, pctr: PredictedCTR, cells: Sequence[Cell], count: int) -> list[Place]:
    """The places at which the policy's choices are measured."""
    judge, objective = ClickModel(default_encoder()), Objective()
    level = LabelChoices(Pages(policy))
    drawn = [(cell, episode) for cell in cells for episode in cell.episodes(config, count)]
    pages = [
        (f"{cell} {i}", page_of(episode.auction, pctr, "pctr", show_bids=False))
        for i, (cell, episode) in enumerate(drawn)
    ]
    texts = sampling.sample(policy, pages, 1, SAMPLING, "label choices")
    found = []
    for (cell, episode), (text, *_) in zip(drawn, texts, strict=True):
        links = link_places(episode, text.text)
        if not links:
            continue
        before = text.text[: links[0]]
        rewards, predicted = {}, {}
        for bid in episode.auction.bids:
            shown = level.outcome(episode, Chosen(before, bid.ad.id))
            probs = judge.probabilities(episode.persona, episode.auction, shown)
            rewards[bid.ad.id] = objective.reward(episode.auction, probs, shown.violations)
            guess = pctr.click_probs(episode.auction, shown.response, [p.ad_id for p in shown.placements])
            predicted[bid.ad.id] = objective.reward(episode.auction, guess, shown.violations)
        found.append(Place(cell, episode, before, rewards, predicted))
    return found


Changes = Callable[[Auction], dict[str, Any]]
"""Options of an auction's prompt that differ from those of the training."""


def _as_trained(auction: Auction) -> dict[str, Any]:
    return {}


def page_of(auction: Auction, pctr: PredictedCTR, score: Score, **options: Any) -> Page:
    """The prompt with the digits of the reward model, or without digits if `options` say so."""
    return page(auction, **{"shown": digits(auction, score, pctr), **options})


def shuffled(auction: Auction) -> list[int]:
    """A random order of the candidates."""
    order: list[int] = keyed_rng("label choices", auction.id).permutation(len(auction.bids)).tolist()
    return order


class Measured(NamedTuple):
    """What is chosen at a place."""

    place: Place
    probs: dict[str, float]
    """Ad id -> probability, if an ad is shown."""
    opens: float = math.nan
    """Probability that a link opens there."""


def choices_at(
    policy: AdaptedLLM, known: Sequence[Place], pctr: PredictedCTR, score: Score, changes: Changes = _as_trained
) -> list[Measured]:
    """The policy's choice at every place; `changes`: options of the auction's prompt."""
    measured = []
    for place in known:
        asked = page_of(place.episode.auction, pctr, score, **changes(place.episode.auction))
        with torch.no_grad():
            ((row,),) = policy.label_logps([(asked, [place.before])])
        *probs, opens = row.exp().tolist()
        measured.append(Measured(place, {ad.id: p for ad, p in zip(asked.ads, probs, strict=True)}, opens))
    return measured


def row_of(name: str, measured: Sequence[Measured]) -> dict[str, Any]:
    """Expected reward of an ad, currency, with its 95% interval by persona; its share of the best ad's; entropy, nats;
    and how likely an ad is."""
    people = [one.place.episode.persona.id for one in measured]
    got = [sum(p * one.place.rewards[ad] for ad, p in one.probs.items()) for one in measured]
    best = [max(one.place.rewards.values()) for one in measured]
    reward = clustered_ratio([(value, 1.0) for value in got], people)
    share = clustered_ratio(list(zip(got, best, strict=True)), people)
    entropy = [-sum(p * np.log(p) for p in one.probs.values() if p > 0) for one in measured]
    return {
        "row": name,
        "places": len(measured),
        "reward": f"{reward.value:.2f}",
        "±": f"{reward.margin:.2f}",
        "share": f"{share.value:.3f}",
        "low": f"{share.low:.3f}",
        "high": f"{share.high:.3f}",
        "entropy": f"{np.mean(entropy):.2f}",
        "opens": "" if math.isnan(measured[0].opens) else f"{np.mean([one.opens for one in measured]):.3f}",
    }


def rankings(known: Sequence[Place], pctr: PredictedCTR) -> list[dict[str, Any]]:
    """Rows of choices without a policy."""
    even, highest, ranked, read_there = [], [], [], []
    for place in known:
        auction = place.episode.auction
        bids = [bid.amount for bid in auction.bids]
        values = [bid * float(p) for bid, p in zip(bids, pctr.relevance(auction), strict=True)]
        even.append(Measured(place, dict.fromkeys(place.rewards, 1 / len(bids))))
        highest.append(Measured(place, {auction.bids[int(np.argmax(bids))].ad.id: 1.0}))
        ranked.append(Measured(place, {auction.bids[int(np.argmax(values))].ad.id: 1.0}))
        read_there.append(Measured(place, {max(place.predicted, key=lambda ad: place.predicted[ad]): 1.0}))
    return [
        row_of("an ad at random", even),
        row_of("highest bid", highest),
        row_of("highest bid times pCTR", ranked),
        row_of("highest bid times pCTR of the text there", read_there),
    ]


def rebid_in(episode: Episode, amount: float) -> Episode:
    """The episode with another bid of its most relevant ad."""
    return episode._replace(auction=rebid(episode.auction, amount))


def sweep(
    policy: AdaptedLLM, known: Sequence[Place], pctr: PredictedCTR, score: Score, bids: Sequence[float]
) -> dict[str, str]:
    """Mean probability of the most relevant ad at each bid."""
    means = {}
    for amount in bids:
        moved = [one._replace(episode=rebid_in(one.episode, amount)) for one in known]
        best = [max(one.episode.auction.bids, key=lambda b: b.relevance).ad.id for one in moved]
        rows = [one.probs[ad] for one, ad in zip(choices_at(policy, moved, pctr, score), best, strict=True)]
        means[f"at {amount:g}"] = f"{np.mean(rows):.3f}"
    return means


def read(given: argparse.Namespace) -> None:
    """Measures each epoch's policy, and the best one with other prompts."""
    config, pctr = config_of(given.training), pctr_of(given.training)
    score = score_of(config)
    policy = new_policy(config)
    epochs = epochs_of(given.training)
    load(policy, epochs[1])
    cells = [Cell(n, seed) for n in given.n for seed in given.seeds]
    known = places(policy, config, pctr, cells, given.auctions)
    rows = rankings(known, pctr)
    for folder in epochs[1:] if given.epochs is None else [epochs[i] for i in given.epochs]:
        load(policy, folder)
        measured = choices_at(policy, known, pctr, score)
        swept = sweep(policy, known[: len(known) // 2], pctr, score, given.bids)
        rows.append(row_of(f"epoch {folder.name}", measured) | swept)
        print(rows[-1], flush=True)
    load(policy, given.training)
    prompts: dict[str, Changes] = {
        "list shuffled": lambda auction: {"order": shuffled(auction)},
        "list in the retriever's order": lambda auction: {"order": range(len(auction.bids))},
        "no digits": lambda auction: {"shown": dict.fromkeys(digits(auction, score, pctr), "")},
        "list shuffled, no digits": lambda auction: {"order": shuffled(auction), "shown": {}},
        "retriever's order and digits": lambda auction: {"shown": digits(auction)},
        "retriever's digits, list shuffled": lambda auction: {"shown": digits(auction), "order": shuffled(auction)},
        "no bids": lambda auction: {"show_bids": False, "shown": digits(auction, "pctr", pctr)},
        "profile hidden": lambda auction: {"profile": False},
    }
    for name, changes in prompts.items():
        rows.append(row_of(f"kept, {name}", choices_at(policy, known, pctr, score, changes)))
        print(rows[-1], flush=True)
    write_rows(rows, given.out)


if __name__ == "__main__":
    main()
