"""What an experiment tracker is told of a benchmark and of a training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

import simenv
from simenv.errors import DataFileError, UnknownName
from simenv.integrations.tracking import FILES, final_numbers, make_tracker, track_training, tracked
from simenv.runs.answering import Progress
from simenv.testing import ADS, PERSONAS


class Kept:
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.name = ""
        self.parameters: dict[str, str] = {}
        self.logged: dict[int, dict[str, float]] = {}
        self.final: dict[str, float] = {}
        self.files: list[Path] = []

    def begin(self, name: str, parameters: Mapping[str, str]) -> None:
        self.name, self.parameters = name, dict(parameters)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self.logged[step] = dict(numbers)

    def end(self, numbers: Mapping[str, float], files: Sequence[Path]) -> None:
        self.final, self.files = dict(numbers), list(files)


class Broken(Kept):
    """A tracker whose server is out."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        raise ConnectionError("no server")


def run(tracker: Kept, out: Path, **callbacks: object) -> simenv.BenchResult:
    packs = {}
    for name, records in (("catalog", ADS), ("personas", PERSONAS)):
        packs[name] = str(out.with_name(f"{name}.jsonl"))
        Path(packs[name]).write_text("".join(f"{it.model_dump_json()}\n" for it in records), encoding="utf-8")
    progress = tracked(tracker, Progress(**callbacks))  # type: ignore[arg-type]
    return simenv.bench(
        ["organic", "gsp"], n=4, horizon=2, chunk=2, llm="scripted", out=out, progress=progress, **packs
    )


@pytest.mark.weights
def test_a_benchmark_tells_its_options_means_and_table(tmp_path: Path) -> None:
    tracker = Kept()
    result = run(tracker, tmp_path / "first run")
    assert tracker.name == "first run"
    assert tracker.parameters["mechanisms"] == "organic,gsp"
    assert tracker.parameters["n"] == "4"
    assert tracker.parameters["ad_llm"] == "scripted"
    assert list(tracker.logged) == [2, 4]
    revenue = result.table.set_index(["metric", "mechanism"]).loc[("revenue", "gsp")]
    # Nothing abstains and every click has its probability: the mean so far is the table's at the end.
    assert tracker.logged[4]["gsp/revenue"] == pytest.approx(revenue["mean"])
    assert tracker.logged[2]["gsp/revenue"] != pytest.approx(revenue["mean"])
    assert tracker.final == final_numbers(result.summary)
    assert tracker.final["final/gsp/revenue"] == pytest.approx(revenue["mean"])
    assert tracker.final["final/gsp/revenue_low"] == pytest.approx(revenue["low"])
    assert tracker.final["final/gsp/revenue_difference"] == pytest.approx(revenue["difference"])
    assert [file.name for file in tracker.files] == list(FILES)


@pytest.mark.weights
def test_a_tracker_that_fails_does_not_end_the_run(tmp_path: Path) -> None:
    warned: list[str] = []
    tracker = Broken()
    result = run(tracker, tmp_path / "run", warned=warned.append)
    assert len(result.records) == 8
    assert warned == ["Broken failed, so the run goes on without it: ConnectionError('no server')"]
    assert tracker.final == {}


def test_a_training_tells_its_learning_curve(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("epoch,reward,loss\n0,1.5,\n1,2.5,0.25\n", encoding="utf-8")
    (tmp_path / "manifest.json").write_text('{"judge": "click-model-v1", "best_epoch": 1}', encoding="utf-8")
    tracker = Kept()
    track_training(tmp_path, tracker)
    assert tracker.logged == {0: {"epoch": 0.0, "reward": 1.5}, 1: {"epoch": 1.0, "reward": 2.5, "loss": 0.25}}
    assert tracker.parameters == {"judge": "click-model-v1", "best_epoch": "1"}
    (tmp_path / "curve.csv").write_text("update,part,loss\n8,train,0.5\n8,held_out,0.7\n", encoding="utf-8")
    track_training(tmp_path, tracker)
    assert tracker.logged[8] == {"held_out/update": 8.0, "held_out/loss": 0.7}


def test_what_is_no_training_and_no_tracker_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"no curve\.csv"):
        track_training(tmp_path, Kept())
    with pytest.raises(UnknownName, match=r"unknown tracker 'mlfow': did you mean mlflow\?"):
        make_tracker("mlfow")
