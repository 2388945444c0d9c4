"""The embedded judge: click probabilities from a small language model and a sentence encoder.

    click probability = sigmoid(intercept + sum_k weight_k feature_k)

over the features of `features.py`, for an ad whose link is in the text. An ad without its link has probability 0. The
weights are fitted to the order of the pairs in the dev part of the contrast suite. `benchmarks/fit_embedded_judge.py`
fits them, and `embedded_judge.json` holds them with a description of the fit. The order of pairs determines neither
the level nor the spread of the probabilities. Two assumptions set these: the better side of a contrast has about nine
times the odds of a click, and the suite's relevant ads are clicked at the base rate.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files

from pydantic import Field, JsonValue, model_validator

from simenv.encoder import Encoder
from simenv.judges.base import Judge
from simenv.judges.click_worlds import QuestionParams
from simenv.judges.features import FEATURES, FeatureReader
from simenv.judges.questions import choose_by_cosines
from simenv.llm.base import LLM, metered
from simenv.records import Auction, Choice, Click, Feedback, Outcome, Persona, Record, Suggestion
from simenv.seeding import keyed_rng


class Weights(Record):
    """The parameters of the embedded judge."""

    intercept: float
    weights: dict[str, float]
    """Feature -> log-odds per unit; a feature that is not listed has weight 0."""
    fitted: dict[str, JsonValue] = Field(default_factory=dict)
    """Description of the fit, for people. The judge does not use it."""

    @model_validator(mode="after")
    def _known(self) -> Weights:
        if unknown := sorted(set(self.weights) - set(FEATURES)):
            raise ValueError(f"weights of unknown features {unknown}: known are {', '.join(FEATURES)}")
        return self

    def log_odds(self, features: Mapping[str, float]) -> float:
        """Log-odds of a click on an ad with these features."""
        return self.intercept + sum(weight * features[name] for name, weight in self.weights.items())


@cache
def fitted_weights() -> Weights:
    """The fitted parameters that ship with the project."""
    return Weights.model_validate_json((files("simenv.judges") / "embedded_judge.json").read_text(encoding="utf-8"))


class EmbeddedJudge:
    """A judge that uses the embedded models. Its probabilities are deterministic; its clicks are keyed draws.

    Args:
        llm: A language model that scores continuations, usually the embedded one.
        encoder: A text encoder, usually the embedded one.
        weights: By default those that were fitted with the embedded models.
        wording: Version of the label prompts, 1 or 2. Version 2 is the variant of version 1.

    Raises:
        MissingCapability: the language model cannot score continuations.
    """

    def __init__(self, llm: LLM, encoder: Encoder, weights: Weights | None = None, *, wording: int = 1) -> None:
        self._reader = FeatureReader(encoder, llm, wording)
        self.weights = weights or fitted_weights()
        self.name = "embedded" + (f"#wording{wording}" if wording > 1 else "")
        self.llms = (llm,)
        self._parts = (llm, encoder, wording)

    @property
    def variants(self) -> dict[str, Judge]:
        """The same judge with other wordings of its label prompts."""
        llm, encoder, wording = self._parts
        return {} if wording > 1 else {"wording2": EmbeddedJudge(llm, encoder, self.weights, wording=2)}

    @property
    def sha256(self) -> str:
        """Hash of its parameters, examples and labels, and of what computes its likelihoods, for manifests."""
        numbers = json.dumps(self.weights.model_dump(exclude={"fitted"}), sort_keys=True)
        arithmetic = [llm.arithmetic for llm in self.llms]
        return hashlib.sha256(f"{numbers}\n{self._reader.texts}\n{arithmetic}".encode()).hexdigest()

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        if outcome.placements:
            await self._reader.measure_labels()
        with metered() as meter:
            features = await self._reader.read(persona, auction, outcome)
        clicks = []
        for placement, row in zip(outcome.placements, features, strict=True):
            prob = 0.0 if row is None else _sigmoid(self.weights.log_odds(row))
            clicked = bool(keyed_rng("embedded-click", auction.id, placement.ad_id).random() < prob)
            clicks.append(Click(ad_id=placement.ad_id, clicked=clicked, click_prob=prob))
        return Feedback(clicks=tuple(clicks), usage=meter.usage)

    async def choose(self, persona: Persona, auction: Auction, questions: Sequence[Suggestion]) -> Choice:
        """By the encoder's cosines, with the numbers of world v1."""
        return await choose_by_cosines(self._parts[1], QuestionParams(), persona, auction, questions)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))
