"""`simenv fit-evaluator`: readings of a run, and the evaluator that is learned from them."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from simenv.background_loop import run_sync
from simenv.cli.main import main
from simenv.ctr.evaluator import Evaluator
from simenv.ctr.learned import Impression
from simenv.errors import InputError
from simenv.fitting import evaluator as fitting
from simenv.fitting.evaluator import fit_evaluator
from simenv.fitting.evaluator_report import blocks_of
from simenv.fitting.grading import graded
from simenv.fitting.readings import Reading, readings
from simenv.judges.intent_grader import IntentGrader
from simenv.llm import ScriptedLLM
from simenv.llm.base import Request
from simenv.records import Transition
from simenv.runs.folder import RunFolder
from simenv.runs.judged_again import JudgedRun
from simenv.runs.rollout import Finished
from simenv.testing import FakeEncoder, small_world
from simenv.validity.scenarios import load_scenarios
from tests.support.runs import transitions

ENCODER = FakeEncoder(64)
WORLD = small_world()


@pytest.fixture(scope="module")
def rows() -> list[Transition]:
    return transitions(WORLD, "fixed_slots", "gsp", n=36)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, rows: list[Transition]) -> Path:
    folder = RunFolder(tmp_path_factory.mktemp("evaluator") / "run")
    folder.begin({"mechanisms": ["fixed_slots", "gsp"], "n": 36}, {}, {})
    folder.save_sessions({n: run_sync(WORLD.session, 1, n) for n in range(36 // WORLD.horizon)})
    folder.append(Finished(rows, {}))
    return folder.path


def read(run: Path, **options: int | str) -> list[Reading]:
    judge = WORLD.judge
    return run_sync(lambda: readings(JudgedRun(run), ENCODER, judge=judge, **options))  # type: ignore[arg-type]


def test_readings_are_the_runs_verdicts(run: Path, rows: list[Transition]) -> None:
    own = read(run)
    clicks = [click for t in rows for click in t.feedback.clicks]
    assert [(r.impression.ad, r.impression.clicked, r.intent) for r in own] == [
        (click.ad_id, click.clicked, click.click_prob) for click in clicks
    ]
    assert {r.impression.rank for r in own} == {0, 1}
    assert len(read(run, mechanism="gsp")) < len(own)


def test_further_readers_and_other_ads_are_read_by_the_judge(run: Path, rows: list[Transition]) -> None:
    own = len(read(run))
    more = read(run, readers=2, swaps=1)[own:]
    assert len(more) == 2 * own + len([t for t in rows if t.outcome.placements])
    swapped = [r for r in more if r.source == "swaps"]
    for reading in swapped:
        text, bid = reading.case.outcome.response, reading.case.auction.bid_of(reading.impression.ad)
        assert text.count(bid.ad.link) == 1
        assert not reading.case.outcome.violations
        query, ad = ENCODER.encode([reading.case.auction.query.text, bid.ad.text])
        assert bid.relevance == pytest.approx(float(query @ ad), abs=1e-6)
    others = [r for r in more if r.source == "readers"]
    assert np.mean([r.intent for r in swapped]) < np.mean([r.intent for r in others])
    assert {r.impression.persona for r in others} == {p.id for p in WORLD.personas}
    assert all(r.view.profile == r.case.persona.profile for r in others)
    with pytest.raises(InputError, match="at least 0, got -1 and 0"):
        read(run, readers=-1)


def test_the_parts_share_no_reader_and_no_held_out_ad(run: Path) -> None:
    found = read(run, readers=3)
    held = fitting._split(found)
    readers = {p: {r.impression.persona for r, at in zip(found, held, strict=True) if at == p} for p in set(held)}
    assert not readers["head"] & readers["map"]
    assert not readers["personas"] & (readers["head"] | readers["map"] | readers["ads"])
    ads = {p: {r.impression.ad for r, at in zip(found, held, strict=True) if at == p} for p in set(held)}
    assert not ads["ads"] & (ads["head"] | ads["map"])


def test_an_evaluator_is_learned_and_measured(run: Path) -> None:
    fitted = fit_evaluator(read(run, readers=2, swaps=1), ENCODER, log="here", units=4)
    assert isinstance(fitted.evaluator, Evaluator)
    assert fitted.evaluator.name.endswith(" of here")
    assert fitted.evaluator.file.targets == fitting.TARGETS
    assert [part.name for part in fitted.parts] == ["personas", "ads"]
    for part in fitted.parts:
        assert [row.model for row in part.quality] == ["evaluator", "its grades as they are", "cosine", "learned"]
        ours, grades, *_ = part.quality
        assert ours.auc == pytest.approx(grades.auc, abs=0.05)  # the map is monotone; flat ends may tie
        assert ours.calibration_error < grades.calibration_error
    titles = [block.title for block in blocks_of(fitted)]
    assert titles[0] == "Map from scores to click probabilities"
    assert titles[1].startswith("Held-out personas: ")


def test_verdicts_without_probabilities_are_the_grades_one_and_five() -> None:
    levels = np.array([0.0, 1.0, 1.0, 0.0])
    assert fitting._graded(levels, levels).tolist() == [1, 5, 5, 1]
    probs = np.linspace(0, 1, 11)
    assert fitting._graded(probs, probs).tolist() == [1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_contrasts_of_the_development_part_are_read_and_never_measure(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three scenarios; there are 24."""
    monkeypatch.setattr("simenv.fitting.readings.load_scenarios", lambda part: load_scenarios(part, 3))
    own = len(read(run))
    worded = read(run, contrasts=True)[own:]
    assert len(worded) == 3 * 13 * 3
    assert {r.source for r in worded} == {"contrasts"}
    assert len({r.case.auction.id for r in worded}) == len(worded)
    assert set(fitting._split([*read(run), *worded])[own:]) == {"head"}
    assert sum("!!!" in r.case.outcome.response for r in worded) >= 3 * 3


def test_a_language_models_grades_are_learned_instead(run: Path) -> None:
    """A fake grader, which likes what has the word trail in it; some replies cannot be read."""

    def reply(request: Request) -> str:
        ids = request.prompt.user.rpartition(": ")[2].split(", ")
        if str(request.key[0]).endswith("9"):
            return "no grades"
        likes = 5 if "trail" in request.prompt.user.partition("<answer")[2] else 1
        grades = {"intent": likes, "relevance": 3, "coherence": 3, "effectiveness": 2}
        return json.dumps({"ads": [{"ad_id": ad_id.strip(), **grades} for ad_id in ids]})

    rows = read(run, readers=3)
    llm = ScriptedLLM(reply, follows_formats=True)
    grades = run_sync(lambda: graded(rows, IntentGrader(llm)))
    assert grades.shape == (len(rows), 4)
    assert set(grades[:, 0]) <= {0, 1, 5}
    answers = {(r.case.persona.id, r.case.auction.id, r.case.outcome.response) for r in rows}
    assert len(llm.requests) == len(answers) < len(rows)
    fitted = fit_evaluator(rows, ENCODER, grades=grades, graded_by="fake")
    assert fitted.evaluator.file.learned["grades"] == "by fake"
    with pytest.raises(InputError, match="none of the 1 replies of llm:scripted could be read as grades"):
        run_sync(lambda: graded(rows[:1], IntentGrader(ScriptedLLM(["no"], follows_formats=True))))


def test_too_few_readers_are_refused(run: Path) -> None:
    one = [r._replace(impression=r.impression._replace(persona="p")) for r in read(run)]
    with pytest.raises(InputError, match=r"at least three personas and of two ads, got \d+ by 1 of \d+"):
        fit_evaluator(one, ENCODER)
    with pytest.raises(InputError, match="got 0 by 0 of 0"):
        fit_evaluator([], ENCODER)
    assert isinstance(one[0].impression, Impression)


def test_the_command_names_a_mechanism_that_is_not_there(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["fit-evaluator", str(run), "--mechanism", "nope", "--out", str(run.parent / "evaluator.json")])
    assert ended.value.code == 2
    assert "unknown mechanism of the run 'nope'" in capsys.readouterr().err


def test_equal_predictions_have_no_rank_correlation_and_no_warning() -> None:
    intent = np.arange(3.0)
    with warnings.catch_warnings(action="error"):
        assert math.isnan(fitting._rank_correlation(intent, np.ones(3)))
    assert fitting._rank_correlation(intent, -intent) == -1.0
