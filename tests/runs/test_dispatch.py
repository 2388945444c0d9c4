"""Tasks on workers that die: every result once and in order, few under way, and an end where a task kills workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from simenv.background_loop import run_sync
from simenv.errors import InputError, SimenvError
from simenv.runs.dispatch import DEATHS, dispatch
from tests.support.pools import FakePool


class Squares:
    """Squares numbers; later ones are done sooner."""

    def __init__(self, log: list[int]) -> None:
        self._log = log

    def run(self, task: int) -> int:
        self._log.append(task)
        time.sleep(0.002 * (3 - task % 4))
        if task == 1000:
            raise InputError("too large")
        return task * task


def squares(n: int, pool: Callable[[Callable[[int], Any]], FakePool], *, first: int = 0) -> tuple[list[int], list[int]]:
    """Results, and the tasks as they began."""
    began: list[int] = []
    results: list[int] = []
    ahead = 0

    async def tasks() -> AsyncIterator[int]:
        nonlocal ahead
        for i in range(first, first + n):
            ahead = max(ahead, i - first - len(results))
            yield i

    made = pool(lambda workers: Squares(began))
    run_sync(lambda: dispatch(tasks(), made, results.append, name=lambda task: f"task {task}"))
    assert ahead <= 4 * made.size * made.at_once
    return results, began


@pytest.mark.parametrize(("workers", "at_once"), [(1, 1), (3, 1), (2, 3)])
def test_results_come_in_the_order_of_the_tasks(workers: int, at_once: int) -> None:
    results, began = squares(23, lambda make: FakePool(make, workers=workers, at_once=at_once))
    assert results == [i * i for i in range(23)]
    assert sorted(began) == list(range(23))


def test_what_a_lost_worker_had_runs_again_and_nothing_is_passed_on_twice() -> None:
    left = Counter({5: 1, 6: 2, 11: 1})

    def dies(task: int) -> bool:
        left[task] -= 1
        return left[task] >= 0

    pools: list[FakePool] = []

    def pool(make: Callable[[int], Any]) -> FakePool:
        pools.append(FakePool(make, workers=2, dies=dies))
        return pools[0]

    results, _ = squares(20, pool)
    assert results == [i * i for i in range(20)]
    assert max(left.values()) < 0
    assert pools[0].started == 2 + 4


def test_a_task_that_workers_die_of_ends_the_run_and_is_named() -> None:
    died: list[int] = []

    def dies(task: int) -> bool:
        if task == 7:
            died.append(task)
        return task == 7

    with pytest.raises(SimenvError, match=r"^task 7: 3 workers died while they ran it: killed$"):
        squares(40, lambda make: FakePool(make, workers=2, dies=dies))
    assert len(died) == DEATHS


def test_an_error_of_a_task_ends_the_run() -> None:
    with pytest.raises(InputError, match=r"^too large$"):
        squares(10, lambda make: FakePool(make), first=995)


def test_a_worker_that_never_starts_holds_nothing_up() -> None:
    results, _ = squares(9, lambda make: FakePool(make, workers=3, starts=lambda number: True if number == 2 else None))
    assert results == [i * i for i in range(9)]


def test_workers_that_die_while_they_start_end_the_run() -> None:
    with pytest.raises(SimenvError, match="3 workers in a row died while they started: no memory"):
        squares(5, lambda make: FakePool(make, workers=1, starts=lambda number: False))
    results, _ = squares(5, lambda make: FakePool(make, workers=1, starts=lambda number: number == 3))
    assert results == [0, 1, 4, 9, 16]


def test_no_tasks_need_no_worker() -> None:
    pool = FakePool(lambda workers: None)
    assert squares(0, lambda make: pool) == ([], [])
    assert pool.started == 0
