"""Figures for papers: the same bytes every time, and nothing that matplotlib reads as mark-up."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import simenv
from simenv.cli import main as cli
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.records import Transition
from simenv.report.papers import LINES
from simenv.report.plot import KINDS
from simenv.testing import small_world
from tests.support.hand_made import turn
from tests.support.runs import save, transitions


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = transitions(small_world(), "organic", "gsp", "first_price", "prompted")
    dear = {"prompted": "a $x^2$ <b>"}
    rows = [row.model_copy(update={"mechanism": dear.get(row.mechanism, row.mechanism)}) for row in rows]
    return save(tmp_path_factory.mktemp("runs") / "run", rows)


HEADS = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}


@pytest.mark.parametrize(("kind", "ending"), list(zip(KINDS, HEADS, strict=True)))
def test_the_same_run_gives_the_same_bytes(run: Path, tmp_path: Path, kind: str, ending: str) -> None:
    written = [simenv.plot(run, kind, tmp_path / f"{i}.{ending}", x="ctr").read_bytes() for i in (1, 2)]
    assert written[0] == written[1]
    assert written[0].startswith(HEADS[ending])
    assert len(written[0]) > 3000
    assert not re.search(rb"<dc:date>|CreationDate", written[0])


def texts(file: Path) -> str:
    """What an .svg file writes: matplotlib draws glyphs and leaves the text in comments."""
    return " ".join(re.findall(r"<!-- (.*?) -->", file.read_text(encoding="utf-8")))


def test_a_figure_names_its_mechanisms_and_its_axes(run: Path, tmp_path: Path) -> None:
    said = texts(simenv.plot(run, "frontier", tmp_path / "frontier.svg", x="welfare"))
    for text in ("gsp", "first_price", "organic", "a $x^2$ &lt;b&gt;", "welfare (currency per answer)", "revenue ("):
        assert text in said
    said = texts(simenv.plot(run, "differences", tmp_path / "differences.svg", mechanisms=["gsp"]))
    assert "revenue (currency per answer), minus organic" in said
    assert "gsp" in said
    assert "first_price" not in said
    said = texts(simenv.plot(run, "allocation", tmp_path / "allocation.svg", mechanisms=["gsp", "first_price"]))
    assert "payment per candidate" in said
    assert "a $x^2$" not in said


class Questions:
    """Number of questions."""

    name, unit, optional = "questions", "per answer", False

    def measure(self, transition: Transition, expected: bool) -> tuple[float, float]:
        return 1.0, 1.0


def test_a_metric_of_ones_own_is_drawn(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "own.svg"
    assert "questions (per answer)" in texts(simenv.plot(run, "frontier", out, x="questions", metrics=[Questions()]))


def test_several_runs_are_labelled(run: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other", transitions(small_world(), "gsp"))
    said = texts(simenv.plot([run, other], "differences", tmp_path / "both.svg", baseline="run/gsp"))
    assert "other/gsp" in said
    assert "minus run/gsp" in said


def test_a_run_without_quality_needs_another_axis(tmp_path: Path) -> None:
    plain = save(tmp_path / "plain", transitions(small_world(), "gsp"))
    with pytest.raises(InputError, match="did not measure satisfaction: their quality is none"):
        simenv.plot(plain, "frontier", tmp_path / "figure.svg")


def test_what_cannot_be_drawn_is_refused(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "figure.svg"
    with pytest.raises(UnknownName, match="unknown kind of figure 'pie'"):
        simenv.plot(run, "pie", out)
    with pytest.raises(UnknownName, match="unknown metric of the runs 'revenu': did you mean revenue"):
        simenv.plot(run, "differences", out, metric="revenu")
    with pytest.raises(UnknownName, match="unknown mechanism of the runs 'vcg'"):
        simenv.plot(run, "frontier", out, mechanisms=["vcg"])
    with pytest.raises(DataFileError, match=r"expected \.svg or \.pdf or \.png"):
        simenv.plot(run, "frontier", tmp_path / "figure.jpg")
    with pytest.raises(InputError, match="no run to draw"):
        simenv.plot([], "frontier", out)
    alone = save(tmp_path / "alone", [turn(0, {"a": (True, 0.5)})])
    with pytest.raises(InputError, match="no mechanism beside the baseline m has revenue"):
        simenv.plot(alone, "differences", out)
    assert not out.exists()
    rows: list[Transition] = [turn(0, {"a": (True, 0.5)}, mechanism=f"m{i}") for i in range(LINES + 1)]
    with pytest.raises(InputError, match=f"at most {LINES} mechanisms, got {LINES + 1}: m0, "):
        simenv.plot(save(tmp_path / "many", rows), "allocation", out)


def test_the_command_writes_it(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["plot", str(run), "--kind", "differences", "--out", str(tmp_path / "d.svg"), "--metric", "welfare"])
    assert stopped.value.code == 0
    assert "written to" in capsys.readouterr().out
    assert "welfare" in texts(tmp_path / "d.svg")
