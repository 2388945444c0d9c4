"""What the writer makes of the texts that models give it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import simenv
from simenv.llm import Completion, Request, ScriptedLLM
from simenv.writer.copy_check import in_own_words
from simenv.writer.writer import corrected, finished
from tests.support.auctions import GivenCTR, make_auction
from tests.support.pages import blocks

GOOD = "Take your time, and compare."
AUCTION = make_auction([40.0, 55.0])
ADS = [bid.ad for bid in AUCTION.bids]


class CutLLM(ScriptedLLM):
    """A fake whose replies were all cut at their token limit."""

    async def _generate(self, request: Request) -> Completion:
        return (await super()._generate(request)).model_copy(update={"finish": "length"})


def by_role(**drafts: list[str]) -> Callable[[Request], str]:
    """Replies by the role in the request's key (answer, ad_sentence) and the number of the draw."""

    def reply(request: Request) -> str:
        role = str(request.key[1])
        draw = int(request.key[2]) if role == "answer" else int([*request.key, 0][4])
        texts = drafts[role.replace("-", "_")]
        return texts[min(draw, len(texts) - 1)]

    return reply


def write(reply: Callable[[Request], str], ads: int = 0, fake: type[ScriptedLLM] = ScriptedLLM) -> tuple[str, int]:
    """The text and the number of requests."""
    llm = fake(reply)
    return asyncio.run(simenv.Writer(llm).with_ads(AUCTION, ADS[:ads])), len(llm.requests)


@pytest.mark.parametrize("bad", ["10 years, 10 years, 10 years, 10 years.", "Which product should I choose?", ""])
def test_a_bad_answer_is_requested_again(bad: str) -> None:
    assert write(by_role(answer=[bad, GOOD])) == (GOOD, 2)
    assert write(by_role(answer=[GOOD])) == (GOOD, 1)


def test_after_three_draws_the_good_part_is_kept() -> None:
    assert write(by_role(answer=[f"{GOOD} So so so so so it is."])) == (GOOD, 3)
    assert write(by_role(answer=["So so so so.", f"{GOOD} Ask, ask, ask, ask.", "No no no no."])) == (GOOD, 3)


@pytest.mark.parametrize(
    ("drafts", "kept"),
    [
        ([f"{GOOD} Which is a mix of vod"], GOOD),
        (["A mix of vod", f"{GOOD} A mi"], GOOD),
        (["Compare some, which is a mix of vod"], "Compare some."),
        (["A mix of vod"], "A mix."),
    ],
)
def test_an_answer_that_was_cut_ends_with_a_whole_word(drafts: list[str], kept: str) -> None:
    assert write(by_role(answer=drafts), fake=CutLLM)[0] == kept


def test_a_sentence_that_says_more_than_the_copy_is_requested_again() -> None:
    """The copy of the ad c0 is "It is good at 0."."""
    drafts = ["a luxury hotel in Lisbon. And more", "good at 0. And more"]
    text, calls = write(by_role(answer=[GOOD], ad_sentence=drafts), ads=1)
    assert (text, calls) == (f"{GOOD} One option worth a look is @Product 0@[c0]: good at 0.", 3)


@pytest.mark.parametrize("bad", ["a luxury hotel.", "good at 7.", "good good good good at 0.", ""])
def test_after_two_draws_the_advertisers_own_words_are_shown(bad: str) -> None:
    text, calls = write(by_role(answer=[GOOD], ad_sentence=[bad]), ads=2)
    assert calls == 1 + 2 * 2
    assert text == (
        f"{GOOD} One option worth a look is @Product 0@[c0]: It is good at 0. "
        "You could also consider @Product 1@[c1]: It is good at 1."
    )
    assert all(in_own_words(text, ad) for ad in ADS)


def test_a_sentence_that_was_cut_is_not_shown() -> None:
    text, calls = write(by_role(answer=[f"{GOOD} A"], ad_sentence=["good at"]), ads=1, fake=CutLLM)
    assert (text.count("It is good at 0."), calls) == (1, 3)


def test_filler_says_nothing_that_could_be_wrong() -> None:
    llm = ScriptedLLM()
    text = asyncio.run(simenv.Writer(llm).with_ads(AUCTION, ADS))
    assert len(llm.requests) == 3
    assert not any(in_own_words(text, ad) for ad in ADS)


def test_a_model_without_constraints_is_checked_too() -> None:
    sentences = [f"In Rome, {ADS[0].link} is good.", f"Good: {ADS[0].link}."]
    llm = ScriptedLLM(by_role(answer=[GOOD], ad_sentence=sentences), follows_formats=True, capabilities=frozenset())
    assert asyncio.run(simenv.Writer(llm).with_ads(AUCTION, ADS[:1])) == f"{GOOD} Good: {ADS[0].link}."
    assert len(llm.requests) == 3


def test_a_choice_of_the_model_is_kept_when_its_sentence_is_not() -> None:
    """One call writes answer and ads: another draw could choose other ads, so the sentence alone is replaced."""
    first, second = ADS[0].link, ADS[1].link
    llm = ScriptedLLM(lambda _: f"{GOOD} {first} has 9 rooms in Rome, like {second}. Good luck.", follows_formats=True)
    text = asyncio.run(simenv.Writer(llm).own_choice(AUCTION, show_bids=True))
    assert text == f"{GOOD} {first}: It is good at 0. {second}: It is good at 1. Good luck."
    assert len(llm.requests) == 1
    assert corrected(AUCTION, text) == text


OWN = f"{ADS[0].link}: It is good at 0."


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (f"{GOOD} As for walks, {ADS[0].link} is good at", f"{GOOD} As for walks, {OWN}"),
        (f"{GOOD} And {ADS[1].link}", f"{GOOD} And {ADS[1].link}: It is good at 1."),
        (f"{GOOD} As for {ADS[1].link}, {ADS[0].link} is", f"{GOOD} As for {ADS[1].link}: It is good at 1. {OWN}"),
        (f"{GOOD} {OWN} Then you", f"{GOOD} {OWN}"),
        (f"As for you, {ADS[0].link} is", f"As for you, {OWN}"),
    ],
)
def test_an_ad_whose_sentence_was_cut_is_shown_in_own_words(text: str, read: str) -> None:
    assert finished(AUCTION, Completion(text=text, finish="length")) == read


RAIN = "If you walk in the rain by the sea"
LOOP = "Go on and on and on and on and on and on."


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (f"{GOOD} {LOOP} {OWN} Then rest.", f"{GOOD} {OWN}"),  # plain sentences end where they loop
        (f"{GOOD} {OWN} {LOOP}", f"{GOOD} {OWN}"),
        (  # an ad's words before its link loop with those of the ad before
            f"{GOOD} {RAIN}, {OWN} {RAIN}, {ADS[1].link}: It is good at 1. {RAIN}, go.",
            f"{GOOD} {RAIN}, {OWN} {ADS[1].link}: It is good at 1.",
        ),
        (f"Take the bus, go on and on and on and on and on and on. {OWN}", f"Take the bus. {OWN}"),
        (f"So so so so so. {OWN}", ""),  # no words are left before the ad
    ],
)
def test_loops_are_cut_out_and_ads_stay(text: str, read: str) -> None:
    assert finished(AUCTION, Completion(text=text)) == read


def test_a_mechanism_of_ones_own_asks_as_those_that_ship_do() -> None:
    """The requests of the documentation's first example are those of first_price for the same winner."""
    page = next(block.text for block in blocks("README.md") if "class HighestBid" in block.text)
    scope: dict[str, Any] = {}
    exec(compile(page, "mine.py", "exec"), scope)
    auction = make_auction([40.0, 55.0, 30.0])
    own, shipped = ScriptedLLM(), ScriptedLLM()
    mine = asyncio.run(simenv.run_mechanism(scope["HighestBid"](own), auction))
    first_price = simenv.make_mechanism("first_price", context={"llm": shipped, "ctr_model": GivenCTR(0.5)}, slots=1)
    theirs = asyncio.run(simenv.run_mechanism(first_price, auction))
    assert [placement.ad_id for placement in mine.placements] == ["c1"]
    assert (mine.response, own.requests) == (theirs.response, shipped.requests)
