"""`simenv report` on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from simenv.cli import main as cli
from simenv.records import Transition
from tests.support.hand_made import turn
from tests.support.runs import save


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["report", *arguments])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


@pytest.fixture
def logged(tmp_path: Path) -> str:
    rows: list[Transition] = [turn(i, {"a": (True, 0.5), "b": (False, 0.25)}, persona=f"p{i}") for i in range(6)]
    return str(save(tmp_path / "run", rows))


def test_it_prints_and_writes_what_was_asked(logged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(logged, "--advertiser", "a", "--out", str(tmp_path / "a.md")) == 0
    printed = capsys.readouterr().out
    assert "share of voice" in printed
    assert "12.00 ±0.00" in printed  # six clicks at a half, for 4 each
    assert "12.00 ±0.00" in (tmp_path / "a.md").read_text(encoding="utf-8")
    assert run(logged, "--all", "--out", str(tmp_path / "all.csv")) == 0
    assert "m: b b" in capsys.readouterr().out


@pytest.mark.parametrize("given", [[], ["--all", "--advertiser", "a"]])
def test_one_advertiser_or_all(logged: str, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(logged, *given) == 2
    assert "name an advertiser, or all of them" in capsys.readouterr().err


def test_nothing_is_overwritten(logged: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("mine", encoding="utf-8")
    assert run(logged, "--all", "--out", str(tmp_path / "a.csv")) == 2
    assert run(logged, "--all", "--out", str(tmp_path / "a.txt")) == 2
    assert "expected .csv or .md" in capsys.readouterr().err
    assert (tmp_path / "a.csv").read_text(encoding="utf-8") == "mine"
