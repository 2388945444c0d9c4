"""Intervals hold the truth often enough where there are few personas and few clicks."""

from __future__ import annotations

import math

import pytest

from simenv.runs.click_metrics import CTR, Revenue
from simenv.runs.summary import Table, summarize
from simenv.seeding import keyed_rng
from simenv.stats import Estimate
from tests.support.hand_made import turn

RUNS = 400
TRUTH = 0.05
"""Click probability of an ad, on average over personas."""


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("spread", [0.0, 0.5], ids=["alike", "unlike"])
@pytest.mark.parametrize("personas", [3, 5, 8, 12, 16])
def test_95_percent_intervals_of_rare_clicks_by_few_personas(personas: int, spread: float) -> None:
    """4 to 12 answers of one ad per persona. `spread`: relative standard deviation of the personas' probabilities.

    The aim is 0.93. A true coverage of 0.93 is below the limit with probability 0.001 in 400 runs.
    """
    held = {"ctr": 0, "difference": 0}
    flat = 0
    for number in range(RUNS):
        table = simulated(personas, spread, number)
        ctr = next(c.estimate for c in table.cells if (c.mechanism, c.metric) == ("m", "ctr"))
        difference = next(c.difference for c in table.cells if (c.mechanism, c.metric) == ("m", "revenue"))
        held["ctr"] += holds(ctr, TRUTH)
        held["difference"] += holds(difference, 0.0)
        flat += ctr.low == ctr.high
    print(f"\n{personas} personas, spread {spread}: { ({k: n / RUNS for k, n in held.items()}) }, without width {flat}")
    limit = 0.93 - 3.09 * math.sqrt(0.93 * 0.07 / RUNS)
    assert all(n / RUNS >= limit for n in held.values()), held
    assert flat == 0


def simulated(personas: int, spread: float, number: int) -> Table:
    """Two mechanisms with the same ad at the same price; each answer's click is drawn anew."""
    rng = keyed_rng("coverage of rare clicks", personas, spread, number)
    rows = []
    for persona in range(personas):
        chance = TRUTH * (rng.gamma(1 / spread**2, spread**2) if spread else 1.0)
        for _ in range(int(rng.integers(4, 13))):
            index = len(rows) // 2
            for mechanism in ("base", "m"):
                clicked = bool(rng.random() < min(chance, 1.0))
                rows.append(turn(index, {"a": (clicked, None)}, f"p{persona}", mechanism))
    return summarize(rows, metrics=[CTR(), Revenue()])


def holds(estimate: Estimate | None, truth: float) -> bool:
    assert estimate is not None
    return estimate.low <= truth <= estimate.high
