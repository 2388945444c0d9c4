"""From runs to a file: its numbers are those of the run's own table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import simenv
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.runs.noise_floor import CARD, NoiseFloor
from simenv.runs.summary import summarize
from simenv.runs.tables import blocks, caption
from simenv.runs.ties import Source, mark_ties
from simenv.stats import Estimate
from simenv.validity.card import JudgeCard
from simenv.validity.run import Validity
from tests.support.hand_made import turn
from tests.support.hostile_run import MECHANISMS, hostile_run
from tests.support.paths import ROOT
from tests.support.runs import save


def data_of(path: Path, name: str = "summary") -> Any:
    pattern = rf'<script type="application/json" id="{name}-data">(.*?)</script>'
    (data,) = re.findall(pattern, path.read_text(encoding="utf-8"), re.DOTALL)
    return json.loads(data)


def rows(*names: str, questions: int = 4) -> list[simenv.Transition]:
    shown: dict[str, tuple[bool | None, float | None]] = {"a": (True, 0.5), "b": (False, 0.25)}
    return [turn(i, shown, persona=f"p{i % 2}", mechanism=name) for i in range(questions) for name in names]


def test_the_tables_are_the_runs_own(tmp_path: Path) -> None:
    answers = rows("m", "n")
    written = simenv.view(save(tmp_path / "run", answers))
    assert written.path == tmp_path / "run" / "report.html"
    assert written.size == written.path.stat().st_size
    summary = data_of(written.path)
    manifest = {"world": {"judge": "click-model-v1"}}
    source = Source("run", tmp_path / "run", manifest, "")
    table = mark_ties(summarize(answers), {"m": source, "n": source})
    assert [[t["title"], t["rows"]] for t in summary["tables"]] == [
        [block.title, [list(row) for row in block.rows]] for block in blocks(table)
    ]
    assert caption(table).split("differences are")[1] in summary["caption"]
    assert summary["title"] == "run"
    assert written.notes == ("run is not finished",)
    assert summary["sample"] == "All 8 answers to 4 questions."


def test_answers_beyond_the_limit_are_sampled_and_the_report_says_so(tmp_path: Path) -> None:
    run = save(tmp_path / "run", rows("m", "n", questions=10))
    written = simenv.view(run, answers=6)
    assert written.sample.startswith("6 of 20 answers: those to 3 of 10 questions, drawn at random.")
    assert len(data_of(written.path, "answers")["answers"]) == 6
    assert data_of(written.path)["bids"]["m"][0]["candidates"] == 10
    none = simenv.view(run, answers=0)
    assert data_of(none.path, "answers")["answers"] == []


def test_several_runs_stand_side_by_side(tmp_path: Path) -> None:
    runs = [save(tmp_path / name, rows("m", other)) for name, other in (("one", "n"), ("two", "o"))]
    written = simenv.view(runs, out=tmp_path / "both.html", baseline="o")
    summary = data_of(written.path)
    assert summary["mechanisms"] == ["one/m", "n", "two/m", "o"]
    assert summary["baseline"] == "o"
    page = data_of(written.path, "answers")
    assert len(page["questions"]) == 4
    assert [a["mechanism"] for a in page["answers"]][:4] == [0, 1, 2, 3]


def test_an_earlier_report_is_replaced_and_no_other_file(tmp_path: Path) -> None:
    run = save(tmp_path / "run", rows("m"))
    simenv.view(run)
    simenv.view(run)
    other = tmp_path / "other.html"
    other.write_text("<p>Mine.</p>", encoding="utf-8")
    with pytest.raises(DataFileError, match=r"other\.html exists already and is no report of simenv: give a new file"):
        simenv.view(run, out=other)
    assert other.read_text(encoding="utf-8") == "<p>Mine.</p>"


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"answers": -1}, InputError, "answers must be at least 0, got -1"),
        ({"baseline": "x"}, InputError, "unknown baseline 'x': the run has m"),
        ({"out": "missing/report.html"}, DataFileError, "folder missing does not exist"),
        ({"training": ["nowhere"]}, DataFileError, "nowhere: no such file"),
        ({"audit": ["nowhere"]}, DataFileError, "nowhere: no such file"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_written(
    options: dict[str, Any], error: type[Exception], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = save(tmp_path / "run", rows("m"))
    with pytest.raises(error, match=said):
        simenv.view(run, **options)
    assert not (run / "report.html").exists()


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataFileError, match=r"no manifest\.json: not the folder of a run"):
        simenv.view(tmp_path)
    with pytest.raises(InputError, match="no run to show"):
        simenv.view([])
    with pytest.raises(UnknownName):
        simenv.view([save(tmp_path / name, rows("m")) for name in ("a", "b")], baseline="c")


def test_learning_curves(tmp_path: Path) -> None:
    trained = tmp_path / "adapter"
    trained.mkdir()
    curve = "update,part,loss,accuracy\n1,train,0.7,0.5\n2,train,0.6,\n2,held_out,0.65,0.75\n"
    (trained / "curve.csv").write_text(curve, encoding="utf-8")
    written = simenv.view(save(tmp_path / "run", rows("m")), training=[trained])
    (training,) = data_of(written.path)["training"]
    assert training["title"] == "adapter"
    assert training["curves"] == [
        {"metric": "loss", "x": "update", "series": {"train": [[1, 0.7], [2, 0.6]], "held out": [[2, 0.65]]}},
        {"metric": "accuracy", "x": "update", "series": {"train": [[1, 0.5]], "held out": [[2, 0.75]]}},
    ]
    (trained / "curve.csv").write_text("loss\n1\n", encoding="utf-8")
    with pytest.raises(DataFileError, match="no column step, update or epoch: its columns are loss"):
        simenv.view(tmp_path / "run", training=[trained])


def test_reports_of_other_commands(tmp_path: Path) -> None:
    results = ROOT / "benchmarks" / "results"
    run = save(tmp_path / "run", rows("m"))
    files = {"validity": [results / "validity" / "click.json"], "audit": [results / "audit" / "3_embedded.json"]}
    validity, audit = data_of(simenv.view(run, **files).path)["reports"]
    assert validity["title"] == "Validity of click-model-v1"
    assert [table["title"] for table in validity["tables"]][:2] == ["Contrasts", "Placebos: must not matter"]
    assert validity["curves"] == []
    assert audit["title"] == "Audit"
    metrics = [curve["metric"] for curve in audit["curves"]]
    assert metrics == ["clicks in the world", "clicks in the mechanism's own model"]
    read = json.loads(files["audit"][0].read_text(encoding="utf-8"))
    bids, clicks = zip(*audit["curves"][0]["series"]["gsp"], strict=True)
    assert bids == pytest.approx(read["curve_bids"])
    assert clicks == pytest.approx(read["mechanisms"]["gsp"]["curve_world"], rel=1e-5)


def test_the_judge_card_of_a_run_and_its_ties(tmp_path: Path) -> None:
    run = save(tmp_path / "run", rows("m", "n"))
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["world"] = {"judge": "coin", "judge_sha256": None}
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    text = (ROOT / "benchmarks" / "results" / "validity" / "click.json").read_text(encoding="utf-8")
    measured = Validity.model_validate_json(text).reliability
    moves = {"revenue": {"m": {"m": 1.0, "n": 2.0}, "n": {"n": 1.0}}}
    floor = NoiseFloor(
        auctions=2, ads=4, expected=True, same_verdict=0.5, change=0.5, abstained=(0.0, 0.0), moves=moves
    )
    card = JudgeCard(
        judge="coin",
        judge_sha256=None,
        inputs_sha256="0" * 64,
        scenarios=2,
        run="run",
        labels=None,
        abstention_rate=0.0,
        repeat=measured.repeat,
        noise_floor=floor,
        constants={},
        contrasts={"all": Estimate(value=0.5)},
        placebos={},
        cost=measured.cost,
    )
    (run / CARD).write_text(card.model_dump_json(), encoding="utf-8")
    summary = data_of(simenv.view(run).path)
    (shown,) = summary["reports"]
    assert shown["title"] == "Judge card of coin"
    assert ["revenue", "0.980", "1.960", "m, n"] in shown["tables"][2]["rows"]  # 1.96 times 1 or 2 over the root of 4
    by_metric = {it["metric"]: it["rows"] for it in summary["differences"]}
    assert by_metric["revenue"][0]["tied"] == "interval and noise floor"
    assert by_metric["ads"][0]["tied"] == "interval"


def test_a_report_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataFileError, match=r"audit\.json: not the audit\.json that this version writes: options"):
        simenv.view(save(tmp_path / "run", rows("m")), audit=[tmp_path])


def test_a_run_with_failures_abstentions_and_violations(tmp_path: Path) -> None:
    summary = data_of(simenv.view(hostile_run(tmp_path / "run")).path)
    assert summary["mechanisms"] == list(MECHANISMS)
    positions = {(r["mechanism"], r["group"]): (r["ads"], r["abstained"]) for r in summary["clicks"]["position"]}
    assert positions[MECHANISMS[2], "2"] == (2, 1)
    assert set(summary["clicks"]) == {"position", "category", "income", "age", "tolerance of ads"}
