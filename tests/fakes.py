"""Fakes: an encoder without weights, a small world built on it (everything else in that world is the real part), and
judges that are broken on purpose.

Nothing measured with the fake encoder says anything about relevance; it only makes runs quick and reproducible.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from simenv.encoder import Vectors
from simenv.judges.click_model import ClickModel
from simenv.llm import Completion, OneOf, Prompt, Request, ScriptedLLM
from simenv.llm.base import ScoreRequest, Scores
from simenv.records import Ad, Auction, Bid, Click, Feedback, Outcome, Persona, Query, Traits
from simenv.seeding import keyed_int, keyed_rng
from simenv.users.queries import FrozenQueries
from simenv.world import World

_WORD = re.compile(r"[a-z0-9]+")


class FakeEncoder:
    """A bag of words, each hashed to one of `dimension` places: texts with common words are near, others are not."""

    name = "fake"

    def __init__(self, dimension: int = 256) -> None:
        self.dimension = dimension

    def encode(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimension), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word in _WORD.findall(text.lower()) or [""]:
                row[_place(word) % self.dimension] += 1
        unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


@cache
def _place(word: str) -> int:
    return keyed_int("fake-encoder", word)


_ADS = (
    ("shoes", "TrailFox", "TrailFox Hiking Boots", "Waterproof hiking boots for wet trails."),
    ("shoes", "Pacer", "Pacer Road Shoes", "Light running shoes for long roads."),
    ("shoes", "Strolla", "Strolla City Sneakers", "Affordable sneakers for walking in town."),
    ("banking", "Nordbank", "Nordbank Savings Account", "A savings account with no monthly fee."),
    ("banking", "Lendwise", "Lendwise Small Loan", "A small loan for a car or a kitchen."),
    ("banking", "Tallyo", "Tallyo Budget App", "An app that keeps a budget of monthly spending."),
    ("travel", "Seabreeze", "Seabreeze Hotels", "Premium hotels by the sea with breakfast."),
    ("travel", "RailHop", "RailHop Pass", "One rail pass for every train in the country."),
    ("travel", "Tentopia", "Tentopia Campsites", "Quiet campsites near lakes and trails."),
    ("kitchen", "Brewlet", "Brewlet Coffee Maker", "A coffee maker for two cups in the morning."),
    ("kitchen", "Sharpen", "Sharpen Chef Knife", "A chef knife that stays sharp for cooking vegetables."),
    ("kitchen", "Greenbox", "Greenbox Recipe Kit", "A weekly box of vegetables with easy recipes."),
)

ADS = tuple(
    Ad(id=f"ad-{number}", advertiser=advertiser, title=title, body=body, category=category)
    for number, (category, advertiser, title, body) in enumerate(_ADS, start=1)
)

PERSONAS = (
    Persona(
        id="walker",
        info="A teacher of 41 from Leeds who walks at weekends.",
        interests=("hiking", "birds"),
        attitude="Reads an ad if it is about the outdoors.",
        traits=Traits(ad_tolerance=0.8, price_sensitivity=0.3, patience=0.9, affinity={"shoes": 0.7}),
        queries=(
            "Which hiking boots stay dry on wet trails?",
            "Where are quiet campsites near a lake?",
            "Is a rail pass worth it for one week?",
        ),
    ),
    Persona(
        id="saver",
        info="A student of 22 from Porto with a small budget.",
        interests=("cooking",),
        attitude="Compares every price and dislikes luxury.",
        traits=Traits(ad_tolerance=0.4, price_sensitivity=0.9, patience=0.5, affinity={"banking": 0.4, "travel": -0.6}),
        queries=(
            "How do I keep a monthly budget?",
            "Which savings account has no fee?",
            "What are easy recipes with vegetables?",
        ),
    ),
    Persona(
        id="cook",
        info="A nurse of 35 from Lyon who cooks every evening.",
        interests=("cooking", "coffee"),
        attitude="Minds ads in recipes, not elsewhere.",
        traits=Traits(ad_tolerance=0.6, price_sensitivity=0.5, patience=0.7, affinity={"kitchen": 0.9}),
        queries=(
            "Which chef knife stays sharp?",
            "What coffee maker is good for two cups?",
            "Are comfortable shoes for long hours expensive?",
        ),
    ),
    Persona(
        id="skeptic",
        info="A retired engineer of 70 from Graz.",
        attitude="Never clicks what looks like an ad.",
        traits=Traits(ad_tolerance=0.1, price_sensitivity=0.4, patience=0.3),
        queries=(
            "How do small loans work?",
            "Which hotels by the sea serve breakfast?",
            "What running shoes suit long roads?",
        ),
    ),
)


def small_world(**options: Any) -> World:
    """Twelve ads of four categories, four personas with three frozen queries each, the click model, a fake encoder.

    Args:
        **options: What `World` takes, in place of the defaults here.
    """
    encoder = FakeEncoder()
    defaults: dict[str, Any] = {
        "catalog": ADS,
        "personas": PERSONAS,
        "encoder": encoder,
        "queries": FrozenQueries(),
        "judge": ClickModel(encoder),
        "candidates": 6,
        "horizon": 3,
    }
    return World(**(defaults | options))


class ConstantJudge:
    """Every ad is clicked with the same probability; with None it gives verdicts alone."""

    name = "constant"

    def __init__(self, prob: float | None = 0.3, clicked: bool | None = True) -> None:
        self._click = (clicked, prob)

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        clicked, prob = self._click
        return Feedback(
            clicks=tuple(Click(ad_id=p.ad_id, clicked=clicked, click_prob=prob) for p in outcome.placements)
        )


class RandomJudge:
    """Probabilities that have to do with nothing, but are the same for the same question."""

    name = "random"

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        asked = [part.model_dump_json() for part in (persona, auction, outcome)]
        rng = keyed_rng("random-judge", *asked)
        probs = [float(rng.random()) for _ in outcome.placements]
        return Feedback(
            clicks=tuple(
                Click(ad_id=p.ad_id, clicked=bool(prob > 0.5), click_prob=prob)
                for p, prob in zip(outcome.placements, probs, strict=True)
            )
        )


class FormulaJudge:
    """Click probability as a function of persona, auction, outcome and ad id: for judges broken on purpose."""

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


def small_auction(n: int = 4, *, max_ads: int = 2, reserve: float = 0.0) -> Auction:
    """Up to six of the ads with bids of their own, the more relevant first."""
    amounts, cosines = (50.0, 30.0, 60.0, 20.0, 45.0, 10.0), (0.6, 0.5, 0.45, 0.3, 0.2, 0.1)
    bids = tuple(
        Bid(ad=ad, amount=amount, relevance=cosine)
        for ad, amount, cosine in zip(ADS[:n], amounts, cosines, strict=False)
    )
    query = Query(text="Which hiking boots stay dry on wet trails?")
    return Auction(
        id=f"small.{n}", query=query, profile=PERSONAS[0].profile, bids=bids, max_ads=max_ads, reserve=reserve
    )


class FakeChooser(ScriptedLLM):
    """The scripted model, but its choices among options have probabilities of their own, drawn by the prompt's text.

    Asked and scored choices agree, as they do with a real model.
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
