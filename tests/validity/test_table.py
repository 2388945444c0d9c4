"""The committed validity reports: of the suite that ships, untuned on, and shown as they are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from simenv.stats import Estimate
from simenv.validity.attacks import attacks_hash
from simenv.validity.run import Validity
from simenv.validity.scenarios import load_scenarios, suite_hash
from tests.support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
FILES = sorted((BENCHMARKS / "results" / "validity").glob("*.json"))


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("validity_table", BENCHMARKS / "validity_table.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _read(path: Path) -> Validity:
    return Validity.model_validate_json(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_reports_are_of_the_suite_that_ships(path: Path) -> None:
    found = _read(path)
    again = f"run `simenv validate-judge` again: {path.name} is of another suite"
    assert (found.suite_sha256, found.attacks_sha256) == (suite_hash(), attacks_hash()), again
    assert found.part == "test"
    assert found.scenarios == len(load_scenarios("test", found.limit))


def test_judges_that_ship_beat_chance_and_the_table_says_by_how_much() -> None:
    script = _script()
    reports = {path.stem: _read(path) for path in FILES}
    assert {"click", "embedded"} <= set(reports)
    for name in ("click", "embedded"):
        share = reports[name].contrasts["all"].share
        assert share.low > 0.5
    titled = [(name, reports[name]) for name in reports]
    lines = script.table(titled).splitlines()
    assert len({line.count("|") for line in lines}) == 1, "one cell per judge in every row"
    (row,) = [line for line in lines if line.startswith("| all contrasts")]
    for name in reports:
        share = reports[name].contrasts["all"].share
        assert f" {100 * share.value:.0f}% (" in row


def test_cells() -> None:
    script = _script()
    assert script.percent(Estimate(value=0.9166, low=0.78, high=0.971)) == "92% (78, 97)"
    assert script.points(Estimate(value=0.5), sign=True) == "+0.500"
    assert script.number(Estimate()) == "-"
