"""The head of the click-intent evaluator: ordinal regression with auxiliary targets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from simenv.ctr.ordinal import OrdinalHead, _cuts, _likelihood, fit_head
from simenv.errors import InputError
from simenv.seeding import keyed_rng


def graded(rows: int, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs, grades of two targets, and the latent intent behind the first."""
    rng = keyed_rng("ordinal test", rows)
    x = rng.normal(size=(rows, 6))
    latent = x[:, 0] - x[:, 1] + noise * rng.normal(size=rows)
    other = x[:, 2] + noise * rng.normal(size=rows)
    levels = [1 + np.searchsorted(np.quantile(v, [0.2, 0.4, 0.6, 0.8]), v) for v in (latent, other)]
    return x, np.stack(levels, axis=1), x[:, 0] - x[:, 1]


def test_a_head_learns_the_order_of_the_grades() -> None:
    """The draws are keyed. A score of pure noise has a rank correlation near 0."""
    x, grades, latent = graded(1500)
    head = fit_head(x[:1000], grades[:1000])
    scores = head.scores(x[1000:])
    assert scores.shape == (500, 2)
    ranks = np.argsort(np.argsort(scores[:, 0])), np.argsort(np.argsort(latent[1000:]))
    assert np.corrcoef(*ranks)[0, 1] > 0.95
    expected = head.expected_grades(x[1000:])[:, 0]
    means = [expected[grades[1000:, 0] == grade].mean() for grade in range(1, 6)]
    assert all(low < high for low, high in pairwise(means))
    assert expected.min() >= 1
    assert expected.max() <= 5
    assert (np.diff(head.cuts, axis=1) > 0).all()


def test_the_gradient_is_that_of_the_likelihood() -> None:
    rng = keyed_rng("ordinal gradient")
    scores, raw = rng.normal(size=(7, 2)), rng.normal(size=(2, 4))
    grades = rng.integers(0, 6, (7, 2))
    weight = np.where(grades > 0, rng.uniform(0.5, 1, (7, 2)), 0)
    cuts = _cuts(raw)
    _, by_score, by_cut = _likelihood(scores, cuts, grades, weight)
    step = 1e-6
    for array, slope in ((scores, by_score), (cuts, by_cut)):
        for place in np.ndindex(array.shape):
            array[place] += step
            above = _likelihood(scores, cuts, grades, weight)[0]
            array[place] -= 2 * step
            below = _likelihood(scores, cuts, grades, weight)[0]
            array[place] += step
            assert (above - below) / (2 * step) == pytest.approx(slope[place], abs=1e-6)


def test_a_missing_grade_counts_for_nothing() -> None:
    x, grades, _ = graded(60)
    without = grades.copy()
    without[:, 1] = 0
    alone = fit_head(x, grades[:, :1])
    both = fit_head(x, without)
    assert np.isfinite(both.scores(x)).all()
    assert np.corrcoef(both.scores(x)[:, 0], alone.scores(x)[:, 0])[0, 1] > 0.99


def test_grades_that_are_all_alike_teach_nothing() -> None:
    x, grades, _ = graded(30)
    with pytest.raises(InputError, match=r"at least two different grades to learn from, got \[3\] in 30 rows"):
        fit_head(x, np.full_like(grades, 3))
    with pytest.raises(InputError, match="grades must be 1 to 5, or 0"):
        fit_head(x, grades + 1)


def test_the_same_rows_give_the_same_bits() -> None:
    x, grades, _ = graded(40)
    one, other = fit_head(x, grades), fit_head(x, grades)
    assert isinstance(one, OrdinalHead)
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
