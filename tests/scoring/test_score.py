"""Answers in, a run's folder and a table out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simenv
from simenv.background_loop import run_sync
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.judges.click_model import ClickModel
from simenv.records import Transition
from simenv.runs.answering import Progress
from simenv.runs.folder import read_manifest, read_sessions, read_transitions
from simenv.scoring.score import ScoreResult
from tests.support.command_line import called

pytestmark = pytest.mark.weights
LITTER = "Which cat litter smells least?"
ROWS = [
    {"query": LITTER, "response": "Clumping litter. Try Purrdust Wood Litter.", "system": "gpt", "bid": 3, "price": 1},
    {"query": LITTER, "response": "Clumping litter, changed weekly.", "system": "plain"},
    {"query": "How do I relax?", "response": "Rowanhand Massage at Home, or a walk.", "system": "gpt", "bid": 2},
]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> ScoreResult:
    return simenv.score(ROWS, out=tmp_path_factory.mktemp("scored") / "run")


def mean(result: simenv.BenchResult, system: str, metric: str) -> float:
    return float(result.table.set_index(["mechanism", "metric"]).loc[(system, metric), "mean"])


def test_answers_are_judged_as_if_a_mechanism_had_written_them(scored: ScoreResult) -> None:
    """The same answers from a mechanism get the same numbers."""
    first, plain, second = scored.records
    assert [(t.index, t.mechanism) for t in scored.records] == [(0, "gpt"), (0, "plain"), (1, "gpt")]
    assert first.outcome.response == "Clumping litter. Try @Purrdust Wood Litter@[A001]."
    assert first.auction == plain.auction, "both answered one question of one user"
    prob = first.feedback.clicks[0].click_prob
    assert prob is not None
    assert first.auction.bids[0].relevance > 0.3, "the litter fits the question"
    assert first.expected_payments == {"A001": pytest.approx(1 * prob)}
    assert first.expected_reward == pytest.approx(3 * prob)
    assert mean(scored, "gpt", "revenue") == pytest.approx(prob / 2)
    assert second.values == {"A002": 2.0}
    assert second.outcome.details == {"row": "answer 3", "wording": {"A002": "Rowanhand Massage at Home"}}

    world = simenv.make_world(quality="embedded")
    session = read_sessions(scored.folder)[0]
    again = run_sync(lambda: world.step(session, 0, first.outcome, auction=first.auction, name="gpt"))
    assert again.feedback.clicks == first.feedback.clicks
    assert again.feedback.satisfaction == first.feedback.satisfaction


def test_the_folder_is_that_of_a_run(scored: ScoreResult) -> None:
    assert list(read_transitions(scored.folder)) == scored.records
    assert sorted(read_sessions(scored.folder)) == [0, 1]
    manifest = read_manifest(scored.folder)
    assert manifest["finished"] is not None
    assert manifest["world"]["reference"] == "none"
    assert manifest["world"]["scored"]["rows"] == 3
    assert manifest["world"]["scored"]["columns"] == {
        "answers": {"query": "query", "response": "response", "system": "system", "bid": "bid", "price": "price"}
    }
    assert "reference none" in (scored.folder / "table.md").read_text(encoding="utf-8")
    assert any(note.startswith("users: 3 of 3 answers name none") for note in scored.notes)
    assert any(note.startswith("price: not given for 1 of 2 ads shown, taken as 0") for note in scored.notes)


def test_a_name_without_a_link_is_not_disclosed_by_one(scored: ScoreResult) -> None:
    def disclosures(rows: list[dict[str, Any]]) -> list[float | None]:
        ads = [it for t in simenv.score(rows).records if t.feedback.quality for it in t.feedback.quality.ads]
        return [it.disclosure for it in ads]

    assert [it.disclosure for t in scored.records if t.feedback.quality for it in t.feedback.quality.ads] == [0, 0]
    links = [{"query": LITTER, "response": f"Clean it. {text}"} for text in ("[Purrdust](A001) is fine.", "[A](A001).")]
    links[1]["response"] += " That was a sponsored ad: [Rowanhand](A002), an ad."
    assert disclosures(links[:1]) == [0.5]
    assert disclosures([{"query": LITTER, "response": "Sponsored: Purrdust Wood Litter."}]) == [1.0]


def test_the_factuality_of_an_ad_without_copy_is_unknown() -> None:
    row = {"query": "Which lamp?", "response": "Zork Lamp costs $3.", "ads": "Zork Lamp"}
    result = simenv.score([row], catalog="none")
    quality = result.records[0].feedback.quality
    assert quality is not None
    assert [it.factuality for it in quality.ads] == [None]
    assert any(note.startswith("copy: 1 of 1 ads have no body") for note in result.notes)


def test_quality_is_compared_with_the_column_of_answers_without_ads() -> None:
    rows = [{**row, "ad_free": "Clumping litter, changed weekly."} for row in ROWS[:2]]
    gpt, plain = simenv.score(rows).records
    assert plain.feedback.quality is not None
    assert plain.feedback.quality.ad_free == "Clumping litter, changed weekly."
    assert plain.feedback.quality.quality_loss == pytest.approx(0, abs=0.05)
    assert gpt.feedback.quality is not None
    assert gpt.feedback.quality.quality_loss is not None
    ignored = simenv.score(rows, reference="none").records[0].feedback.quality
    assert ignored is not None
    assert ignored.quality_loss is None


def test_a_model_may_write_the_answers_without_ads() -> None:
    result = simenv.score(ROWS[:1], reference="model", llm="scripted")
    quality = result.records[0].feedback.quality
    assert quality is not None
    assert quality.ad_free
    assert quality.usage.calls == 1
    assert read_manifest(result.folder)["world"]["ad_llm"] == "scripted"


def test_bad_rows_are_an_error_before_anything_is_written(tmp_path: Path) -> None:
    rows = [*ROWS, {"query": "", "response": "x"}, {"query": "a?", "response": "b", "bid": -1}]
    with pytest.raises(DataFileError, match=r"^2 of 5 rows cannot be scored: answer 4: query: is empty.*skip_bad"):
        simenv.score(rows, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    result = simenv.score(rows, out=tmp_path / "run", skip_bad=True, quality="none")
    assert [text.split(":")[0] for text in result.bad] == ["answer 4", "answer 5"]
    assert read_manifest(result.folder)["world"]["scored"]["bad"] == 2
    with pytest.raises(DataFileError, match="1 of 1 rows cannot be scored"):
        simenv.score(rows[-1:], skip_bad=True)


def test_empty_answers_are_measured_and_refused_as_a_result() -> None:
    warned: list[str] = []
    rows = [{"query": f"{i}?", "response": ""} for i in range(3)]
    result = simenv.score(rows, quality="none", progress=Progress(warned=warned.append))
    assert [text.split(":")[0] for text in warned] == ["no answer shows an ad of the catalog everyday"]
    assert result.problems == ("answers are empty: 3 of 3 of answers",)


def test_hostile_text_stays_text() -> None:
    rows = [
        {"query": "a @X@[A001]?", "response": "<script>alert(1)</script> Purrdust Wood Litter @A@[A002] \x1b[31m"},
        {
            "query": "b?",
            "response": "[Purrdust](javascript:alert(1)) and " + "[" * 2000 + "@" * 2000,
            "persona": "A @b@[c] d",
        },
    ]
    one, other = simenv.score(rows, ads_as="names", quality="none").records
    assert one.auction.query.text == "a X?"
    assert [placement.ad_id for placement in one.outcome.placements] == ["A001"]
    assert one.outcome.response.startswith("<script>alert(1)</script> @Purrdust Wood Litter@[A001] A")
    assert [placement.ad_id for placement in other.outcome.placements] == ["A001"]
    assert not one.outcome.violations


def test_faults_of_markup_are_counted() -> None:
    text = "@Purrdust Wood Litter@[A001] @Purrdust Wood Litter@[A001] @Other@[A002] @None@[zz]"
    (t,) = simenv.score([{"query": "a?", "response": text}], quality="none").records
    assert [it.kind for it in t.outcome.violations] == ["repeated_ad", "changed_title", "unknown_ad"]
    assert [placement.ad_id for placement in t.outcome.placements] == ["A001"]


def test_scored_runs_are_compared_by_question(tmp_path: Path) -> None:
    for name, response in (("one", "Try Purrdust Wood Litter."), ("two", "Use sand.")):
        rows = [{"query": f"{LITTER} {i}", "response": response} for i in range(3)]
        order = rows if name == "one" else rows[::-1]
        simenv.score([{**row, "system": name} for row in order], out=tmp_path / name, quality="none")
    comparison = simenv.compare([tmp_path / "one", tmp_path / "two"])
    assert comparison.differing == []
    assert comparison.summary.unpaired == frozenset()


def test_wrong_options_are_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="baseline"):
        simenv.score(ROWS, baseline="nobody")
    with pytest.raises(InputError, match="unknown option 'mechanisms'"):
        simenv.score(ROWS, mechanisms="gsp")
    with pytest.raises(InputError, match="no ads: catalog is none, and no row describes one"):
        simenv.score([{"query": "a?", "response": "b"}], catalog="none")
    with pytest.raises(InputError, match="expected a mapping of column to value, got int"):
        simenv.score([1])  # type: ignore[list-item]
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    with pytest.raises(DataFileError, match="is not empty"):
        simenv.score(ROWS, out=tmp_path / "used")


def test_a_scoring_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"query": f"q {i}?", "response": "Try Purrdust Wood Litter."} for i in range(4)]
    options: dict[str, Any] = {"quality": "none", "chunk": 2}
    whole = simenv.score(rows, out=tmp_path / "whole", **options)

    judge, asked = ClickModel.judge, []

    async def third_fails(self: ClickModel, *args: Any) -> Any:
        asked.append(args)
        if len(asked) == 4:
            raise simenv.SimenvError("no verdict")
        return await judge(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ClickModel, "judge", third_fails)
        with pytest.raises(simenv.SimenvError, match="no verdict"):
            simenv.score(rows, out=tmp_path / "cut", **options)
    before: list[Transition] = list(read_transitions(tmp_path / "cut", left_out=lambda text: None))
    assert len(before) == 2
    with pytest.raises(InputError, match="cannot resume with other options: seed was 0, now 1"):
        simenv.score(rows, out=tmp_path / "cut", resume=True, seed=1, **options)
    with pytest.raises(InputError, match=r"cannot resume .* on other data: (queries|answers) was"):
        simenv.score([*rows[:3], {**rows[3], "response": "No."}], out=tmp_path / "cut", resume=True, **options)
    with pytest.raises(DataFileError, match=r"no manifest.json: not the folder of a run"):
        simenv.score(rows, out=tmp_path / "none", resume=True, **options)
    assert not (tmp_path / "none").exists()
    again = simenv.score(rows, out=tmp_path / "cut", resume=True, **options)
    assert again.records == whole.records
    assert (tmp_path / "cut" / "sessions.jsonl").read_bytes() == (tmp_path / "whole" / "sessions.jsonl").read_bytes()


def test_the_command_scores_files_and_says_how_they_were_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ours.md").write_text(f"## {LITTER}\nTry Purrdust Wood Litter.\n## Bad\n", encoding="utf-8")
    (tmp_path / "theirs.jsonl").write_text(
        json.dumps({"query": LITTER, "response": "Sand."}) + "\n{\n", encoding="utf-8"
    )
    files = [str(tmp_path / name) for name in ("ours.md", "theirs.jsonl")]
    assert called(["score", *files, "--out", str(tmp_path / "run"), "--quality", "none"]) == 2
    assert "1 of 4 rows cannot be scored: " in capsys.readouterr().err
    command = ["score", *files, "--out", str(tmp_path / "run"), "--quality", "none", "--skip-bad", "--seed", "5"]
    assert called([*command, "--fail-on-useless", "1"]) == 0
    said = capsys.readouterr()
    assert "ours.md: 2 answers; columns query=query, response=response; 1 ads, by their names in the text" in said.err
    assert "1 of 4 rows are left out; the first: " in said.err
    assert "Judge click-model-v1" in said.out
    assert [t.mechanism for t in read_transitions(tmp_path / "run")] == ["ours", "theirs", "ours"]
