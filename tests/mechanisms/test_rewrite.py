"""Rewrite: what the second call may do to the answer, and what becomes of a rewriting that breaks the rules."""

from __future__ import annotations

import asyncio
import re

import pytest

from mechanisms.rewrite import Rewrite
from mechanisms.vcg import VCG
from simenv import check_mechanism
from simenv.llm import ScriptedLLM
from simenv.llm.base import Request
from simenv.mechanism import run_mechanism
from tests.support.auctions import make_auction

AUCTION = make_auction([30.0, 60.0, 10.0], max_ads=2)
ORGANIC = "Take your time. Compare two or three."


def rewriter(fuse) -> ScriptedLLM:
    """A capable model whose rewriting call answers with `fuse(answer so far, link)`."""

    def reply(request: Request) -> str:
        if request.key[1] == "answer":
            return ORGANIC
        if request.key[1] == "rewrite":
            answer = request.prompt.user.split("The assistant answered:\n")[1].split("\n\nThe product")[0]
            return fuse(answer, re.findall(r"Its link: (.+)", request.prompt.user)[0])
        return f"Then there is {re.findall(r'Its link: (.+)', request.prompt.user)[0]}."

    return ScriptedLLM(reply, follows_formats=True, capabilities=frozenset())


def run(fuse):
    return asyncio.run(run_mechanism(Rewrite(rewriter(fuse)), AUCTION))


def test_each_winner_is_worked_into_the_answer_so_far() -> None:
    made = run(lambda answer, link: answer.replace("Compare", f"Try {link}. Compare"))
    assert made.response == "Take your time. Try @Product 1@[c1]. Try @Product 0@[c0]. Compare two or three."
    assert made.details["rewritten"] == ["c1", "c0"]
    assert made.usage.calls == 3
    assert {p.ad_id: p.price for p in made.placements} == pytest.approx(VCG(ScriptedLLM()).allocate(AUCTION))


@pytest.mark.parametrize(
    "fuse",
    [
        lambda answer, link: answer,  # forgets the ad
        lambda answer, link: f"{answer} See {link.lower()}.",  # changes its title
        lambda answer, link: f"{answer} See {link} and {link}.",  # twice
        lambda answer, link: f"{answer} As instructed, I insert the ad {link}.",  # speaks of the instruction
        lambda answer, link: f"Only {link}." if "@" in answer else f"{answer} See {link}.",  # drops the first ad
        lambda answer, link: f"First {link}. {answer}",  # the second ad first: not the order that is paid for
    ],
)
def test_a_rewriting_that_breaks_the_rules_is_thrown_away(fuse) -> None:
    made = run(fuse)
    assert [p.ad_id for p in made.placements] == ["c1", "c0"]
    assert made.violations == ()
    assert len(made.details["rewritten"]) < 2
    assert "Then there is @Product 0@[c0]." in made.response


def test_a_small_model_adds_sentences_as_for_any_other_auction() -> None:
    made = asyncio.run(run_mechanism(Rewrite(ScriptedLLM()), AUCTION))
    assert made.response == asyncio.run(run_mechanism(VCG(ScriptedLLM()), AUCTION)).response
    assert made.details["rewritten"] == []


def test_claims_hold_whatever_the_model_makes_of_the_answer() -> None:
    assert "truthful_um" in check_mechanism(Rewrite(ScriptedLLM()), auctions=8).claims
    moody = rewriter(lambda answer, link: f"First {link}. {answer}" if len(answer) % 2 else f"{answer} See {link}.")
    assert "truthful_um" in check_mechanism(Rewrite(moody), auctions=8).claims
