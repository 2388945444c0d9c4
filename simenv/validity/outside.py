"""Query-ad pairs from outside this project: does the judge separate relevant from irrelevant ads?

webis   The curated query-advertisement pairs of Webis ("Detecting Generated Native Ads in Conversational Search"),
        given by the path of a folder with TOPIC_qualities.csv and TOPIC_query_pairs.csv. For each query of a keyed
        sample per topic: a curated ad (relevant), an ad of another topic, and an ad of the same topic that is not
        curated for the query (both irrelevant).
labels  A file of the user's with columns query, ad (the ad's text), label (0 or 1) and optionally title.

The answer is constructed in the same way for every pair: `PLAIN_ANSWER`, then "TITLE is known for QUALITIES." or, for a
labelled file, "TITLE: TEXT". Persona and category are neutral, so pairs differ only in query and ad. Each AUC is
reported with a baseline: the AUC of the encoder's cosine of query and ad on the same pairs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from simenv.encoder import Encoder
from simenv.errors import DataFileError, InputError
from simenv.files.columns import known_rows
from simenv.files.rows import check_columns, read_rows, require, to_record
from simenv.files.tables import Row
from simenv.records import Ad, Record
from simenv.seeding import keyed_int, keyed_rng
from simenv.stats import Bin, Estimate, auc, deciles
from simenv.validity.ask import CachedJudge
from simenv.validity.cases import plain_case

QUERIES_PER_TOPIC = 20
_WEBIS = "{link} is known for QUALITIES."
_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


class Ranking(Record):
    """How well a judge separates relevant from irrelevant ads."""

    queries: int
    pairs: int
    """Relevant and irrelevant pairs on which the judge decided."""
    abstained: int
    auc: Estimate
    """Area under the ROC curve of the click probabilities; bootstrap interval over queries."""
    cosine_auc: Estimate
    """The same for the encoder's cosine alone, on the same pairs."""
    pairs_sha256: str
    """Hash of all pairs."""


class LabelledRanking(Ranking):
    """The same for a labelled file, with the calibration of the probabilities to the labels."""

    base_rate: float
    """Share of label 1."""
    brier: float | None
    """Mean squared difference of click probability and label."""
    calibration: tuple[Bin, ...]
    """By deciles of the click probability: its mean (x) and the share of label 1 (y)."""


class LabelledPair(NamedTuple):
    """One pair of query and ad, with its label."""

    query: str
    ad: Ad
    sentence: str
    label: int


async def measure_webis(
    judge: CachedJudge, folder: str | Path, encoder: Encoder, *, per_topic: int = QUERIES_PER_TOPIC, seed: int = 0
) -> dict[str, Ranking]:
    """Returns "other_topic" and "same_topic" -> AUC of the curated pairs against ads of that kind.

    Raises:
        DataFileError: no such folder, no pairs in it, or a file that cannot be read.
    """
    rows = sample_webis(folder, per_topic, seed)
    rankings = {}
    for against in ("other_topic", "same_topic"):
        chosen = [pair for kind, pair in rows if kind in ("curated", against)]
        rankings[against] = Ranking.model_validate(await _rank(judge, chosen, encoder, "outside", seed))
    return rankings


def sample_webis(folder: str | Path, per_topic: int, seed: int = 0) -> list[tuple[str, LabelledPair]]:
    """Draws the keyed sample: for each query a "curated", an "other_topic" and a "same_topic" ad, in this order."""
    folder = Path(folder)
    topics = sorted(path.name.removesuffix("_query_pairs.csv") for path in folder.glob("*_query_pairs.csv"))
    if len(topics) < 2:
        raise DataFileError(f"{folder}: expected at least two files TOPIC_query_pairs.csv, got {len(topics)}")
    ads = {topic: _ads(folder / f"{topic}_qualities.csv", topic) for topic in topics}
    rows = []
    for topic in topics:
        curated: dict[str, list[str]] = {}
        for row in read_rows(folder / f"{topic}_query_pairs.csv"):
            require(row, ["query", "advertisement"])
            if row.fields["advertisement"] in ads[topic]:
                curated.setdefault(row.fields["query"], []).append(row.fields["advertisement"])
        others = [(other, name) for other in topics if other != topic for name in ads[other]]
        order = keyed_rng("validity-webis", seed, topic).permutation(len(curated))
        for query in [list(curated)[i] for i in order[:per_topic]]:
            rng = keyed_rng("validity-webis", seed, topic, query)
            other, name = others[rng.integers(len(others))]
            same = sorted(set(ads[topic]) - set(curated[query]))
            picks = (
                ("curated", ads[topic][curated[query][rng.integers(len(curated[query]))]], 1),
                ("other_topic", ads[other][name], 0),
                ("same_topic", ads[topic][same[rng.integers(len(same))]], 0),
            )
            for kind, ad, label in picks:
                rows.append((kind, LabelledPair(query, ad, _WEBIS.replace("QUALITIES", ad.body), label)))
    return rows


async def measure_labels(
    judge: CachedJudge, path: str | Path, encoder: Encoder, columns: Mapping[str, str] | None = None, seed: int = 0
) -> LabelledRanking:
    """Measures AUC, Brier score and calibration on a labelled file.

    Raises:
        DataFileError: unreadable file, a missing column, or a label that is not 0 or 1.
        InputError: all labels are equal.
    """
    ours = ("query", "ad", "label", "title")
    check_columns(columns, ours)
    read = known_rows(Path(path), ours, ours[:3], columns, option="label_columns")
    rows = [_labelled_pair(row) for row in read]
    labels = [row.label for row in rows]
    if len(set(labels)) < 2:
        raise InputError(f"{path}: all labels are {labels[0]}, expected some 0 and some 1")
    return LabelledRanking.model_validate(await _rank(judge, rows, encoder, "labels", seed, calibrate=True))


async def _rank(
    judge: CachedJudge,
    rows: Sequence[LabelledPair],
    encoder: Encoder,
    section: str,
    seed: int,
    *,
    calibrate: bool = False,
) -> dict[str, Any]:
    cases = [plain_case(f"{section}.{seed}.{keyed_int(r.query, r.ad.id)}", r.query, r.ad, r.sentence) for r in rows]
    verdicts = await judge.ask(cases, section)
    decided = [(row, verdict.prob) for row, verdict in zip(rows, verdicts, strict=True) if verdict.prob is not None]
    labels, probs = [row.label for row, _ in decided], [prob for _, prob in decided]
    queries = [row.query for row, _ in decided]
    vectors = [encoder.encode([row.query, row.ad.text]) for row, _ in decided]
    ranking: dict[str, Any] = {
        "queries": len(set(queries)),
        "pairs": len(decided),
        "abstained": len(rows) - len(decided),
        "auc": auc(labels, probs, queries, section, seed),
        "cosine_auc": auc(labels, [float(a @ b) for a, b in vectors], queries, section, seed),
        "pairs_sha256": hashlib.sha256(repr([(r.query, r.ad.text, r.label) for r in rows]).encode()).hexdigest(),
    }
    if calibrate:
        errors = np.array(probs) - np.array(labels)
        ranking |= {
            "base_rate": sum(row.label for row in rows) / len(rows),
            "brier": float((errors**2).mean()) if decided else None,
            "calibration": deciles(probs, labels),
        }
    return ranking


def _ads(path: Path, topic: str) -> dict[str, Ad]:
    """Returns name -> ad of one topic. All ads keep the default category, so tastes for topics have no effect."""
    ads = {}
    for row in read_rows(path):
        require(row, ["advertisement", "qualities"])
        name = row.fields["advertisement"]
        ads[name] = _ad(row, name, row.fields["qualities"].strip().rstrip("."), topic)
    return ads


def _labelled_pair(row: Row) -> LabelledPair:
    text = str(row.fields["ad"]).strip()
    label = str(row.fields["label"]).strip().lower()
    if label not in _LABELS:
        raise DataFileError(f"{row.where}: label: expected 0 or 1, got {label!r}")
    title = str(row.fields.get("title") or " ".join(text.split()[:8]))
    ad = _ad(row, title, text)
    return LabelledPair(str(row.fields["query"]), ad, f"{{link}}: {text}", _LABELS[label])


def _ad(row: Row, title: str, body: str, topic: str = "") -> Ad:
    clean = " ".join(re.sub(r"[@\[\]]", "", title).split())[:120]
    ad_id = f"A{keyed_int('validity-ad', topic, title, body) % 10**6:06d}"
    return to_record(row, Ad, {"id": ad_id, "advertiser": clean, "title": clean, "body": body})
