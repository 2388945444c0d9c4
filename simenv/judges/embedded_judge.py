"""The embedded judge: a small language model and a sentence encoder that click, as well as they can.

    click probability = sigmoid(intercept + sum_k weight_k feature_k)

over the features of `judge_features.py`, for an ad that is in the text; an ad that is not is never clicked. The
weights are fitted to the order of pairs, on the development part of the contrast suite alone; the file says how
(`embedded_judge.json`, made by `benchmarks/fit_embedded_judge.py`). An order knows no level and no distance: that the
better side of a contrast has about nine times the odds of a click, and that the suite's fitting ads are clicked at the
base rate, are choices and no measurements.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from pydantic import Field, JsonValue, model_validator

from simenv.encoder import Encoder
from simenv.judges.base import Judge
from simenv.judges.features import FEATURES, Reader
from simenv.llm.base import LLM, metered
from simenv.records import Auction, Click, Feedback, Outcome, Persona, Record
from simenv.seeding import keyed_rng


class Weights(Record):
    """The numbers of the embedded judge."""

    intercept: float
    weights: dict[str, float]
    """Log-odds per unit of each feature; features not named weigh nothing."""
    fitted: dict[str, JsonValue] = Field(default_factory=dict)
    """How these numbers came about: for the reader, not read by the judge."""

    @model_validator(mode="after")
    def _known(self) -> Weights:
        if unknown := sorted(set(self.weights) - set(FEATURES)):
            raise ValueError(f"weights of unknown features {unknown}: known are {', '.join(FEATURES)}")
        return self

    def log_odds(self, features: Mapping[str, float]) -> float:
        """Of a click on an ad with these features."""
        return self.intercept + sum(weight * features[name] for name, weight in self.weights.items())


@cache
def fitted_weights() -> Weights:
    """The numbers that ship with the project."""
    return Weights.model_validate_json((files("simenv.judges") / "embedded_judge.json").read_text(encoding="utf-8"))


class EmbeddedJudge:
    """A judge made of the embedded models. Its probabilities depend on nothing random; clicks are keyed draws.

    Args:
        llm: A language model that can score, the embedded one.
        encoder: A text encoder, the embedded one.
        weights: By default those that were fitted with the embedded models.
        wording: Of the label prompts, 1 or 2; 2 is the `variants` of 1.

    Raises:
        MissingCapability: the language model cannot score.
    """

    def __init__(self, llm: LLM, encoder: Encoder, weights: Weights | None = None, *, wording: int = 1) -> None:
        self._reader = Reader(encoder, llm, wording)
        self.weights = weights or fitted_weights()
        self.name = "embedded" + (f"#wording{wording}" if wording > 1 else "")
        self.llms = (llm,)
        self._parts = (llm, encoder, wording)

    @property
    def variants(self) -> dict[str, Judge]:
        """The same judge with its label prompts in other words."""
        llm, encoder, wording = self._parts
        return {} if wording > 1 else {"wording2": EmbeddedJudge(llm, encoder, self.weights, wording=2)}

    @property
    def sha256(self) -> str:
        """Of its numbers, its examples and its labels, for manifests."""
        numbers = json.dumps(self.weights.model_dump(exclude={"fitted"}), sort_keys=True)
        return hashlib.sha256(f"{numbers}\n{self._reader.texts}".encode()).hexdigest()

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        if outcome.placements:
            await self._reader.measure_labels()
        with metered() as meter:
            features = await self._reader.read(persona, auction, outcome)
        clicks = []
        for placement, found in zip(outcome.placements, features, strict=True):
            chance = 0.0 if found is None else _sigmoid(self.weights.log_odds(found))
            clicked = bool(keyed_rng("embedded-click", auction.id, placement.ad_id).random() < chance)
            clicks.append(Click(ad_id=placement.ad_id, clicked=clicked, click_prob=chance))
        return Feedback(clicks=tuple(clicks), usage=meter.usage)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
