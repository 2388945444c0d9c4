"""Which follow-up question a user chooses: the formula, its draws, and judges that ask language models."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

from simenv import Auction, Feedback, Outcome, Persona
from simenv.background_loop import run_sync
from simenv.errors import InputError, PlugInFailed
from simenv.judges.base import Judge, ask_choice
from simenv.judges.click_model import ClickModel
from simenv.judges.click_worlds import QuestionParams, load_world, world_v1
from simenv.judges.embedded_judge import EmbeddedJudge
from simenv.judges.ensemble_judge import JudgeEnsemble
from simenv.judges.llm_judge import LLMJudge
from simenv.judges.questions import choice_probs, drawn
from simenv.llm import Capability, ScriptedLLM
from simenv.records import Choice, Suggestion
from simenv.testing import PERSONAS, FakeEncoder
from tests.support.auctions import make_auction, small_auction
from tests.support.fakes import ConstantJudge

AUCTION, PERSONA = small_auction(2), PERSONAS[0]
TEXTS = ("Which boots are dry?", "Which trails are wet?", "What is a loan?")
QUESTIONS = tuple(Suggestion(text=text, ad_id="ad-1" if "boots" in text else None) for text in TEXTS)


def choose(judge: Judge, auction: Auction = AUCTION, persona: Persona = PERSONA) -> Choice:
    return run_sync(ask_choice, judge, persona, auction, QUESTIONS)


def test_the_click_model_chooses_by_the_formula_of_its_world() -> None:
    encoder, numbers = FakeEncoder(), QuestionParams(query=3.0, interests=2.0, none=1.0)
    params = world_v1().changed({"questions.query": 3.0, "questions.interests": 2.0, "questions.none": 1.0})
    assert params.questions == numbers
    texts = [AUCTION.query.text, *PERSONA.interests, *TEXTS]
    vectors = dict(zip(texts, encoder.encode(texts).astype(float), strict=True))
    weights = [
        math.exp(
            3 * vectors[q] @ vectors[AUCTION.query.text] + 2 * max(vectors[q] @ vectors[i] for i in PERSONA.interests)
        )
        for q in TEXTS
    ]
    choice = choose(ClickModel(encoder, params))
    assert choice.probs == pytest.approx([weight / (math.e + sum(weights)) for weight in weights])
    nobody = PERSONA.model_copy(update={"interests": ()})
    alone = [math.exp(3 * vectors[q] @ vectors[AUCTION.query.text]) for q in TEXTS]
    assert choose(ClickModel(encoder, params), persona=nobody).probs == pytest.approx(
        [weight / (math.e + sum(alone)) for weight in alone]
    )


def test_numbers_of_choices_leave_the_worlds_that_ship_as_they_are(tmp_path) -> None:
    file = tmp_path / "keen.toml"
    file.write_text('like = "v1"\nworld = "keen"\n[questions]\nnone = 0.5\n', encoding="utf-8")
    assert load_world(file).questions == QuestionParams(none=0.5)
    assert "questions" not in world_v1().model_dump()
    assert world_v1().changed({"questions.none": 0.5}).sha256 != world_v1().sha256
    assert world_v1().changed({"questions.none": 3.4}).sha256 == world_v1().sha256


def test_weights_of_any_size_give_probabilities() -> None:
    assert choice_probs(np.array([1e4, 0.0]), 0.0).tolist() == [1.0, 0.0]
    assert choice_probs(np.array([-1e4]), 1e4).tolist() == [0.0]
    assert choice_probs(np.zeros(0), 3.4).tolist() == []


def test_draws_follow_the_probabilities_and_are_the_same_for_the_same_question() -> None:
    """2,000 draws, each count within five sd: fresh keys would fail with probability below 1e-5."""
    probs, n = (0.5, 0.2, 0.05), 2000
    auctions = [AUCTION.model_copy(update={"id": f"draw.{i}"}) for i in range(n)]
    counts = Counter(drawn(auction, QUESTIONS, probs) for auction in auctions)
    for place, prob in zip((0, 1, 2, None), (*probs, 0.25), strict=True):
        assert abs(counts[place] - n * prob) < 5 * math.sqrt(n * prob * (1 - prob))
    backwards = [drawn(auction, QUESTIONS[::-1], probs[::-1]) for auction in auctions[:50]]
    assert [None if it is None else 2 - it for it in backwards] == [drawn(a, QUESTIONS, probs) for a in auctions[:50]]
    assert drawn(AUCTION, QUESTIONS, (0.0, 0.0, 0.0)) is None


def asked(*replies: str, **options: Any) -> tuple[Choice, ScriptedLLM]:
    llm = ScriptedLLM(list(replies), follows_formats=True)
    return choose(LLMJudge(llm, frame=False, **options)), llm


def test_a_capable_model_replies_with_a_number() -> None:
    choice, llm = asked('Well: {"choice": 2, "reason": "wet"}')
    assert (choice.place, choice.probs, choice.reason, choice.abstained) == (1, None, "wet", False)
    assert "1. Which boots are dry? (sponsored)\n2. Which trails are wet?\n" in llm.requests[0].prompt.user
    assert AUCTION.query.text in llm.requests[0].prompt.user
    assert asked('{"choice": 0}')[0].place is None


def test_a_reply_that_cannot_be_read_is_asked_for_again_and_then_an_abstention() -> None:
    choice, llm = asked('{"choice": 4}', '{"choice": 3}')
    assert choice.place == 2
    assert "choice must be 0 to 3, got 4" in llm.requests[1].prompt.user
    assert asked('{"choice": 1} or {"choice": 2}', '{"choice": 1}')[0].place == 0
    choice, _ = asked('{"choice": -1}', "the second")
    assert (choice.place, choice.abstained) == (None, True)
    assert choice.reason.startswith("unreadable: no choice in JSON")


def test_shares_of_samples_are_the_probabilities() -> None:
    replies = ('{"choice": 2}', '{"choice": 0}', '{"choice": 2}', '{"choice": 1}')
    choice, _ = asked(*replies, samples=4)
    assert choice.probs == pytest.approx((0.25, 0.5, 0.0))


def test_a_constrained_model_chooses_among_numbers() -> None:
    """The scripted model is uniform over its options: three questions and none."""
    assert choose(LLMJudge(ScriptedLLM())).probs == pytest.approx((0.25, 0.25, 0.25))
    without = ScriptedLLM(capabilities=frozenset({Capability.CONSTRAINT, Capability.PREFILL}))
    choice = choose(LLMJudge(without))
    assert choice.probs is None
    assert without.requests[-1].constraint.options == (" 0", " 1", " 2", " 3")


class FakeChooser(ConstantJudge):
    """Chooses as it is told."""

    def __init__(self, choice: object, name: str = "chooser") -> None:
        super().__init__()
        self.name, self._choice = name, choice

    def choose(self, persona: Persona, auction: Auction, questions: object) -> Any:
        if isinstance(self._choice, Exception):
            raise self._choice
        return self._choice


def test_an_ensemble_draws_with_the_mean_and_leaves_out_who_abstains() -> None:
    members = [
        FakeChooser(Choice(place=0, probs=(0.6, 0.2, 0.1)), "a"),
        FakeChooser(Choice(place=1), "b"),
        FakeChooser(Choice(abstained=True), "c"),
    ]
    choice = choose(JudgeEnsemble(members))
    assert choice.probs == pytest.approx((0.3, 0.6, 0.05))
    assert choice.place == drawn(AUCTION, QUESTIONS, choice.probs)
    assert choose(JudgeEnsemble([members[2], FakeChooser(Choice(abstained=True), "d")])).abstained


def test_a_judge_that_cannot_choose_says_so() -> None:
    with pytest.raises(InputError, match="judge 'constant' cannot choose among follow-up questions"):
        choose(ConstantJudge())


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (ValueError("boom"), "raised ValueError: boom"),
        (2, "returned int, expected a Choice"),
        (Choice(place=3), "chooses question 3, there are 0 to 2"),
        (Choice(probs=(0.5, 0.6, 0.1)), "expected 3 numbers of at least 0 that sum to at most 1"),
        (Choice(probs=(0.5, 0.5)), "expected 3 numbers"),
        (Choice(probs=(-0.5, 0.5, 0.0)), "expected 3 numbers"),
    ],
)
def test_a_choice_that_cannot_be_is_refused(choice: object, told: str) -> None:
    with pytest.raises(PlugInFailed, match=told):
        choose(FakeChooser(choice))


def test_feedback_without_a_choice_has_no_field_for_it() -> None:
    assert "choice" not in json.loads(Feedback().model_dump_json())
    assert not {"suggestions", "chosen"} & set(json.loads(Outcome(response="").model_dump_json()))
    assert "abstained" not in Choice().model_dump()


def test_the_embedded_judge_chooses_by_the_numbers_of_v1() -> None:
    encoder = FakeEncoder()
    assert choose(EmbeddedJudge(ScriptedLLM(), encoder)) == choose(ClickModel(encoder))


def test_a_question_that_is_offered_twice_is_drawn_as_often_as_its_two_probabilities_say() -> None:
    """2,000 draws; a false alarm has a probability below 1e-6 (5 standard errors)."""
    twice = [Suggestion(text="Which?"), Suggestion(text="Which?")]
    places = [drawn(make_auction([1.0], name=f"a{n}"), twice, (0.2, 0.4)) for n in range(2000)]
    for place, prob in ((0, 0.2), (1, 0.4), (None, 0.4)):
        assert abs(places.count(place) / 2000 - prob) < 5 * (0.25 / 2000) ** 0.5
