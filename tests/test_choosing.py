"""Worlds in which the user chooses a follow-up question before the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from mechanisms.sponsored_questions import SponsoredQuestions
from simenv import Auction, Outcome, Transition, make_mechanism, outcome
from simenv.auditing.evaluate import AuditCase, AuditedMechanism, BidEvaluator
from simenv.datasets.export import click_rows
from simenv.datasets.training_data import NoRows, sft_rows
from simenv.env.environment import transcript
from simenv.errors import InputError, OutcomeError
from simenv.judges.base import ask_choice
from simenv.judges.llm_judge import LLMJudge
from simenv.llm import ScriptedLLM
from simenv.quality.embedded import EmbeddedQuality
from simenv.records import Choice, Persona, Suggestion
from simenv.report.answer import pack
from simenv.runs.answer_metrics import QuestionChosen, SponsoredChosen
from simenv.testing import FakeEncoder, FakeRoles, small_world
from simenv.world import World
from tests.support.fakes import ConstantJudge

QUESTIONS = ("Which hiking boots for wet trails?", "Which savings account has no fee?", "Which rail pass for trains?")


def reply(request: Any) -> str:
    if request.key[1] == "follow-ups":
        return "\n".join(QUESTIONS)
    return f"On {request.prompt.user.splitlines()[0]}"


LLM = ScriptedLLM(reply, follows_formats=True, capabilities=frozenset())


class FakeUser(ConstantJudge):
    """Chooses the question of this place, and keeps what it was asked to judge."""

    def __init__(self, place: int | None, probs: tuple[float, ...] | None = (0.2, 0.3, 0.4)) -> None:
        super().__init__()
        self.place, self.probs = place, probs
        self.judged: list[str] = []

    async def choose(self, persona: Persona, auction: Auction, questions: object) -> Choice:
        return Choice(place=self.place, probs=self.probs)

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome):
        self.judged.append(auction.query.text)
        return await super().judge(persona, auction, outcome)


def step(world: World, mechanism: object | None = None) -> Transition:
    async def go() -> Transition:
        session = await world.session(0, 0)
        return await world.step(session, 0, mechanism or SponsoredQuestions(LLM, encoder=FakeEncoder()))

    return asyncio.run(go())


def test_the_user_chooses_and_the_judge_reads_the_answer_to_the_chosen_question() -> None:
    user = FakeUser(1)
    t = step(small_world(judge=user))
    chosen = t.outcome.suggestions[1]
    assert t.outcome.chosen == 1
    assert t.outcome.response.startswith(f"On {chosen.text}")
    assert user.judged == [chosen.text] != [t.auction.query.text]
    assert t.feedback.choice == Choice(place=1, probs=(0.2, 0.3, 0.4))
    assert [(p.ad_id, p.price) for p in t.outcome.placements] == [(chosen.ad_id, chosen.price)]
    assert t.payments == {chosen.ad_id: chosen.price}
    assert t.outcome.usage.calls >= 3  # questions, answer, sentence
    assert Transition.model_validate_json(t.model_dump_json()) == t


def test_who_chooses_none_gets_an_answer_to_the_query_without_ads() -> None:
    t = step(small_world(judge=FakeUser(None)))
    assert (t.outcome.chosen, t.outcome.placements, t.payments) == (None, (), {})
    assert t.outcome.response.startswith(f"On {t.auction.query.text}")
    assert len(t.outcome.suggestions) == 3


def test_tables_logs_and_pages_show_the_choice() -> None:
    t = step(small_world(judge=FakeUser(1)))
    first, second = t.outcome.suggestions[:2]
    bare = first.model_copy(update={"ad_id": None, "price": None})
    t = t.model_copy(
        update={"outcome": t.outcome.model_copy(update={"suggestions": (bare, *t.outcome.suggestions[1:])})}
    )
    assert QuestionChosen().measure(t, True) == (pytest.approx(0.9), 1.0)
    assert SponsoredChosen().measure(t, True) == (pytest.approx(0.7), 1.0)
    assert SponsoredChosen().measure(t, False) == (1.0, 1.0)
    shown = transcript(t).splitlines()
    assert shown[1] == f"  - {bare.text}, predicted {bare.prob:.2f}, probability 0.20"
    assert shown[2].startswith(f"  * {second.text} (sponsored by {second.ad_id}, {second.price:.2f} per click)")
    assert [row[-1] for row in pack(t, {}).fields["asked"]] == [False, True, False]
    assert [row["query"] for row in click_rows([t])] == [second.text]
    with pytest.raises(NoRows):
        sft_rows([t])
    none = step(small_world(judge=FakeUser(None, None)))
    assert QuestionChosen().measure(none, True) == (0.0, 1.0)
    plain = step(small_world(), make_mechanism("gsp", context={"llm": ScriptedLLM()}))
    assert QuestionChosen().measure(plain, True) is None
    assert "asked" not in pack(plain, {}).fields


def test_quality_is_measured_against_the_answer_to_the_chosen_question() -> None:
    quality, organic = EmbeddedQuality(FakeEncoder()), make_mechanism("organic", context={"llm": LLM})
    t = step(small_world(judge=FakeUser(0), quality=quality, ad_free=organic))
    assert t.feedback.quality.ad_free == f"On {t.outcome.suggestions[0].text}"
    t = step(small_world(judge=FakeUser(None), quality=quality, ad_free=organic))
    assert t.feedback.quality.ad_free == t.outcome.response == f"On {t.auction.query.text}"
    assert t.feedback.quality.quality_loss == 0


def test_a_language_model_may_write_the_questions_choose_and_judge() -> None:
    roles = FakeRoles()
    llm = ScriptedLLM(
        lambda request: roles(
            [
                {"role": "system", "content": request.prompt.system or ""},
                {"role": "user", "content": request.prompt.user},
            ]
        ),
        follows_formats=True,
        capabilities=frozenset(),
    )
    t = step(small_world(judge=LLMJudge(llm)), SponsoredQuestions(llm, encoder=FakeEncoder()))
    choice = t.feedback.choice
    assert len(t.outcome.suggestions) == 2  # of three, one is the query itself
    assert (choice.abstained, choice.place) == (False, t.outcome.chosen)
    assert (roles.seen["follow_ups"], roles.seen["choice"]) == (1, 1)
    assert t.feedback.usage.calls == 1 + roles.seen.get("judge", 0)


class FakeForgetful(SponsoredQuestions):
    """Returns an answer without the questions that it offered."""

    async def answer(self, auction: Auction, offer: Outcome, chosen: int | None) -> Outcome:
        return outcome(auction, "An answer.")


def test_outcomes_that_contradict_the_choice_are_refused() -> None:
    with pytest.raises(OutcomeError, match=r"answer must return the suggestions of its offer and chosen=1, got 0"):
        step(small_world(judge=FakeUser(1)), FakeForgetful(LLM, encoder=FakeEncoder()))
    for wrong, told in (
        ({"chosen": 0}, "chosen must be below the number of suggestions, 0, or None, got 0"),
        ({"suggestions": (Suggestion(text="Why?", ad_id="nobody"),)}, r"suggestions name \['nobody'\]"),
    ):
        with pytest.raises(OutcomeError, match=told):
            step(small_world(), Outcome(response="An answer.", **wrong))


class FakeSilent(SponsoredQuestions):
    """Offers nothing."""

    async def offer(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        return None  # type: ignore[return-value]


def test_an_offer_that_is_no_outcome_is_named() -> None:
    with pytest.raises(OutcomeError, match=r"sponsored_questions\.offer returned NoneType"):
        step(small_world(judge=FakeUser(0)), FakeSilent(LLM, encoder=FakeEncoder()))


def audited(design: str, judge: object) -> tuple[AuditCase, AuditedMechanism, BidEvaluator]:
    world = small_world(judge=judge)
    session = asyncio.run(world.session(0, 0))
    auction = world.auction(session, 0)
    values = np.array([bid.amount for bid in auction.bids])
    case = AuditCase(session.persona, auction, values, np.ones(len(values)))
    mechanism = SponsoredQuestions(LLM, encoder=FakeEncoder(), design=design)
    return case, AuditedMechanism("it", mechanism, mechanism.ctr_model, 0), BidEvaluator(world.judge)


def test_an_audit_weighs_answers_by_the_users_own_choice() -> None:
    """In the mechanism's model by its prediction; in the world by the judge, who clicks every ad at 0.3."""
    user = FakeUser(0)
    case, subject, lab = audited("joint", user)
    played = asyncio.run(lab.play(subject, case, case.values))
    offer = asyncio.run(subject.mechanism.offer(case.auction, np.random.default_rng(0)))
    probs = asyncio.run(ask_choice(user, case.persona, case.auction, offer.suggestions)).probs
    ads = [bid.ad.id for bid in case.auction.bids]
    clicks, own = dict.fromkeys(ads, 0.0), dict.fromkeys(ads, 0.0)
    q = subject.mechanism.ctr_model.by_question(case.auction, [it.text for it in offer.suggestions])
    for place, (question, prob) in enumerate(zip(offer.suggestions, probs, strict=True)):
        clicks[question.ad_id] += prob * 0.3
        own[question.ad_id] += question.prob * q[place, ads.index(question.ad_id)]
    assert played.clicks[0] == pytest.approx(list(clicks.values()))
    assert played.own_clicks[0] == pytest.approx(list(own.values()), rel=1e-5)
    assert lab.best_welfare(case) == pytest.approx(played.clicks[0] @ case.values)


def test_an_audit_needs_the_probabilities_of_choices() -> None:
    case, subject, lab = audited("joint", FakeUser(0, None))
    with pytest.raises(InputError, match="gives no probabilities of follow-up questions, which an audit needs"):
        asyncio.run(lab.play(subject, case, case.values))
