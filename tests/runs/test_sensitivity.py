"""Sensitivity: a run's answers judged again in other worlds."""

from __future__ import annotations

import pytest

from simenv.background_loop import run_sync
from simenv.errors import InputError
from simenv.llm import ScriptedLLM
from simenv.mechanism import make_mechanism
from simenv.records import Transition
from simenv.runs.rollout import Finished, rollout
from simenv.runs.sensitivity import sensitivity
from simenv.runs.summary import summarize
from tests.fakes import small_world

WORLD = small_world()
NAMES = ("organic", "fixed_slots", "gsp")


@pytest.fixture(scope="module")
def log() -> list[Transition]:
    rows: list[Transition] = []

    def keep(finished: Finished) -> None:
        rows.extend(finished.transitions)

    llm = ScriptedLLM()
    mechanisms = {name: make_mechanism(name, llm=llm) for name in NAMES}
    run_sync(lambda: rollout(WORLD, mechanisms, n=24, seed=0, on_chunk=keep))
    return rows


def test_the_world_as_it_is_gives_the_runs_own_means(log: list[Transition]) -> None:
    report = sensitivity(log, WORLD.personas, WORLD.judge)  # type: ignore[arg-type]
    table = {c.mechanism: c.estimate.value for c in summarize(log).cells if c.metric == "revenue"}
    assert report.base.means == pytest.approx(table)
    assert report.base.rank_correlation == pytest.approx(1)
    assert report.base.holds == len(report.conclusions)


def test_every_number_is_moved_both_ways(log: list[Transition]) -> None:
    report = sensitivity(log, WORLD.personas, WORLD.judge, measure="reward")  # type: ignore[arg-type]
    moved = [s.changed for s in report.scenarios]
    for name in WORLD.judge.params.numbers():  # type: ignore[attr-defined]
        assert moved.count(name) == 2
    assert moved.count("world") == 3
    for s in report.scenarios:
        assert s.holds + s.open + len(s.reversed) == len(report.conclusions)
    by_base = {s.value: s.means["gsp"] for s in report.scenarios if s.changed == "attraction.base"}
    assert by_base[-1.6] < report.base.means["gsp"] < by_base[0.4]


def test_a_conclusion_that_the_world_decides_is_reversed_somewhere(log: list[Transition]) -> None:
    """The same answers, paid by click or by a fixed fee of 85% of what clicks pay in the world as it is."""
    gsp = [row for row in log if row.mechanism == "gsp"]
    fee = [row.model_copy(update={"mechanism": "fee", "outcome": _for_a_fee(row)}) for row in gsp]
    report = sensitivity([*gsp, *fee], WORLD.personas, WORLD.judge)  # type: ignore[arg-type]
    assert [c[:2] for c in report.conclusions] == [("gsp", "fee")]
    reversed_at = {(s.changed, s.value) for s in report.scenarios if s.reversed}
    assert ("attraction.base", -1.6) in reversed_at
    assert ("attraction.base", 0.4) not in reversed_at
    assert report.survivors() == []


def _for_a_fee(row: Transition) -> object:
    assert row.expected_payments is not None
    free = tuple(p.model_copy(update={"price": 0.0}) for p in row.outcome.placements)
    fees = {ad_id: amount * 0.85 for ad_id, amount in row.expected_payments.items()}
    return row.outcome.model_copy(update={"placements": free, "transfers": fees})


def test_what_cannot_be_compared_is_refused(log: list[Transition]) -> None:
    with pytest.raises(InputError, match="unknown measure 'profit'"):
        sensitivity(log, WORLD.personas, WORLD.judge, measure="profit")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="fewer than two"):
        sensitivity([row for row in log if row.mechanism == "gsp"], WORLD.personas, WORLD.judge)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not in the pack"):
        sensitivity(log, WORLD.personas[:1], WORLD.judge)  # type: ignore[arg-type]
