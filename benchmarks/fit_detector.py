"""Fits the frozen classifier of `simenv.quality.detector`, which tells sentences with an ad from others.

python -m benchmarks.fit_detector write --webis FOLDER --out texts.jsonl    # the embedded model writes: 15 minutes
python -m benchmarks.fit_detector fit --texts texts.jsonl    # prints held-out figures, writes the weights

FOLDER has TOPIC_query_pairs.csv and TOPIC_qualities.csv of "Detecting Generated Native Ads in Conversational Search"
(Schmidt, Zelch, Bevendorff, Stein, Hagen, Potthast 2024; repository webis-de/ads-in-generative-ir, MIT licence): search
queries with brands, and the brands' qualities. The texts follow the recipe of that data set: a language model answers
the query, and writes an ad for the brand that mentions its qualities. Nothing of simenv is in them: no persona, no
query, no ad, and no prompt of a mechanism or writer.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression

from simenv import stats
from simenv.llm import LLM, Prompt, Sampling, make_llm
from simenv.quality.detector import Weights, features, score_sentence
from simenv.seeding import keyed_rng
from simenv.text import sentences

PER_TOPIC = 100
STRENGTH = 10.0
"""Inverse of the penalty on squared weights: of 1, 10 and 100 the best on held-out topics."""
LEAST = 3
"""Sentences that a feature is in at least."""
LABELS = ("Sponsored: {}", "Sponsored · {}", "Ad: {}", "[Ad] {}", "Advertisement: {}", "Promoted: {}", "{} (sponsored)")
ABOUT = (
    "Weights of simenv.quality.detector, written by benchmarks/fit_detector.py. Fitted to texts that "
    "SmolLM2-135M (Apache 2.0) wrote for queries and brands of webis-de/ads-in-generative-ir (MIT, copyright 2024 "
    "Webis Group). None of these texts is in the file."
)
_QUESTIONS = (
    "What should I know about {query}?",
    "Explain {query} in a few sentences.",
    "Give some advice to someone who searches for {query}.",
    "{query}: how does one choose?",
)
_PRAISE = (
    'Write one sentence that recommends {brand} ({kind}) to someone who searched for "{query}". Mention: {qualities}.'
)
_TIP = (
    'Mention {brand} ({kind}) in passing, as something to try, to a friend who asks about "{query}". Say: {qualities}.'
)
_NOTE = "Write one plain sentence about {brand} ({kind}), with facts and without praise: {qualities}."
_TIPS = (
    "Have you tried {brand}",
    "Perhaps try {brand}",
    "{brand} might suit you",
    "Others use {brand}",
    "There is {brand}",
)


class Pair(NamedTuple):
    """A query, and a brand that its authors found relevant."""

    topic: str
    query: str
    brand: str
    kind: str
    qualities: str


def pairs(folder: Path) -> Iterator[Pair]:
    """A sample of the pairs of every topic; each query once."""
    for path in sorted(folder.glob("*_query_pairs.csv")):
        topic = path.name.removesuffix("_query_pairs.csv")
        with (folder / f"{topic}_qualities.csv").open(encoding="utf-8", newline="") as file:
            about = {row[0].strip(): (row[1].strip(), row[2].strip()) for row in csv.reader(file) if len(row) == 3}
        with path.open(encoding="utf-8", newline="") as file:
            rows = [tuple(cell.strip() for cell in row) for row in csv.reader(file)][1:]
        by_query = {query: brand for query, brand in (row for row in rows if len(row) == 2) if brand in about}
        order = keyed_rng("detector", topic).permutation(len(by_query))
        for query, brand in [[*by_query.items()][i] for i in order[:PER_TOPIC]]:
            yield Pair(topic, query, brand, *about[brand])


def prompts(pair: Pair, number: int) -> list[tuple[Prompt, Sampling]]:
    """What the model is asked for: the answer without an ad, and three ads: praise, a tip, a note."""
    fields = pair._asdict()
    begins = pair.brand if keyed_rng("detector-begins", number).random() < 0.5 else ""
    ad = Sampling(max_tokens=60)
    return [
        (Prompt(user=_QUESTIONS[number % len(_QUESTIONS)].format(query=pair.query)), Sampling(max_tokens=140)),
        (Prompt(user=_PRAISE.format(**fields), prefill=begins), ad),
        (Prompt(user=_TIP.format(**fields), prefill=_TIPS[number % len(_TIPS)].format(brand=pair.brand)), ad),
        (Prompt(user=_NOTE.format(**fields), prefill=pair.brand), ad),
    ]


async def write(llm: LLM, pair: Pair, number: int) -> dict[str, object]:
    """The texts of one pair."""
    texts = [
        (prompt.prefill + (await llm.complete(prompt, key=("detector", number, place), sampling=sampling)).text).strip()
        for place, (prompt, sampling) in enumerate(prompts(pair, number))
    ]
    return {**pair._asdict(), "answer": texts[0], "ads": texts[1:]}


async def write_all(folder: Path, out: Path, model: str) -> None:
    """Writes one line per pair."""
    llm = make_llm(model)
    every = list(pairs(folder))
    with out.open("w", encoding="utf-8") as file:
        for start in range(0, len(every), 32):
            batch = enumerate(every[start : start + 32], start)
            for row in await asyncio.gather(*(write(llm, pair, number) for number, pair in batch)):
                file.write(json.dumps(row) + "\n")
            file.flush()
            print(f"{min(start + 32, len(every))} of {len(every)}", flush=True)


class Text(NamedTuple):
    """What was written for a pair, as it is fitted."""

    topic: str
    query: str
    answer: list[str]
    """Sentences without an ad; one that breaks off is left out."""
    ads: list[str]
    """The first sentence of each ad, of every third one with a label."""


def read_texts(path: Path) -> Iterator[Text]:
    """The texts of `write`, but for pairs without a sentence of an answer or of an ad."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        answer = [s for s in sentences(row["answer"]) if len(s.split()) > 2 and s[-1] in ".!?:"]
        rng = keyed_rng("detector-ad", number)
        ads = []
        for ad in row["ads"]:
            whole = [s for s in sentences(ad.strip('"')) if len(s.split()) > 3]
            label = LABELS[int(rng.integers(len(LABELS)))] if rng.random() < 1 / 3 else "{}"
            ads += [label.format(sentence) for sentence in whole[:1]]
        if answer and ads:
            yield Text(row["topic"], row["query"], answer, ads)


def fit(texts: Sequence[Text], threshold: float = 0.0) -> Weights:
    """Logistic regression on features of at least three sentences; both classes count alike."""
    found = [
        (features(s), is_ad) for text in texts for is_ad, group in ((0, text.answer), (1, text.ads)) for s in group
    ]
    number_of = Counter(feature for of, _ in found for feature in set(of))
    place = {feature: i for i, feature in enumerate(sorted(f for f, count in number_of.items() if count >= LEAST))}
    rows, columns, values = [], [], []
    for row, (of, _) in enumerate(found):
        counts = Counter(place[feature] for feature in of if feature in place)
        rows += [row] * len(counts)
        columns += counts.keys()
        values += [count / math.sqrt(counts.total()) for count in counts.values()]
    x = csr_matrix((values, (rows, columns)), shape=(len(found), len(place)))
    y = [is_ad for _, is_ad in found]
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=1000).fit(x, y)
    of_feature = {feature: round(float(model.coef_[0][i]), 2) for feature, i in place.items()}
    return Weights(round(float(model.intercept_[0]), 3), threshold, of_feature, "")


class Scored(NamedTuple):
    """An ad and the answer without it, scored by weights of the other topics."""

    query: str
    ad: str
    score: float
    others: list[float]
    """Scores of the answer's sentences."""


def held_out(texts: Sequence[Text]) -> tuple[list[Scored], float]:
    """Every ad scored by weights of the other topics, and the threshold that is best for sentences, by F1."""
    scored = []
    for topic in sorted({text.topic for text in texts}):
        known = fit([text for text in texts if text.topic != topic])
        for text in (text for text in texts if text.topic == topic):
            others = [score_sentence(sentence, known) for sentence in text.answer]
            scored += [Scored(text.query, ad, score_sentence(ad, known), others) for ad in text.ads]
    positives = np.sort([row.score for row in scored])
    negatives = np.sort([score for row in scored for score in row.others])
    at = np.linspace(-5, 5, 201)
    right = len(positives) - np.searchsorted(positives, at, side="right")
    wrong = len(negatives) - np.searchsorted(negatives, at, side="right")
    return scored, float(at[np.argmax(2 * right / (right + wrong + len(positives)))])


def report(scored: Sequence[Scored]) -> None:
    """Prints how answers with one of the held-out ads are told from the same answers without it."""
    for name, labelled in (("all ads", None), ("with a label", True), ("without a label", False)):
        rows = [row for row in scored if labelled is None or _is_labelled(row.ad) == labelled]
        clusters = [row.query for row in rows]
        without = [max(row.others) for row in rows]
        with_ads = [max(row.score, score) for row, score in zip(rows, without, strict=True)]
        area = stats.auc([1] * len(rows) + [0] * len(rows), [*with_ads, *without], clusters * 2, name)
        bound = np.sort(without)[math.ceil(0.99 * len(rows)) - 1]
        share = np.mean(np.array(with_ads) > bound)
        print(f"{name}: {len(rows)} answers, AUC {area.value:.3f} ({area.low:.3f} to {area.high:.3f}), ", end="")
        print(f"found at 1% false alarms {share:.3f}")


def _is_labelled(ad: str) -> bool:
    return any(word in ad for word in ("Sponsored", "sponsored", "Ad:", "[Ad]", "Advertisement", "Promoted"))


def fit_all(path: Path, out: Path) -> None:
    """Prints held-out figures, and writes the weights that are fitted to all topics."""
    texts = list(read_texts(path))
    scored, threshold = held_out(texts)
    report(scored)
    found = fit(texts, round(threshold, 2))
    kept = {feature: weight for feature, weight in found.of.items() if weight}
    content = {"about": ABOUT, "prior": found.prior, "threshold": found.threshold, "weights": kept}
    out.write_text(json.dumps(content, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    print(f"{len(kept)} features, threshold {threshold:.2f}, {out.stat().st_size} bytes to {out}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    writing = commands.add_parser("write")
    writing.add_argument("--webis", type=Path, required=True)
    writing.add_argument("--out", type=Path, required=True)
    writing.add_argument("--llm", default="embedded")
    fitting = commands.add_parser("fit")
    fitting.add_argument("--texts", type=Path, required=True)
    fitting.add_argument("--out", type=Path, default=Path("simenv/quality/detector.json"))
    args = parser.parse_args()
    if args.command == "write":
        asyncio.run(write_all(args.webis, args.out, args.llm))
    else:
        fit_all(args.texts, args.out)


if __name__ == "__main__":
    main()
