"""Click logs: of a run, of the export of its clicks, and of somebody's own columns."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from simenv.background_loop import run_sync
from simenv.cli.main import main
from simenv.datasets.export import export_clicks
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.fitting import ClickLog, read_click_log
from simenv.judges.click_worlds import load_world
from simenv.records import Transition
from simenv.runs.folder import RunFolder
from simenv.runs.rollout import Finished
from simenv.testing import FakeEncoder, small_world
from tests.support.clicks import drawn_answers
from tests.support.runs import transitions

WORLD = small_world()


@pytest.fixture(scope="module")
def rows() -> list[Transition]:
    return transitions(WORLD, "gsp", "fixed_slots", n=24)


@pytest.fixture
def run(tmp_path: Path, rows: list[Transition]) -> Path:
    folder = RunFolder(tmp_path / "run")
    folder.begin({"mechanisms": ["gsp", "fixed_slots"], "n": 24}, {}, {})
    folder.save_sessions({n: run_sync(WORLD.session, 1, n) for n in range(24 // WORLD.horizon)})
    folder.append(Finished(rows, {}))
    return tmp_path / "run"


def read(path: Path, **options: object) -> ClickLog:
    return read_click_log(path, encoder=FakeEncoder(), **options)  # type: ignore[arg-type]


def test_a_run_is_read_with_its_personas_and_texts(run: Path, rows: list[Transition]) -> None:
    log = read(run).impressions
    shown = [click for t in rows for click in t.feedback.clicks]
    assert log.clicked.tolist() == [float(click.clicked or 0) for click in shown]
    assert log.decided.all()
    assert set(log.users) == {t.persona_id for t in rows}
    assert len(set(log.numbers["tolerance"])) > 1
    assert len(set(log.numbers["coherence"])) > 1
    assert len(read(run, mechanism="gsp").impressions.clicked) < len(shown)
    with pytest.raises(UnknownName, match="unknown mechanism of the log 'vcg'"):
        read(run, mechanism="vcg")
    with pytest.raises(InputError, match="is the folder of a run"):
        read(run, personas="everyday")


def test_the_export_of_a_runs_clicks_measures_the_same(run: Path, rows: list[Transition], tmp_path: Path) -> None:
    """But for what the export does not have: traits, and the advertiser, whose name the run's measures leave out."""
    export_clicks(rows, tmp_path / "clicks.jsonl")
    ours, theirs = read(run).impressions, read(tmp_path / "clicks.jsonl").impressions
    assert theirs.clicked.tolist() == ours.clicked.tolist()
    for name in ("rank", "words_before", "shouting", "ads", "leak"):
        assert theirs.numbers[name].tolist() == ours.numbers[name].tolist(), name
    assert set(theirs.numbers["patience"]) == {0.5}


def table(path: Path, header: list[str], rows: list[list[object]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_columns_of_other_names_and_plain_titles_in_the_text(tmp_path: Path) -> None:
    file = table(
        tmp_path / "log.csv",
        ["uid", "clk", "q", "text", "title", "page"],
        [
            ["u1", "1", "which boots", "Wear boots on trails. Tern boots are resoled for life.", "Tern boots", "a"],
            ["u2", "0", "which boots", "Nothing is named here.", "Tern boots", "b"],
        ],
    )
    names = {"persona_id": "uid", "clicked": "clk", "query": "q", "response": "text", "ad_title": "title"}
    log = read(file, columns=names | {"auction_id": "page"}).impressions
    assert log.decided.tolist() == [True, False]  # the second answer does not show its ad
    assert log.numbers["words_before"].tolist() == [4, 0]
    assert log.numbers["cosine"][0] > 0


def test_a_log_without_texts_has_places_and_users_only(tmp_path: Path) -> None:
    header = ["persona_id", "auction_id", "ad_id", "position", "words_before", "clicked", "patience"]
    rows: list[list[object]] = [["u1", "x", "a", 1, 10, "true", 0.2], ["u1", "x", "b", 2, 30, "", 0.2]]
    log = read(table(tmp_path / "log.csv", header, rows)).impressions
    assert log.numbers["rank"].tolist() == [0, 1]  # of places that begin at 1
    assert log.numbers["words_before"].tolist() == [10, 30]
    assert log.numbers["ads"].tolist() == [2, 2]
    assert log.decided.tolist() == [True, False]
    assert set(log.numbers["cosine"]) == {load_world("v1").attraction.relevance_centre}
    assert log.offers == ("a", "b")


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        (
            ["persona_id", "ad_id"],
            ["u", "a"],
            r"log.csv:2: missing column 'clicked'; the columns are persona_id, ad_id",
        ),
        (["user", "clicked"], ["u", "1"], r"log.csv:2: missing column 'persona_id'"),
        (["persona_id", "clicked"], ["u", "maybe"], r"log.csv:2: clicked: expected true, false, 1, 0 or nothing, got"),
        (["persona_id", "clicked", "position"], ["u", "1", "top"], r"log.csv:2: position: expected a number .* 'top'"),
        (["persona_id", "clicked", "patience"], ["u", "1", "7"], r"log.csv:2: patience: input should be less than"),
    ],
)
def test_rows_that_cannot_be_read_are_named(tmp_path: Path, header: list[str], row: list[object], said: str) -> None:
    with pytest.raises(DataFileError, match=said):
        read(table(tmp_path / "log.csv", header, [row]))


def test_the_command_writes_a_world_that_a_judge_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simenv.fitting.log.default_encoder", FakeEncoder)
    rows: list[list[object]] = [
        [user, number, ad.offer, place, ad.words_before, int(bool(clicked)), measures.traits.patience]
        for number, (user, measures, verdicts, _) in enumerate(drawn_answers(load_world("v1"), 200, users=40))
        for place, (ad, clicked) in enumerate(zip(measures.ads, verdicts, strict=True))
    ]
    header = ["persona_id", "auction_id", "ad_id", "position", "words_before", "clicked", "patience"]
    log, out = table(tmp_path / "log.csv", header, rows), tmp_path / "my_world.toml"
    arguments = ["fit-world", str(log), "--out", str(out), "--draws", "10", "--report", str(tmp_path / "report")]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    printed = capsys.readouterr().out
    assert ended.value.code == 0
    assert load_world(out).world == "my_world"
    assert "The log cannot tell" in printed
    assert "attraction.relevance" in printed.partition("The log cannot tell")[2]
    assert sorted(file.name for file in (tmp_path / "report").iterdir()) == ["calibration.svg", "fit.json", "report.md"]
    with pytest.raises(SystemExit) as again:
        main(arguments)
    assert again.value.code == 2
    assert "my_world.toml exists already" in capsys.readouterr().err
