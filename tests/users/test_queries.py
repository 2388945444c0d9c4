"""Queries that the User-LLM writes: what is taken from its replies, and what happens when they do not suffice."""

from __future__ import annotations

import asyncio

import pytest

from simenv.errors import UnreadableReply
from simenv.llm import Request, ScriptedLLM
from simenv.testing import PERSONAS
from simenv.users.queries import LLMQueries, Question

WALKER = PERSONAS[0]


@pytest.mark.parametrize(
    "line",
    [
        "Which boots stay dry?",
        "1. Which boots stay dry?",
        "12) Which boots stay dry?",
        "3: Which boots stay dry?",
        "1.Which boots stay dry?",
        "- Which boots stay dry?",
        "* Which boots stay dry?",
        "• Which boots stay dry?",
        '"Which boots stay dry?"',
        "2. “Which boots stay dry?”",
        "Q1: Which boots stay dry?",
        "Question 2. Which boots stay dry?",
        "   Which   boots\tstay dry?  ",
    ],
)
def test_a_question_is_read_from_its_line(line: str) -> None:
    assert LLMQueries.read(line) == ["Which boots stay dry?"]


@pytest.mark.parametrize(
    "line",
    [
        "3.5 mm jack or USB for my headphones?",
        "-5 degrees tonight, is my tent enough?",
        "10:30 or later for a quiet museum?",
        "Quick dinner for two?",
        "What does 'al dente' mean in 2 words?",
    ],
)
def test_a_question_that_looks_like_a_list_item_keeps_its_beginning(line: str) -> None:
    assert LLMQueries.read(line) == [line]
    assert LLMQueries.read(f"1. {line}") == [line]


@pytest.mark.parametrize(
    "line",
    ["Here are your questions:", "Sure!", "", "   ", "1.", "Why?", "Why not?", "I like boots.", "word " * 60 + "more?"],
)
def test_what_is_no_question_of_a_fair_length_is_left_out(line: str) -> None:
    assert LLMQueries.read(line) == []


def test_a_reply_gives_its_distinct_questions_in_order() -> None:
    reply = "Sure, here they are:\n\n1. Where is it quiet?\n2. Who sells good boots?\n3. Where is it  quiet?\n\nEnjoy!"
    assert LLMQueries.read(reply) == ["Where is it quiet?", "Who sells good boots?"]


def session(llm: ScriptedLLM, k: int, **options: int) -> list[Question]:
    return asyncio.run(LLMQueries(llm, **options).session(WALKER, k, seed=7, number=2))


def test_a_session_has_as_many_as_it_needs() -> None:
    llm = ScriptedLLM(["1. Where is it quiet?\n2. Who sells good boots?\n3. Is one more fine?"])
    assert session(llm, 2) == [Question("Where is it quiet?"), Question("Who sells good boots?")]
    (request,) = llm.requests
    assert WALKER.info in request.prompt.user
    assert "hiking, birds" in request.prompt.user
    assert "Write 2 different questions" in request.prompt.user
    assert WALKER.attitude not in request.prompt.user, "what is private stays out"


def test_too_few_are_asked_for_again() -> None:
    replies = [
        "Where is it quiet?\nI cannot say more.",
        "Where is it quiet?",
        "Who sells good boots?\nIs tea fine there?",
    ]
    llm = ScriptedLLM(replies)
    texts = [question.text for question in session(llm, 3)]
    assert texts == ["Where is it quiet?", "Who sells good boots?", "Is tea fine there?"]
    asked = [request.prompt.user for request in llm.requests]
    assert ["Write 3" in asked[0], "Write 2" in asked[1], "Write 2" in asked[2]] == [True] * 3
    assert ["Do not repeat: Where is it quiet?" in prompt for prompt in asked] == [False, True, True]
    assert len({request.key for request in llm.requests}) == 3, "another attempt is another draw"


def test_it_gives_up_and_names_the_persona() -> None:
    llm = ScriptedLLM(lambda _: "Where is it quiet?", name="stubborn")
    with pytest.raises(UnreadableReply, match=r"stubborn wrote 1 of 3 queries for 'walker' in 4 attempts"):
        session(llm, 3, attempts=4)
    assert len(llm.requests) == 4


def test_sessions_differ_and_repeat() -> None:
    def by_key(request: Request) -> str:
        return f"What is the news about {' '.join(map(str, request.key))}?"

    source = LLMQueries(ScriptedLLM(by_key))
    names = [(0, 0), (0, 1), (1, 0)]
    texts = [asyncio.run(source.session(WALKER, 1, seed, number))[0].text for seed, number in names]
    assert len(set(texts)) == 3
    assert asyncio.run(source.session(WALKER, 1, 0, 1))[0].text == texts[1]
    assert source.name == "llm:scripted"
