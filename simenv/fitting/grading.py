"""Grades of readings by a language model: the labels that a click-intent evaluator learns instead of click counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from simenv.background_loop import gather
from simenv.errors import InputError
from simenv.fitting.readings import Reading
from simenv.judges.intent_grader import IntentGrader, IntentGrades

_AT_ONCE = 64
"""Answers that are graded concurrently; fixed, because a local model's batches depend on it."""


async def graded(
    rows: Sequence[Reading],
    grader: IntentGrader,
    watch: Callable[[str, int, int], None] = lambda *progress: None,
) -> npt.NDArray[np.int64]:
    """Grades every reading: shape (rows, 4), in the order of `IntentGrades`; 0 where a reply could not be read.

    Args:
        rows: The readings. Each answer is graded once for each of its readers.
        grader: The grader.
        watch: Called with (section, answers done, answers planned).

    Raises:
        InputError: no reply could be read.
        SimenvError: an error of the model.
    """
    keys = [(row.case.persona.id, row.case.auction.id, row.case.outcome.response) for row in rows]
    cases = {key: row.case for key, row in zip(keys, rows, strict=True)}
    todo, grades = list(cases.items()), {}
    for start in range(0, len(todo), _AT_ONCE):
        chunk = todo[start : start + _AT_ONCE]
        replies = await gather(grader.grade(case.persona, case.auction, case.outcome) for _, case in chunk)
        grades.update({key: reply for (key, _), reply in zip(chunk, replies, strict=True)})
        watch("grades", len(grades), len(todo))
    if not any(grades.values()):
        raise InputError(f"none of the {len(grades)} replies of {grader.name} could be read as grades")
    none = (0,) * len(IntentGrades._fields)
    found = [grades[key].get(row.case.ad_id, none) for key, row in zip(keys, rows, strict=True)]
    return np.array(found, dtype=np.int64)
