"""The table does not depend on how answers are read: in blocks, in parts by other processes, in any order."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from simenv.records import Click, Failure, Feedback, Outcome, Transition
from simenv.runs import spool, tally_run
from simenv.runs.folder import RunFolder
from simenv.runs.metrics import METRICS
from simenv.runs.rollout import Finished
from simenv.runs.summary import summarize, table_of
from simenv.runs.tables import to_csv
from simenv.runs.tally import tally
from simenv.stats import pairwise_sum
from simenv.testing import small_world
from tests.support.runs import transitions


@pytest.fixture(scope="module")
def rows() -> list[Transition]:
    return transitions(small_world(), "gsp", "fixed_slots", n=40)


def _with_clicks(t: Transition, change: Callable[[Click], Click]) -> Transition:
    clicks = tuple(change(click) for click in t.feedback.clicks)
    known = {
        "feedback": t.feedback.model_copy(update={"clicks": clicks}),
        "expected_payments": None,
        "expected_reward": None,
    }
    if any(click.clicked is None for click in clicks):
        known |= {"reward": None, "penalty": 0.0}
    return t.model_copy(update=known)


def _realised(rows: Sequence[Transition]) -> list[Transition]:
    return [_with_clicks(t, lambda click: click.model_copy(update={"click_prob": None})) for t in rows]


def _abstained(rows: Sequence[Transition]) -> list[Transition]:
    unknown = {"clicked": None, "click_prob": None}
    return [t if t.index % 4 else _with_clicks(t, lambda click: click.model_copy(update=unknown)) for t in rows]


def _failed(rows: Sequence[Transition]) -> list[Transition]:
    failed: dict[str, Any] = {"error": Failure(kind="Late", text="late"), "outcome": Outcome(response="")}
    failed |= {"feedback": Feedback(), "payments": {}, "expected_payments": None}
    return [t.model_copy(update=failed) if (t.index + len(t.mechanism)) % 5 == 0 else t for t in rows]


def _shuffled(rows: Sequence[Transition]) -> list[Transition]:
    mixed = sorted(rows, key=lambda t: t.mechanism)
    random.Random(1).shuffle(mixed)
    return sorted(mixed, key=lambda t: t.mechanism != rows[0].mechanism)


LOGS: dict[str, Callable[[Sequence[Transition]], list[Transition]]] = {
    "probabilities": list,
    "realised": _realised,
    "abstained": _abstained,
    "abstained, realised": lambda rows: _abstained(_realised(rows)),
    "failed": lambda rows: _failed(_realised(rows)),
    "other auctions": lambda rows: [t for t in _realised(rows) if t.mechanism == "gsp" or t.index % 3],
}


@pytest.mark.parametrize("log", LOGS)
def test_blocks_and_order_change_no_bit(log: str, rows: list[Transition], monkeypatch: pytest.MonkeyPatch) -> None:
    answers = LOGS[log](rows)
    whole = to_csv(summarize(answers))
    monkeypatch.setattr(spool, "BLOCK", 7)
    assert to_csv(summarize(answers)) == whole
    if "abstained" not in log:  # their estimates add up probabilities in the order of the log
        assert to_csv(summarize(_shuffled(answers))) == whole


@pytest.mark.parametrize("n", [0, 3, 129, 8193, 100_001])
def test_a_sum_of_blocks_is_numpys_to_the_last_bit(n: int) -> None:
    numbers = np.random.default_rng(n).lognormal(sigma=3, size=n)
    assert pairwise_sum((numbers[i : i + 1000] for i in range(0, n, 1000)), n) == float(numbers.sum())


def _folder(path: Path, rows: Sequence[Transition], chunk: int = 5) -> Path:
    run = RunFolder(path)
    run.begin({}, {}, {})
    for start in range(0, rows[-1].index + 1, chunk):
        run.append(Finished([t for t in rows if start <= t.index < start + chunk], {}))
    return path


def _csv(folder: Path) -> str:
    with tally_run.tally_of_run(folder, METRICS) as found:
        return to_csv(table_of(found, METRICS))


class FakeProcess:
    """Does in this process what another one would do."""

    started = 0

    def __init__(self, command: list[str], **_: Any) -> None:
        FakeProcess.started += 1
        before, sys.argv = sys.argv, ["-c", command[-1]]
        try:
            tally_run.work()
        finally:
            sys.argv = before

    def wait(self) -> int:
        return 0

    def kill(self) -> None:
        """It has ended."""


@pytest.mark.parametrize("log", ["probabilities", "realised", "abstained, realised"])
def test_parts_change_no_bit(log: str, rows: list[Transition], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _folder(tmp_path / "run", LOGS[log](rows))
    whole = _csv(folder)
    monkeypatch.setattr(tally_run, "LONG", 1)
    monkeypatch.setattr(tally_run, "processors", lambda: 3)
    monkeypatch.setattr(tally_run.subprocess, "Popen", FakeProcess)
    FakeProcess.started = 0
    assert _csv(folder) == whole
    assert FakeProcess.started == (3 if log == "probabilities" else 6), "the assumption is tried first"


@pytest.mark.slow
def test_real_processes_change_no_bit(rows: list[Transition], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pytest tests/runs/test_tally.py -m slow."""
    folder = _folder(tmp_path / "run", rows)
    whole = _csv(folder)
    monkeypatch.setattr(tally_run, "LONG", 1)
    monkeypatch.setattr(tally_run, "processors", lambda: 2)
    monkeypatch.setattr(tally_run, "read_transitions", None)  # this process reads nothing
    assert _csv(folder) == whole


def test_memory_is_that_of_a_block(rows: list[Transition], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BLOCK", 32)

    def read(times: int) -> Iterator[Transition]:
        for start in range(0, 40 * times, 40):
            for t in rows:
                yield t.model_copy(update={"index": t.index + start})

    def peak(times: int) -> int:
        tracemalloc.start()
        try:
            with tally(lambda: read(times), METRICS) as found:
                table_of(found, METRICS)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    few, many = peak(2), peak(8)
    grown = (many - few) / (6 * len(rows))
    assert grown < 450, f"{grown:.0f} bytes for each answer: about 200 in blocks of 32, 2 in those of 4096"


def test_the_disagreement_of_judges_is_a_mean(rows: list[Transition]) -> None:
    judged = [rows[0].model_copy(update={"feedback": rows[0].feedback.model_copy(update={"disagreement": 0.4})})]
    judged.append(rows[2].model_copy(update={"feedback": rows[2].feedback.model_copy(update={"disagreement": 0.2})}))
    with tally(lambda: [*judged, rows[4]], METRICS) as found:
        assert found.disagreement == pytest.approx(0.3)
    with tally(lambda: rows[4:6], METRICS) as found:
        assert found.disagreement is None
