"""Who judges is decided in one place: the environment, runs and training agree."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simenv.errors import InputError, UnknownName
from simenv.judges.click_model import ClickModel
from simenv.judges.factory import make_judge, pick_user_llm
from simenv.judges.llm_judge import LLMJudge
from simenv.llm import ScriptedLLM
from simenv.runs.build import build, plan
from simenv.runs.options import BenchOptions
from simenv.testing import FakeEncoder
from simenv.world_factory import make_world

FOLLOWS, SMALL = ScriptedLLM(follows_formats=True), ScriptedLLM(name="small")
ENCODER = FakeEncoder()


@pytest.mark.parametrize(
    ("name", "llm", "ad_llm", "expected"),
    [
        ("auto", None, None, None),
        ("auto", None, SMALL, None),
        ("auto", None, FOLLOWS, FOLLOWS),
        ("auto", SMALL, FOLLOWS, SMALL),
        ("llm", None, SMALL, SMALL),
        ("llm", FOLLOWS, SMALL, FOLLOWS),
        ("click", None, FOLLOWS, None),
        ("embedded", None, FOLLOWS, None),
    ],
)
def test_who_plays_the_users(
    name: str, llm: ScriptedLLM | None, ad_llm: ScriptedLLM | None, expected: ScriptedLLM | None
) -> None:
    assert pick_user_llm(name, llm, ad_llm) is expected


def test_the_click_model_and_the_embedded_judge_ask_no_user_llm() -> None:
    for name in ("click", "embedded"):
        with pytest.raises(InputError, match=f"the judge {name} asks no User-LLM, got 'small'"):
            make_judge(name, llm=SMALL, encoder=ENCODER)


def test_the_name_decides_the_judge() -> None:
    assert isinstance(make_judge("auto", encoder=ENCODER), ClickModel)
    assert isinstance(make_judge("auto", ad_llm=SMALL, encoder=ENCODER), ClickModel)
    assert isinstance(make_judge("auto", ad_llm=FOLLOWS, encoder=ENCODER), LLMJudge)
    assert isinstance(make_judge("llm", llm=SMALL, encoder=ENCODER), LLMJudge)
    with pytest.raises(UnknownName, match="unknown judge 'jury'"):
        make_judge("jury", encoder=ENCODER)


@pytest.mark.weights
def test_a_model_that_follows_formats_judges_in_the_same_way_everywhere() -> None:
    """The frame decides whether verdicts come with probabilities; its hash is in the judge's."""

    def in_the_environment() -> object:
        return make_world(user_llm=ScriptedLLM(follows_formats=True)).judge

    def in_a_run() -> object:
        options = BenchOptions(
            mechanisms=("organic",), llm="scripted", settings=("scripted.follows_formats=true",), quality="none"
        )
        return build(plan(options)).world.judge

    def in_training() -> object:
        return make_judge("llm", llm="scripted", find_llm=lambda name: ScriptedLLM(follows_formats=True))

    makers: list[Callable[[], object]] = [in_the_environment, in_a_run, in_training]
    judges = [make() for make in makers]
    assert all(isinstance(judge, LLMJudge) for judge in judges)
    assert len({judge.sha256 for judge in judges if isinstance(judge, LLMJudge)}) == 1
    assert {judge.name for judge in judges if isinstance(judge, LLMJudge)} == {"llm:scripted"}
