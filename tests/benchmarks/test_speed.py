"""How speed is measured: sides in turns, ratios per round, and the table of docs/speed.md."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.speed import table
from benchmarks.speed.measure import Aim, compare, latest


def side(name: str, numbers: list[float], ran: list[str]) -> Callable[[], float]:
    def run() -> float:
        ran.append(name)
        return numbers.pop(0)

    return run


def test_sides_run_in_turns_and_ratios_are_of_one_round(tmp_path: Path) -> None:
    ran: list[str] = []
    sides = {"new": side("new", [10, 40, 60], ran), "old": side("old", [5, 10, 20], ran)}
    file = tmp_path / "results.jsonl"
    result = compare("a claim", "texts/s", sides, aim=Aim(3), rounds=3, note="Both are fakes.", results=file)
    assert ran == ["new", "old", "old", "new", "new", "old"]
    assert result["ratio"] == {"median": 3, "low": 2, "high": 4, "all": [2, 4, 3]}
    assert result["met"] is True
    assert json.loads(file.read_text()) == result


@pytest.mark.parametrize(
    ("aim", "met"),
    [(Aim(2.1), False), (Aim(9, of="number"), True), (Aim(9, of="number", at="most"), False), (None, None)],
)
def test_an_aim_is_of_the_ratio_or_of_the_first_side(aim: Aim | None, met: bool | None, tmp_path: Path) -> None:
    sides = {"new": lambda: 10.0, "old": lambda: 5.0}
    assert compare("a claim", "s", sides, aim=aim, rounds=1, results=tmp_path / "results.jsonl")["met"] is met


def test_the_newest_result_of_a_claim_counts(tmp_path: Path) -> None:
    file = tmp_path / "results.jsonl"
    for claim, number in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        compare(claim, "s", {"it": lambda number=number: number}, rounds=1, results=file)
    assert [(r["claim"], r["sides"]["it"]["median"]) for r in latest(file)] == [("a", 3.0), ("b", 2.0)]


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one side and one round, got 0 and 5"):
        compare("a claim", "s", {}, results=tmp_path / "results.jsonl")
    with pytest.raises(ValueError, match="a ratio needs two sides, got 1"):
        compare("a claim", "s", {"it": lambda: 1.0}, aim=Aim(1), results=tmp_path / "results.jsonl")


def test_the_page_has_the_table_of_the_results() -> None:
    assert table.page() == table.PAGE.read_text(encoding="utf-8")
