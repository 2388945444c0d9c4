"""Fits a click-intent evaluator (`simenv.ctr.evaluator`) to readings, and measures it on held-out readers and ads.

Readings are split by persona and by ad. Of the personas, every fifth is held out for the measurement and every fifth
for the map from scores to probabilities; of the ads, every fifth is held out for the measurement. So the head, the map
and the measurement never share a reader, and the file holds the model that was measured.

Grades of click intent come from the readers' click probabilities, cut at the quintiles of the readings that the head
learns from; if the judge gives verdicts alone, they are 1 and 5. The auxiliary grades are cut in the same way from
cosines of the encoder:

    relevance       question and the ad's own copy
    coherence       the ad's sentence and the nearest sentence before it, or the question
    effectiveness   the ad's sentence and the ad's own copy: how much of the offer the sentence conveys
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from simenv.ctr.ad_view import COUNTS, PAIRS, inputs, width
from simenv.ctr.evaluator import Evaluator, normalized
from simenv.ctr.evaluator_file import EvaluatorFile, encoded
from simenv.ctr.learned import HeldOutQuality, calibration_error, fit
from simenv.ctr.models import CosineCTR
from simenv.ctr.monotone_map import MonotoneMap, fit_map
from simenv.ctr.ordinal import AUXILIARY, GRADES, UNITS, OrdinalHead, fit_head
from simenv.encoder import Encoder
from simenv.errors import InputError
from simenv.fitting.readings import SHOWN, SOURCES, Reading

Floats = npt.NDArray[np.float64]
Grades = npt.NDArray[np.int64]
TARGETS = ("click intent", "relevance", "coherence", "effectiveness")
_HELD_OUT = 5
"""Every fifth persona measures, every fifth fits the map, every fifth ad measures."""
_AUXILIARY_PAIRS = tuple(PAIRS.index(pair) for pair in ("query-offer", "before-words", "offer-words"))


class Part(NamedTuple):
    """Predictions for one held-out part."""

    name: str
    rows: int
    clicks: int
    quality: list[HeldOutQuality]
    """None of them where the part has no clicks or only clicks."""
    correlation: dict[str, float]
    """Model -> Spearman correlation with the readers' click probabilities; empty if the judge gives none."""


class FittedEvaluator(NamedTuple):
    """An evaluator and how well it predicts held-out readings."""

    evaluator: Evaluator
    parts: list[Part]
    readings: dict[str, int]
    """Number of readings for head, map and measurement."""


def fit_evaluator(
    rows: Sequence[Reading],
    encoder: Encoder,
    *,
    grades: Grades | None = None,
    graded_by: str = "",
    seed: int = 0,
    log: str = "",
    units: int = UNITS,
    auxiliary: float = AUXILIARY,
) -> FittedEvaluator:
    """Fits the head and the map, and measures the result.

    Args:
        rows: The readings.
        encoder: The encoder, which stays as it is.
        grades: Grades of `TARGETS` from a grader: shape (rows, 4), 1 to 5, 0 where there is none. By default they
            come from the click probabilities and from cosines, as above.
        graded_by: Name of that grader.
        seed: Names the draw of the first weights.
        log: Name of the run, for the model's name.
        units: Number of hidden units.
        auxiliary: Weight of each auxiliary target.

    Raises:
        InputError: too few readings, or readings that are all alike.
    """
    held = _split(rows)
    head_rows, map_rows = np.flatnonzero(held == "head"), np.flatnonzero(held == "map")
    if len(head_rows) < 2 or not len(map_rows):
        personas, ads = len({r.impression.persona for r in rows}), len({r.impression.ad for r in rows})
        raise InputError(
            f"an evaluator needs readings by at least three personas and of two ads, got {len(rows)} by {personas} of "
            f"{ads}: run more auctions"
        )
    raw = inputs(encoder, [row.view for row in rows])
    mean, scale = _scaling(raw[head_rows])
    x = normalized(raw, mean, scale)
    intent = np.array([row.intent for row in rows])
    of_cosines = grades is None
    if grades is None:
        cosines = raw[:, -len(COUNTS) - len(PAIRS) : -len(COUNTS)]
        levels = [intent, *(cosines[:, pair] for pair in _AUXILIARY_PAIRS)]
        grades = np.stack([_graded(level, level[head_rows]) for level in levels], axis=1)
    head = fit_head(x[head_rows], grades[head_rows], seed=seed, units=units, auxiliary=auxiliary)
    scores = head.scores(x)[:, 0]
    found = fit_map(scores[map_rows], intent[map_rows])
    learned: dict[str, JsonValue] = {
        "log": log,
        "readings": len(rows),
        "sources": {source: sum(row.source == source for row in rows) for source in SOURCES},
        "personas": len({row.impression.persona for row in rows}),
        "ads": len({row.impression.ad for row in rows}),
        "grades": "click probabilities and cosines, at quintiles" if of_cosines else f"by {graded_by or 'a grader'}",
    }
    file = EvaluatorFile(
        encoder=encoder.name,
        dimension=(raw.shape[1] - width(0)) // (len(PAIRS) + 1),
        units=units,
        targets=TARGETS,
        map=found,
        position_discount=_position_discount(raw[map_rows], mean, scale, head, found),
        learned=learned,
        **encoded({"mean": mean, "scale": scale, **head._asdict()}),
    )
    evaluator = Evaluator(file, encoder)
    predicted = {
        "evaluator": found(scores),
        "its grades as they are": (head.expected_grades(x)[:, 0] - 1) / (GRADES - 1),
    }
    own = np.array([row.source in SHOWN for row in rows])
    parts = [
        _measured(name, rows, np.flatnonzero((held == name) & own), head_rows, predicted)
        for name in ("personas", "ads")
    ]
    counts = {name: int((held == name).sum()) for name in ("head", "map", "personas", "ads")}
    return FittedEvaluator(evaluator, parts, counts)


def _split(rows: Sequence[Reading]) -> npt.NDArray[np.str_]:
    """Which part each reading is in: "head", "map", "personas" (held-out readers) or "ads" (held-out ads)."""
    of_run = [row.impression for row in rows if row.source in SHOWN]
    personas, ads = sorted({shown.persona for shown in of_run}), sorted({shown.ad for shown in of_run})
    measured, mapped, left_out = set(personas[::_HELD_OUT]), set(personas[1::_HELD_OUT]), set(ads[::_HELD_OUT])

    def part(row: Reading) -> str:
        if row.source == "contrasts":  # of people and ads of their own
            return "head"
        if row.impression.persona in measured:
            return "personas"
        if row.impression.ad in left_out:
            return "ads"
        return "map" if row.impression.persona in mapped else "head"

    return np.array([part(row) for row in rows])


def _scaling(raw: Floats) -> tuple[Floats, Floats]:
    """Mean and scale of each input: a number has variance 1, the vector of a product or text has mean square 1."""
    mean = np.nan_to_num(np.nanmean(raw, axis=0))
    spread = np.nanmean((raw - mean) ** 2, axis=0)
    numbers = len(PAIRS) + len(COUNTS)
    scale = np.sqrt(np.where(spread > 1e-12, spread, 1.0))
    for block in np.split(np.arange(raw.shape[1] - numbers), len(PAIRS) + 1):
        scale[block] = np.sqrt(max(float(spread[block].sum()), 1e-12))
    return mean, scale


def _graded(level: Floats, reference: Floats) -> Grades:
    """Grades 1 to 5 by the quintiles of `reference`; 1 and 5 if it has two values only."""
    if len(np.unique(reference)) == 2:
        return np.where(level >= reference.max(), GRADES, 1)
    return 1 + np.searchsorted(np.quantile(reference, np.arange(1, GRADES) / GRADES), level, side="left")


def _position_discount(raw: Floats, mean: Floats, scale: Floats, head: OrdinalHead, found: MonotoneMap) -> float:
    """How much lower the same ads' probabilities are at the second place than at the first: a ratio of means.

    As in the cosine model, where no reading is of an ad at a second place.
    """
    column = raw.shape[1] - len(COUNTS)
    if not (raw[:, column] > 0).any():
        return CosineCTR().position_discount
    means = []
    for rank in (0.0, 1.0):
        moved = raw.copy()
        moved[:, column] = rank
        means.append(float(found(head.scores(normalized(moved, mean, scale))[:, 0]).mean()))
    return float(np.clip(means[1] / means[0], 0.05, 1.0))


def _measured(
    name: str,
    rows: Sequence[Reading],
    test: npt.NDArray[np.int64],
    train: npt.NDArray[np.int64],
    predicted: Mapping[str, Floats],
) -> Part:
    from sklearn.metrics import log_loss, roc_auc_score

    shown = [rows[i].impression for i in test]
    truth = np.array([row.clicked for row in shown], dtype=np.float64)
    if not len(test) or truth.min() == truth.max():
        return Part(name, len(test), int(truth.sum()), [], {})
    training = [rows[i].impression for i in train if rows[i].source in SHOWN]
    cosine = CosineCTR()
    all_predicted = {model: np.clip(values[test], 1e-6, 1 - 1e-6) for model, values in predicted.items()}
    logits = cosine.slope * (np.array([row.cosine for row in shown]) - cosine.centre)
    discounts = cosine.position_discount ** np.array([row.rank for row in shown])
    all_predicted["cosine"] = discounts / (1 + np.exp(-logits))
    if 0 < sum(row.clicked for row in training) < len(training):
        all_predicted["learned"] = fit(training).predict(shown)
    quality = [
        HeldOutQuality(model, float(log_loss(truth, p)), float(roc_auc_score(truth, p)), calibration_error(truth, p))
        for model, p in all_predicted.items()
    ]
    intent = np.array([rows[i].intent for i in test])
    known = len(np.unique(intent)) > 2
    correlation = {m: _rank_correlation(intent, p) for m, p in all_predicted.items()} if known else {}
    return Part(name, len(test), int(truth.sum()), quality, correlation)


def _rank_correlation(intent: Floats, predicted: Floats) -> float:
    """Spearman's, nan where all predictions are equal."""
    from scipy.stats import spearmanr

    return float(spearmanr(intent, predicted).statistic) if len(np.unique(predicted)) > 1 else math.nan
