"""Several judges in one: means, abstentions, disagreement; and the warning where one model writes and judges."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from simenv import outcome
from simenv.errors import InputError, UnknownName
from simenv.judges.base import Judge
from simenv.judges.ensemble_judge import JudgeEnsemble
from simenv.judges.factory import make_judge, self_judging
from simenv.judges.llm_judge import LLMJudge
from simenv.llm import LLM, Capability, ScriptedLLM
from simenv.records import Auction, Feedback, Outcome, Persona
from simenv.runs.folder import read_transitions
from simenv.testing import ADS, PERSONAS, FakeOpenAI, FakeRoles
from tests.support.auctions import small_auction
from tests.support.command_line import bench
from tests.support.fakes import ConstantJudge, FormulaJudge

AUCTION = small_auction(2)
ANSWER = outcome(AUCTION, f"Take {ADS[0].link} or {ADS[1].link}.", {ad.id: 5.0 for ad in ADS})


def named(name: str, prob: float | None, clicked: bool | None = True) -> Judge:
    judge = ConstantJudge(prob, clicked)
    judge.name = name
    return judge


def ask(judge: Judge, auction: Auction = AUCTION, answer: Outcome = ANSWER, persona: Persona = PERSONAS[0]) -> Feedback:
    return asyncio.run(judge.judge(persona, auction, answer))


def test_the_mean_over_members_is_the_probability_and_verdicts_count_as_0_and_1() -> None:
    judge = JudgeEnsemble([named("a", 0.2, False), named("b", 0.6), named("c", None, True)])
    feedback = ask(judge)
    assert judge.name == "ensemble(a, b, c)"
    assert [click.ad_id for click in feedback.clicks] == ["ad-1", "ad-2"]
    assert [click.click_prob for click in feedback.clicks] == pytest.approx([0.6, 0.6])
    assert feedback.clicks[0].reason == "a 0.20; b 0.60; c 1.00"
    assert feedback.disagreement == pytest.approx((0.4 + 0.8 + 0.4) / 3)


def test_who_abstains_has_no_say_and_all_abstaining_is_an_abstention() -> None:
    one_abstains = ask(JudgeEnsemble([named("a", 0.3), named("b", None, None)]))
    assert [click.click_prob for click in one_abstains.clicks] == pytest.approx([0.3, 0.3])
    assert one_abstains.clicks[0].reason == "a 0.30; b abstains"
    assert one_abstains.disagreement is None, "nobody to disagree with"
    nobody = ask(JudgeEnsemble([named("a", None, None), named("b", None, None)]))
    assert [(click.clicked, click.click_prob) for click in nobody.clicks] == [(None, None)] * 2
    assert nobody.disagreement is None


def test_each_ad_has_members_of_its_own() -> None:
    first = FormulaJudge(lambda persona, auction, answer, ad_id: 0.1 if ad_id == "ad-1" else None)
    feedback = ask(JudgeEnsemble([first, named("b", 0.5)]))
    assert [click.click_prob for click in feedback.clicks] == pytest.approx([0.3, 0.5])
    assert feedback.disagreement == pytest.approx(0.4)


def test_clicks_are_keyed_draws_from_the_mean() -> None:
    """Of 2,000 draws at 0.3 the share is off by more than 0.05 with probability 1e-6."""
    judge = JudgeEnsemble([named("a", 0.2), named("b", 0.4)])
    drawn = [ask(judge, AUCTION.model_copy(update={"id": f"x{i}"})).clicks[0].clicked for i in range(2000)]
    assert sum(map(bool, drawn)) / len(drawn) == pytest.approx(0.3, abs=0.05)
    assert ask(judge) == ask(judge)
    clicks = ask(JudgeEnsemble([named("a", 0.5), named("b", 0.5)])).clicks
    assert {click.click_prob for click in clicks} == {0.5}


def test_usage_and_models_are_those_of_all_members() -> None:
    llms = [ScriptedLLM(name=name) for name in ("one", "two")]
    judge = JudgeEnsemble([*(LLMJudge(llm) for llm in llms), named("plain", 0.5)])
    feedback = ask(judge)
    assert list(judge.llms) == llms
    assert feedback.usage.calls == 2 * 4, "a verdict and a reason for two ads"
    assert judge.sha256 != JudgeEnsemble([LLMJudge(llms[0]), named("plain", 0.5)]).sha256


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a"]])
def test_fewer_than_two_different_judges_are_no_ensemble(names: list[str]) -> None:
    with pytest.raises(InputError, match="an ensemble needs two or more different judges, got"):
        JudgeEnsemble([named(name, 0.5) for name in names])


def test_members_are_named_and_may_be_variants() -> None:
    built: list[str] = []

    def find(name: str) -> LLM:
        built.append(name)
        return ScriptedLLM(name=name, capabilities=frozenset({Capability.JSON_SCHEMA}), follows_formats=True)

    judge = make_judge(ensemble=["x/one", "x/one#wording2", "x/two"], samples=3, find_llm=find)
    assert judge.name == "ensemble(llm:x/one, llm:x/one#wording2, llm:x/two)"
    assert built == ["x/one", "x/two"], "a model that is named twice is built once"
    with pytest.raises(UnknownName, match=r"unknown variant of the judge x/one 'wording9': .* known are wording2, "):
        make_judge(ensemble=["x/one#wording9", "x/two"], find_llm=find)
    with pytest.raises(InputError, match="judge and judge_ensemble exclude each other, got 'click' and 'x/one,x/two'"):
        make_judge("click", ensemble=["x/one", "x/two"], find_llm=find)


def test_samples_reach_the_members() -> None:
    llm = ScriptedLLM(lambda request: "no", follows_formats=True, capabilities=frozenset())
    assert ask(make_judge("llm", llm=llm, samples=3)).asked_again == 3
    assert len(llm.requests) == 6


def test_a_model_that_knows_its_odds_is_held_to_the_frame() -> None:
    llm = ScriptedLLM(follows_formats=True)
    feedback = ask(make_judge("auto", llm=llm))
    assert [click.click_prob for click in feedback.clicks] == pytest.approx([0.5, 0.5])


def test_one_model_that_writes_and_judges_is_warned_of() -> None:
    writer, other = ScriptedLLM(name="x/writer"), ScriptedLLM(name="x/other")
    warning = self_judging(LLMJudge(writer), writer)
    assert warning is not None
    assert warning.startswith("x/writer writes the answers and judges them")
    ensemble = JudgeEnsemble([LLMJudge(other), LLMJudge(writer)])
    assert self_judging(ensemble, writer) == warning
    assert self_judging(LLMJudge(other), writer) is None
    assert self_judging(named("click", 0.5), writer) is None


@pytest.mark.weights
def test_bench_warns_once_and_reports_disagreement(
    tmp_path: Path,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with FakeOpenAI(FakeRoles()) as server:
        hosted = ["--llm", "openai/fake", "--api-base", server.url, "--mechanisms", "gsp", "--quality", "none"]
        size = [*files, "--n", "4", "--horizon", "2"]
        assert bench(tmp_path / "one", *hosted, *size) == 0
        alone = capsys.readouterr()
        assert bench(tmp_path / "two", *hosted, *size, "--judge-ensemble", "click, openai/fake") == 0
        both = capsys.readouterr()
    said = "simenv: openai/fake writes the answers and judges them"
    assert alone.err.count(said) == both.err.count(said) == 1
    manifests = [json.loads((tmp_path / run / "manifest.json").read_text(encoding="utf-8")) for run in ("one", "two")]
    assert [manifest["world"]["self_judged"] for manifest in manifests] == [True, True]
    assert manifests[0]["judge_disagreement"] is None
    assert manifests[1]["world"]["judge"] == "ensemble(click-model-v1, llm:openai/fake)"
    feedbacks = [transition.feedback for transition in read_transitions(tmp_path / "two")]
    known = [feedback.disagreement for feedback in feedbacks if feedback.disagreement is not None]
    assert known
    assert manifests[1]["judge_disagreement"] == pytest.approx(sum(known) / len(known))
    assert f"differ by {manifests[1]['judge_disagreement']:.3f} on average" in both.out


@pytest.mark.weights
def test_bench_does_not_warn_of_the_click_model(
    tmp_path: Path,
    files: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    people = tmp_path / "asking.jsonl"
    people.write_text("".join(f"{persona.model_dump_json()}\n" for persona in PERSONAS), encoding="utf-8")
    size = [*files[:2], "--personas", str(people), "--n", "2", "--horizon", "2", "--quality", "none"]
    assert bench(tmp_path / "run", "--llm", "scripted", "--mechanisms", "gsp", *size) == 0
    assert "writes the answers and judges them" not in capsys.readouterr().err
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["world"]["self_judged"] is False
