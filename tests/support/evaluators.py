"""Click-intent evaluators of random numbers, for the fake encoder."""

from __future__ import annotations

from typing import Any

import numpy as np

from simenv.ctr.ad_view import width
from simenv.ctr.evaluator import Evaluator
from simenv.ctr.evaluator_file import EvaluatorFile, encoded
from simenv.ctr.monotone_map import Knot, MonotoneMap
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder

DIMENSION = 32


def random_file(seed: int = 0, **fields: Any) -> EvaluatorFile:
    rng = keyed_rng("random evaluator", seed)
    inputs = width(DIMENSION)
    arrays = {
        "mean": np.zeros(inputs),
        "scale": np.ones(inputs),
        "hidden": rng.normal(size=(inputs, 4)),
        "weights": rng.normal(size=(4, 2)),
        "cuts": np.cumsum(rng.uniform(0.1, 1, (2, 4)), axis=1),
    }
    knots = tuple(Knot(score=s, probability=p, rows=10) for s, p in ((-4.0, 0.02), (0.0, 0.2), (4.0, 0.7)))
    given: dict[str, Any] = {
        "encoder": "fake",
        "dimension": DIMENSION,
        "units": 4,
        "targets": ("click intent", "relevance"),
        "map": MonotoneMap(knots=knots),
        "position_discount": 0.8,
        "learned": {"log": "here"},
        **encoded(arrays),
    }
    return EvaluatorFile(**(given | fields))


def random_evaluator(seed: int = 0) -> Evaluator:
    return Evaluator(random_file(seed), FakeEncoder(DIMENSION))
