"""A FAKE encoder, and a small world with it. All other parts of that world are real.

The fake encoder makes runs fast, reproducible and independent of weights. Its similarities do not measure relevance.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from simenv.encoder import Vectors
from simenv.judges.click_model import ClickModel
from simenv.records import Ad, Persona, Traits
from simenv.seeding import keyed_int
from simenv.users.queries import FrozenQueries
from simenv.world import World

_WORD = re.compile(r"[a-z0-9]+")


class FakeEncoder:
    """A bag of words, each hashed to one of `dimension` places: texts with common words are similar."""

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
"""Twelve ads of four categories, ad-1 to ad-12."""

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
"""Four people with three frozen queries each."""


def small_world(**options: Any) -> World:
    """A world of `ADS` and `PERSONAS`, the click model and a fake encoder.

    Args:
        **options: Arguments of `World` that replace the defaults.
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
