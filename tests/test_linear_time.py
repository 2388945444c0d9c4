"""What a server sends is read in time linear in its length, whatever it repeats."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from simenv.errors import UnreadableReply
from simenv.judges.llm_judge import read_verdicts, unfenced
from simenv.llm.replies import read_json, without_reasoning
from simenv.markup import _parse, strip_markup
from simenv.records import Ad
from simenv.scoring.ad_finder import AdFinder
from simenv.scoring.markdown import links
from simenv.text import sentence_ends

FINDER = AdFinder([Ad(id="1", title="Blue Boots", advertiser="Blue"), Ad(id="2", title="Blue", advertiser="B")])


def parse(text: str) -> None:
    _parse.__wrapped__(text, (("ad-1", "Boots"),))  # not from its memory


def verdicts(text: str) -> None:
    with contextlib.suppress(UnreadableReply):
        read_verdicts(text, ["ad-1"])


def lenient_json(text: str) -> None:
    with contextlib.suppress(ValueError):
        read_json(text)


READERS: dict[str, tuple[Callable[[str], Any], list[str]]] = {
    "parse": (parse, ["ad bid. ", "@a@ ", "@[", "[ad "]),
    "sentence_ends": (sentence_ends.__wrapped__, ["!", "!a"]),
    "strip_markup": (strip_markup, ["@a@["]),
    "without_reasoning": (without_reasoning, ["<think></think>a"]),
    "read_json": (lenient_json, ['\\"', "'"]),
    "links": (lambda text: list(links(text)), ["[a](", "[", "[a](b ", "[a](<b"]),
    "in_text": (FINDER.in_text, ["Blue ", "blue boots ", "é"]),
    "unfenced": (unfenced, ["```\n", "\n"]),
    "read_verdicts": (verdicts, ["``` ", "[ "]),
}


def seconds(read: Callable[[str], Any], text: str) -> float:
    """The least of three times: other processes only add to it."""
    times = []
    for _ in range(3):
        began = time.process_time()
        read(text)
        times.append(time.process_time() - began)
    return min(times)


@pytest.mark.parametrize(
    ("reader", "piece"), [(name, piece) for name, (_, pieces) in READERS.items() for piece in pieces]
)
def test_eight_times_the_text_takes_not_much_more_than_eight_times_as_long(reader: str, piece: str) -> None:
    read, _ = READERS[reader]
    short, long = (seconds(read, "```" + piece * (n // len(piece)) + "x") for n in (3_000, 24_000))
    assert long < 0.002 or long / short < 24, "linear would be 8, quadratic 64"
