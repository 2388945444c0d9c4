"""Questions without commercial intent are answered without ads, whatever is bid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mechanisms.llm_auction import intent
from mechanisms.llm_auction.adapter_files import SHIPPED
from mechanisms.llm_auction.intent import CommercialIntent, fit, load, save
from mechanisms.llm_auction.mechanism import LLMAuction
from mechanisms.llm_auction.part_auctions import PLAIN_QUESTIONS
from mechanisms.llm_auction.split import only
from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.encoder import default_encoder
from simenv.errors import DataFileError, InputError
from simenv.llm import LLM, ScriptedLLM
from simenv.mechanism import run_mechanism
from simenv.records import Auction
from simenv.users.personas import load_personas
from simenv.users.queries import load_queries
from tests.support.auctions import make_auction

SHOPPING = [
    "Which running shoes for flat feet?",
    "best laptop under 800 dollars",
    "cheap flights to Lisbon in May",
    "where can I buy a used bicycle",
]
OTHERS = ["Why is the sky blue?", "Who wrote the Iliad?", "what is the capital of Mongolia", "Is zero an even number?"]


def asking(question: str) -> Auction:
    auction = make_auction([90.0, 60.0], [0.5, 0.5], name=f"asked {question}")
    return auction.model_copy(update={"query": auction.query.model_copy(update={"text": question})})


def of_people(part: Any) -> list[str]:
    return [text for persona in only(load_personas(), part) for text in persona.queries]


@pytest.mark.weights
def test_the_classifier_tells_the_kinds_apart_and_reads_back_the_same(tmp_path: Path) -> None:
    made = fit(default_encoder(), SHOPPING, OTHERS * 20)  # both kinds weigh the same
    again = load(tmp_path, default_encoder())
    assert again is None
    save(made, tmp_path)
    again = load(tmp_path, default_encoder())
    assert again is not None
    for question in (*SHOPPING, "a cheap phone with a good camera", *OTHERS, "Who painted Guernica?"):
        probability = made.probability(question)
        assert (probability > 0.5) == (question in SHOPPING or question.startswith("a cheap"))
        assert again.probability(question) == pytest.approx(probability, abs=1e-6)


def test_a_fit_needs_both_kinds() -> None:
    with pytest.raises(InputError, match="questions of both kinds, got 0 with commercial intent and 4 without"):
        fit(default_encoder(), [], OTHERS)


@pytest.mark.weights
@pytest.mark.parametrize("content", [b"", b"\x08\0\0\0\0\0\0\0{}", b"\xff" * 40])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / intent.FILE).write_bytes(content)
    with pytest.raises(DataFileError, match="no classifier of intent, or damaged: "):
        load(tmp_path, default_encoder())


@pytest.mark.weights
@pytest.mark.parametrize("weights", [np.ones(3), np.full(384, np.nan)])
def test_weights_of_another_encoder_are_refused(tmp_path: Path, weights: np.ndarray) -> None:
    save(CommercialIntent(default_encoder(), weights.astype(np.float32), 0.0), tmp_path)
    with pytest.raises(DataFileError, match="expected 384 finite weights"):
        load(tmp_path, default_encoder())


@pytest.mark.weights
def test_the_one_that_ships_is_fitted_to_the_trainings_questions_and_holds_on_others() -> None:
    shipped = load(SHIPPED, default_encoder())
    assert shipped is not None
    fitted = fit(default_encoder(), of_people("train"), [one.text for one in load_queries(PLAIN_QUESTIONS)])
    assert fitted.weights == pytest.approx(shipped.weights, abs=1e-3)

    def refused(questions: list[str]) -> float:
        return float(np.mean([shipped.probability(text) < intent.LEAST for text in questions]))

    assert refused([one.text for one in load_queries("no_commercial_intent")]) >= 0.8
    assert refused(of_people("test")) <= 0.1  # most of these few have no commercial intent either


@pytest.mark.weights
def test_a_question_without_commercial_intent_gets_a_plain_answer_in_one_call(embedded: LLM) -> None:
    mechanism = make_mechanism("llm_auction", context={"llm": embedded})
    quiet, other = (
        run_sync(run_mechanism, mechanism, asking(question), 0)
        for question in ("Why is the sky blue?", "Which good product should I buy?")
    )
    assert quiet.placements == ()
    assert quiet.response
    assert quiet.usage.calls == 1
    assert quiet.details["intent"] < 0.5 < other.details["intent"]
    assert other.placements


class FakeWriter:
    """Writes the first ad's link where it may choose ads."""

    async def answer(self, auction: Auction) -> str:
        return "Walk."

    async def own_choice(self, auction: Auction, *, show_bids: bool) -> str:
        return f"Walk. {auction.bids[0].ad.link}: It is good."


@pytest.mark.weights
@pytest.mark.parametrize(("least", "shown"), [(0, (1, 1)), (None, (0, 1)), (0.5, (0, 1)), (1, (0, 0))])
def test_the_least_intent_says_which_questions_get_ads(
    embedded: LLM, least: float | None, shown: tuple[int, int]
) -> None:
    mechanism = LLMAuction(embedded, min_intent=least)
    mechanism._writer = FakeWriter()  # type: ignore[assignment]
    questions = ("Why is the sky blue?", "Which good product should I buy?")
    outcomes = [run_sync(run_mechanism, mechanism, asking(question), 0) for question in questions]
    assert tuple(len(one.placements) for one in outcomes) == shown
    assert all(("intent" in one.details) == (least != 0) for one in outcomes)


def test_the_least_intent_is_a_probability_and_needs_the_classifier() -> None:
    with pytest.raises(InputError, match=r"min_intent of llm_auction must be in \[0, 1\], got 2"):
        LLMAuction(ScriptedLLM(), min_intent=2)
    with pytest.raises(InputError, match=r"needs an adapter of the written format with intent.safetensors, got 0.3"):
        LLMAuction(ScriptedLLM(), format="written", min_intent=0.3)
    LLMAuction(ScriptedLLM(), format="written", min_intent=0)
