"""What mechanisms make of the texts that small models give them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import simenv
from simenv.llm import ScriptedLLM
from simenv.writer.writer import end_of_sentence
from tests.support.auctions import GivenCTR, make_auction
from tests.support.pages import blocks


@pytest.mark.parametrize(
    ("tail", "end"),
    [
        (" a quiet choice. And more", " a quiet choice."),
        (" cut at the limit of", " cut at the limit of."),
        ("", " which may help."),
        (" gold gold gold gold and", " gold and."),
        (" made of gold, of gold, of gold, of gold", " made of gold."),
        (" very, very good.", " very, very good."),
    ],
)
def test_a_sentence_ends_and_does_not_stutter(tail: str, end: str) -> None:
    assert end_of_sentence(tail) == end


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
