"""Fits the embedded judge to the development part of the contrast suite and writes simenv/users/embedded_judge.json.

    python benchmarks/fit_embedded_judge.py [--out FILE]

The suite states which of two answers has the higher click probability. So the weights are fitted to the order of pairs
(Bradley and Terry 1952): P(first before second) = sigmoid(w (x_first - x_second)), with an L2 penalty on w in units of
each feature's spread. w >= 0, because every feature is defined to increase with the click probability. A paraphrase
must not change a click, so pairs of paraphrases are ties. The penalty is chosen by cross-validation that leaves out one
category at a time. The reported shares by kind come from this cross-validation.

An order does not determine the scale and the level of the log-odds, so both are set by constants. Scale: the first of a
pair is taken as the better one with probability SURE instead of 1, so the better side of any contrast has about
SURE / (1 - SURE) times the odds of a click. With probability 1, pairs that are ordered without error would increase the
weights without bound and move click probabilities to 0 and 1. Level: the intercept gives the suite's fitting ads a mean
click probability of BASE_RATE.

The test part of the suite is never read.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq, minimize
from scipy.special import expit

from simenv.encoder import default_encoder
from simenv.judges import embedded_judge
from simenv.judges.features import FEATURES, FeatureReader
from simenv.llm import make_llm
from simenv.llm.weights import embedded_path, encoder_path
from simenv.runs.folder import records_hash
from simenv.validity import contrasts, placebos
from simenv.validity.cases import Case
from simenv.validity.scenarios import load_scenarios

BASE_RATE = 0.2
"""Mean click probability of the suite's fitting ads (native wording, one ad, ordinary persona). Chosen, not fitted."""
SURE = 0.9
"""Probability that the better side of a contrast has the higher click probability: nine times the odds. Chosen, not
fitted."""
PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
TIE = "paraphrase"
Array = npt.NDArray[np.float64]


class ContrastPair(NamedTuple):
    """Features of two ads. The first has the higher click probability, or both have the same (ties)."""

    kind: str
    category: str
    first: Array
    second: Array


class Fit(NamedTuple):
    """Weights with the results of cross-validation for their penalty."""

    weights: Array
    penalty: float
    loss: float
    shares: dict[str, float]


async def read_pairs(reader: FeatureReader) -> list[ContrastPair]:
    """Features of all contrasts and paraphrases, except pairs with an ad that is not in the text."""
    rows = []
    for scenario in load_scenarios("dev"):
        chosen = [(p.kind, p.first, p.second) for p in contrasts.pairs(scenario) if p.kind != "absent"]
        chosen += [(TIE, p.before, p.after) for p in placebos.pairs(scenario) if p.placebo == TIE]
        for kind, first, second in chosen:
            sides = [await _features(reader, case) for case in (first, second)]
            rows.append(ContrastPair(kind, scenario.category, *sides))
    return rows


async def _features(reader: FeatureReader, case: Case) -> Array:
    rows = await reader.read(case.persona, case.auction, case.outcome)
    place = [placement.ad_id for placement in case.outcome.placements].index(case.ad_id)
    row = rows[place]
    assert row is not None, case.ad_id
    return np.array([row[name] for name in FEATURES])


def fit(pairs: Sequence[ContrastPair], use: Sequence[bool] | None = None) -> Fit:
    """Weights at the penalty with the lowest cross-validated loss.

    Args:
        pairs: The pairs to order.
        use: Whether each feature may have a nonzero weight; all by default.
    """
    gaps = np.array([pair.first - pair.second for pair in pairs])
    gaps = gaps * (np.ones(gaps.shape[1]) if use is None else np.array(use, dtype=np.float64))
    spread = np.sqrt((gaps**2).mean(0)) + 1e-12
    x, target = gaps / spread, np.array([0.5 if pair.kind == TIE else SURE for pair in pairs])
    categories = np.array([pair.category for pair in pairs])
    best: Fit | None = None
    for penalty in PENALTIES:
        margin = np.zeros(len(pairs))
        for category in np.unique(categories):
            out = categories == category
            margin[out] = x[out] @ _minimize(x[~out], target[~out], penalty)
        loss = float(_losses(margin, target).mean())
        if best is None or loss < best.loss:
            best = Fit(_minimize(x, target, penalty) / spread, penalty, loss, _shares(pairs, margin))
    assert best is not None
    return best


def _minimize(x: Array, target: Array, penalty: float) -> Array:
    def objective(w: Array) -> tuple[float, Array]:
        margin = x @ w
        slope = expit(margin) - target
        return float(_losses(margin, target).sum() + penalty / 2 * w @ w), x.T @ slope + penalty * w

    start, bounds = np.full(x.shape[1], 0.5), [(0, None)] * x.shape[1]
    return np.asarray(minimize(objective, start, jac=True, bounds=bounds, method="L-BFGS-B").x)


def _losses(margin: Array, target: Array) -> Array:
    return np.asarray(target * np.logaddexp(0, -margin) + (1 - target) * np.logaddexp(0, margin))


def _shares(pairs: Sequence[ContrastPair], margin: Array) -> dict[str, float]:
    kinds = list(dict.fromkeys(pair.kind for pair in pairs if pair.kind != TIE))
    right = (margin > 0) + 0.5 * (margin == 0)
    return {k: float(np.mean([r for pair, r in zip(pairs, right, strict=True) if pair.kind == k])) for k in kinds}


def level(pairs: Sequence[ContrastPair], weights: Array) -> float:
    """The intercept at which the fitting ads have a mean click probability of BASE_RATE."""
    log_odds = np.array([pair.first @ weights for pair in pairs if pair.kind == "relevance"])
    return float(brentq(lambda b: float(expit(log_odds + b).mean()) - BASE_RATE, -1e4, 1e4))


def mean_rates(pairs: Sequence[ContrastPair], weights: Array, intercept: float) -> dict[str, list[float]]:
    """Kind -> mean click probability of the better and of the worse side."""
    return {
        kind: [
            round(float(expit(np.array(side) @ weights + intercept).mean()), 3)
            for side in zip(*((pair.first, pair.second) for pair in pairs if pair.kind == kind), strict=True)
        ]
        for kind in dict.fromkeys(pair.kind for pair in pairs)
    }


def _sha256(folder: Path) -> str:
    """Hash of a model's weights file."""
    with next(folder.glob("*.safetensors")).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Fits with and without each group of features, prints the results and writes the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(embedded_judge.__file__).with_suffix(".json"))
    out: Path = parser.parse_args().out
    llm, encoder = make_llm("embedded"), default_encoder()
    started = time.perf_counter()
    pairs = asyncio.run(read_pairs(FeatureReader(encoder, llm)))
    print(f"{len(pairs)} pairs read in {time.perf_counter() - started:.0f} s")
    names = list(FEATURES)
    fits = {
        "all features": fit(pairs),
        "without the language model": fit(pairs, ["channel" not in name for name in names]),
        "without the cues": fit(pairs, ["cue" not in name for name in names]),
    }
    for group, one in fits.items():
        show(group, one)
    best = fits["all features"]
    intercept = level(pairs, best.weights)
    ties = np.array([(pair.first - pair.second) @ best.weights for pair in pairs if pair.kind == TIE])
    numbers: dict[str, Any] = {
        "intercept": round(intercept, 4),
        "weights": {name: round(float(w), 4) for name, w in zip(names, best.weights, strict=True)},
        "fitted": {
            "by": "python benchmarks/fit_embedded_judge.py",
            "on": datetime.now(UTC).date().isoformat(),
            "to": "order of pairs in the development part of the contrast suite; paraphrases are ties",
            "scenarios_sha256": records_hash(load_scenarios("dev")),
            "models": {llm.name: _sha256(embedded_path()), encoder.name: _sha256(encoder_path())},
            "pairs": sum(pair.kind != TIE for pair in pairs),
            "ties": len(ties),
            "penalty": best.penalty,
            "cross_validated_loss": round(best.loss, 4),
            "cross_validated_shares": {kind: round(share, 3) for kind, share in best.shares.items()},
            "cross_validated_mean_share": {group: round(_mean_share(one), 3) for group, one in fits.items()},
            "log_odds_moved_by_a_paraphrase": round(float(np.abs(ties).mean()), 3),
            "click_prob_by_kind": mean_rates(pairs, best.weights, intercept),
            "base_rate": BASE_RATE,
            "sure": SURE,
        },
    }
    out.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(f"written to {out}")


def _mean_share(result: Fit) -> float:
    return sum(result.shares.values()) / len(result.shares)


def show(name: str, result: Fit) -> None:
    """Prints one line: cross-validated loss and shares of correctly ordered pairs."""
    shares = ", ".join(f"{kind} {share:.2f}" for kind, share in result.shares.items())
    mean = _mean_share(result)
    print(f"{name}: loss {result.loss:.3f}, correctly ordered {mean:.3f} ({shares}), penalty {result.penalty}")


if __name__ == "__main__":
    main()
