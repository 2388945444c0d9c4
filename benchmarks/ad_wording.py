"""What the words of an ad's sentence are worth in world v1: GSP's ads behind the same answers, in other words.

python -m benchmarks.ad_wording --training FOLDER --answers plain.jsonl --out table.csv

The answers are those of the plain writer (`python -m benchmarks.whole_answers plain`). Each form ends with the
advertiser's own words; the beginning differs. Rewards are in currency, in expectation over the clicks of world v1 and
by the training's pCTR, with 95% intervals.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmarks.whole_answer_setup import Cell, config_of, pctr_of
from benchmarks.whole_answer_tables import mean
from mechanisms.gsp import GSP
from simenv import outcome
from simenv.encoder import default_encoder
from simenv.judges import ad_copy
from simenv.judges.click_model import ClickModel
from simenv.llm import ScriptedLLM
from simenv.objective import Objective
from simenv.records import Ad
from simenv.writer.claims import content_words
from simenv.writer.copy_check import own_words

FORMS = {
    "link alone": "{link}: {words}",
    "one option": "{link} is one option: {words}",
    "two words of the question": "For {last_two}, {link} is one option: {words}",
    "five words of the question": "For {first_five}, {link} is one option: {words}",
    "the whole question": "For {question}, {link} is one option: {words}",
    "a sentence with the ad's kind before it": "{kind}. {link} is one option: {words}",
}


def sentence(form: str, question: str, ad: Ad) -> str:
    """A sentence about an ad. Words of the question begin (or, if two, end) with a content word."""
    words = [word.strip(",.?!") for word in question.split()]
    heavy = [i for i, word in enumerate(words) if content_words(word)] or [0]
    return form.format(
        link=ad.link,
        words=own_words(ad),
        kind=ad_copy.offer_title(ad),
        question=" ".join(words),
        first_five=" ".join(words[heavy[0] : heavy[0] + 5]),
        last_two=" ".join(words[max(0, heavy[-1] - 1) : heavy[-1] + 1]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--training", type=Path, required=True)
    parser.add_argument("--answers", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--auctions", type=int, default=24, help="for each seed")
    given = parser.parse_args()
    rows = map(json.loads, given.answers.read_text(encoding="utf-8").splitlines())
    answers = {(row["n"], row["seed"], row["i"]): row["texts"][0][0] for row in rows if row["kind"] == "answer"}
    config, pctr = config_of(given.training), pctr_of(given.training)
    judge, objective, gsp = ClickModel(default_encoder()), Objective(), GSP(ScriptedLLM(), pctr)
    people: list[str] = []
    true, predicted, fits = defaultdict(list), defaultdict(list), defaultdict(list)
    for seed in given.seeds:
        cell = Cell(given.n, seed)
        for i, episode in enumerate(cell.episodes(config, given.auctions)):
            auction = episode.auction
            people.append(episode.persona.id)
            ads = [auction.bid_of(ad_id).ad for ad_id in gsp.allocate(auction)]
            for name, form in FORMS.items():
                said = [sentence(form, auction.query.text, ad) for ad in ads]
                text = " ".join([answers[(*cell, i)], *said])
                shown = outcome(auction, text, {bid.ad.id: bid.amount for bid in auction.bids})
                probs = judge.probabilities(episode.persona, auction, shown)
                guess = pctr.click_probs(auction, text, [p.ad_id for p in shown.placements])
                true[name].append(objective.reward(auction, probs, shown.violations))
                predicted[name].append(objective.reward(auction, guess, shown.violations))
                fits[name] += [ad.coherence for ad in judge.measure(episode.persona, auction, shown).ads]
    with given.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["beginning", "answers", "reward", "±", "by the pCTR", "±", "fit"])
        for name in FORMS:
            estimates = [mean(values[name], people) for values in (true, predicted)]
            numbers = [f"{number:.2f}" for one in estimates for number in (one.value, one.margin)]
            writer.writerow([name, len(people), *numbers, f"{np.mean(fits[name]):.3f}"])
    print(given.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
