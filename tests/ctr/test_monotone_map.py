"""The map from scores to click probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from simenv.ctr.learned import calibration_error
from simenv.ctr.monotone_map import Knot, MonotoneMap, fit_map
from simenv.errors import InputError
from simenv.seeding import keyed_rng


def test_the_map_is_strictly_monotone_and_calibrated() -> None:
    """4,000 clicks at a known probability: the error of a bin of 200 has a standard deviation below 0.036."""
    rng = keyed_rng("map test")
    scores = rng.normal(size=4000)
    truth = 0.6 / (1 + np.exp(-2 * scores))
    found = fit_map(scores, rng.random(4000) < truth)
    values = [knot.probability for knot in found.knots]
    assert values == sorted(set(values))
    assert np.abs(found(scores) - truth).max() < 0.1
    assert calibration_error(truth, found(scores)) < 0.02
    assert calibration_error(truth, 1 / (1 + np.exp(-scores))) > 0.1
    assert sum(knot.rows for knot in found.knots) == pytest.approx(4000)


def test_scores_that_differ_between_two_points_give_probabilities_that_differ() -> None:
    found = fit_map(np.arange(40.0), np.repeat([0, 1, 0, 1], 10))
    inside = np.linspace(found.knots[0].score, found.knots[-1].score, 50)
    assert (np.diff(found(inside)) > 0).all()
    assert found(np.array([-100.0]))[0] == found.knots[0].probability > 0
    assert found(np.array([100.0]))[0] == found.knots[-1].probability < 1


def test_outcomes_that_fall_give_one_point() -> None:
    found = fit_map(np.arange(100.0), np.arange(100)[::-1] / 99)
    assert [knot.probability for knot in found.knots] == [pytest.approx(0.5)]
    assert len(fit_map(np.zeros(50), np.arange(50) % 2).knots) == 1


def test_too_few_rows_and_knots_that_fall_are_refused() -> None:
    with pytest.raises(InputError, match="at least 10 held-out rows, got 9"):
        fit_map(np.arange(9.0), np.zeros(9))
    knots = [Knot(score=0, probability=0.5, rows=1), Knot(score=1, probability=0.4, rows=1)]
    with pytest.raises(ValidationError, match="knots must ascend"):
        MonotoneMap(knots=tuple(knots))
