"""Fakes: faulty judges, and a model with random probabilities of its choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from simenv.judges.click_model import ClickModel
from simenv.llm import Completion, OneOf, Prompt, Request, ScriptedLLM
from simenv.llm.base import ScoreRequest, Scores
from simenv.records import Auction, Click, Feedback, Outcome, Persona
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder


class ConstantJudge:
    """Gives every ad the same click probability; with None, only verdicts."""

    name = "constant"

    def __init__(self, prob: float | None = 0.3, clicked: bool | None = True) -> None:
        self._click = (clicked, prob)

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        clicked, prob = self._click
        return Feedback(
            clicks=tuple(Click(ad_id=p.ad_id, clicked=clicked, click_prob=prob) for p in outcome.placements)
        )


class RandomJudge:
    """Gives random probabilities, equal for equal inputs."""

    name = "random"

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        inputs = [part.model_dump_json() for part in (persona, auction, outcome)]
        rng = keyed_rng("random-judge", *inputs)
        probs = [float(rng.random()) for _ in outcome.placements]
        return Feedback(
            clicks=tuple(
                Click(ad_id=p.ad_id, clicked=bool(prob > 0.5), click_prob=prob)
                for p, prob in zip(outcome.placements, probs, strict=True)
            )
        )


class FormulaJudge:
    """Click probability as a function of persona, auction, outcome and ad id, for faulty judges."""

    name = "formula"

    def __init__(self, formula: Callable[[Persona, Auction, Outcome, str], float | None]) -> None:
        self._formula = formula
        self.asked = 0

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        self.asked += 1
        rows = [(p.ad_id, self._formula(persona, auction, outcome, p.ad_id)) for p in outcome.placements]
        return Feedback(
            clicks=tuple(
                Click(ad_id=ad_id, clicked=None if prob is None else prob > 0.5, click_prob=prob)
                for ad_id, prob in rows
            )
        )


class Hesitant:
    """The click model, but it abstains on ads with an even bid."""

    name = "hesitant"

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        feedback = await ClickModel(FakeEncoder()).judge(persona, auction, outcome)
        amounts = {bid.ad.id: bid.amount for bid in auction.bids}
        none = {"clicked": None, "click_prob": None, "reason": "cannot say"}
        clicks = [c.model_copy(update=none) if amounts[c.ad_id] % 2 == 0 else c for c in feedback.clicks]
        return Feedback(clicks=tuple(clicks))


class FakeChooser(ScriptedLLM):
    """The scripted model with random probabilities of the options, drawn by the prompt's text.

    Completions and scores have the same probabilities, as with a real model.
    """

    def probs(self, prompt: Prompt, options: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return keyed_rng("fake-chooser", prompt.user).dirichlet(np.full(len(options), 2.0))

    async def _generate(self, request: Request) -> Completion:
        if not isinstance(request.constraint, OneOf):
            return await super()._generate(request)
        options = request.constraint.options
        probs = self.probs(request.prompt, options)
        choice = int(keyed_rng("fake-choice", *request.key).choice(len(options), p=probs))
        return Completion(text=options[choice], logprobs=(float(np.log(probs[choice])),))

    async def _score(self, request: ScoreRequest) -> Scores:
        if not isinstance(request.constraint, OneOf):
            return await super()._score(request)
        probs = dict(
            zip(request.constraint.options, self.probs(request.prompt, request.constraint.options), strict=True)
        )
        return Scores(logprobs=tuple((float(np.log(probs[text])),) for text in request.continuations))
