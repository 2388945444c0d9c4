"""Click logs of known worlds, without texts: what is measured of their answers is drawn at random."""

from __future__ import annotations

import numpy as np

from simenv.fitting.arrays import Answer
from simenv.judges.click_measures import AdMeasures, AnswerMeasures
from simenv.judges.click_model import ClickModel
from simenv.judges.click_worlds import ClickParams
from simenv.records import Traits
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder

OFFERS = 40


def drawn_answers(params: ClickParams, n: int, *, users: int, most_ads: int = 4, seed: int = 0) -> list[Answer]:
    """Answers with one to `most_ads` ads, whose clicks the world draws independently."""
    rng, memory = keyed_rng("drawn-answers", seed), keyed_rng("drawn-memories", seed)
    judge = ClickModel(FakeEncoder(), params)
    traits = [
        Traits(ad_tolerance=rng.random(), price_sensitivity=rng.random(), patience=rng.random()) for _ in range(users)
    ]
    answers: list[Answer] = []
    for _ in range(n):
        user, count = int(rng.integers(users)), int(rng.integers(1, most_ads + 1))
        cosines = rng.uniform(0, 0.6, (count, count))
        cosines = np.maximum(cosines, cosines.T)
        measures = AnswerMeasures(
            traits=traits[user],
            ads=tuple(_ad(rng, user, rank) for rank in range(count)),
            cosines=cosines,
            leaked=False,
            leak=-1.0,
        )
        if judge.remembers:
            seen = memory.integers(0, 3, (count, 2)).tolist()
            ads = (ad._replace(repeated=k, earlier=m) for ad, (k, m) in zip(measures.ads, seen, strict=True))
            measures = measures._replace(ads=tuple(ads))
        probs = judge.probabilities_of(measures)
        answers.append(Answer(f"user-{user}", measures, [bool(rng.random() < p) for p in probs.values()]))
    return answers


def _ad(rng: np.random.Generator, user: int, rank: int) -> AdMeasures:
    return AdMeasures(
        id=f"ad-{rank}",
        persona_id=f"user-{user}",
        category="general",
        offer=f"offer {int(rng.integers(OFFERS))}",
        cosine=float(rng.normal(0.4, 0.15)),
        affinity=float(rng.uniform(-0.8, 0.8)),
        cheap=float(rng.normal(0, 0.6)),
        log_amount=float(rng.normal(0, 0.5)),
        rank=rank,
        words_before=int(rng.integers(0, 150)),
        pressure=float(rng.uniform(-0.4, 0.5)),
        shouting=int(rng.integers(0, 3)),
        coherence=float(rng.uniform(0, 0.6)),
        labelled=bool(rng.random() < 0.5),
        persuasion=float(rng.uniform(-0.6, 0.8)),
    )
