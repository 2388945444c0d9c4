"""Concurrent judges and quality measures encode their new texts in common batches, with the same results."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from simenv import Auction, Bid, Outcome, Query, outcome
from simenv.encoder import Encoder, MiniLM, Vectors, together
from simenv.judges.click_model import ClickModel
from simenv.llm.batching import Batcher
from simenv.quality.embedded import EmbeddedQuality
from simenv.records import Feedback
from simenv.testing import ADS, PERSONAS, FakeEncoder


class FakeForward(MiniLM):
    """MiniLM's memory and batching over FAKE vectors; it counts the texts of each call of `_forward`."""

    def __init__(self) -> None:
        self._known = {}
        self._store = None
        self._batcher = Batcher(self._learn, lambda texts: texts, self._MAX_CALLERS, self._QUIET_ROUNDS)
        self._fake = FakeEncoder(384)
        self.batches: list[list[str]] = []

    def _forward(self, texts: Sequence[str]) -> list[Vectors]:
        self.batches.append(list(texts))
        return list(self._fake.encode(texts))


def answers() -> list[tuple[Auction, Outcome, str]]:
    """Three answers that share neither query nor sentence, one of them with two ads and one without ads."""
    made = []
    for number, ads in enumerate((ADS[:2], ADS[2:3], ())):
        auction = Auction(
            id=f"a{number}",
            query=Query(text=f"what do I need for tour {number}"),
            bids=tuple(Bid(ad=ad, amount=2.0) for ad in ADS),
        )
        shown = " ".join(f"Many people in place {number} take {ad.link}, at 29 dollars. It is light." for ad in ads)
        text = (
            f"The weather of tour {number} is wet in every month. {shown} Wear boots {number} before the tour starts."
        )
        made.append(
            (auction, outcome(auction, text, dict.fromkeys((ad.id for ad in ADS), 1.0)), f"Plain text {number}.")
        )
    return made


async def judged(encoder: Encoder, judge: ClickModel, quality: EmbeddedQuality) -> list[Feedback]:
    async def one(auction: Auction, shown: Outcome, ad_free: str) -> tuple[Feedback, Feedback]:
        return (
            await judge.judge(PERSONAS[0], auction, shown),
            await quality.measure(PERSONAS[0], auction, shown, ad_free),
        )

    both = await asyncio.gather(*(one(*answer) for answer in answers()))
    return [feedback for pair in both for feedback in pair]


def test_new_texts_of_concurrent_answers_share_batches_and_results_are_the_same() -> None:
    encoder = FakeForward()
    judge, quality = ClickModel(encoder), EmbeddedQuality(encoder)
    judge.prepare()
    auction = answers()[0][0]
    asyncio.run(quality.measure(PERSONAS[0], auction, outcome(auction, "Fine.", {}), "Fine."))  # reads its examples
    encoder.batches.clear()
    found = asyncio.run(judged(encoder, judge, quality))
    assert len(encoder.batches) == 2, "one of the click models and one of the quality measures"
    assert len(encoder.batches[0]) > 10
    encoder.batches.clear()
    assert asyncio.run(judged(encoder, judge, quality)) == found
    assert encoder.batches == [], "all texts are known"
    plain = FakeEncoder(384)
    assert asyncio.run(judged(plain, ClickModel(plain), EmbeddedQuality(plain))) == found


def test_a_text_that_is_not_announced_is_encoded_all_the_same() -> None:
    encoder = FakeForward()
    found = asyncio.run(together(encoder, lambda: encoder.encode(["announced", "not"]), lambda: ["announced"]))
    assert encoder.batches == [["announced"], ["not"]]
    assert np.array_equal(found, FakeEncoder(384).encode(["announced", "not"]))


def test_an_error_of_the_encoder_reaches_every_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FakeForward()
    monkeypatch.setattr(encoder, "_forward", lambda texts: 1 / 0)

    async def both() -> list[object]:
        return await asyncio.gather(encoder.vectors(["a"]), encoder.vectors(["b"]), return_exceptions=True)

    assert [type(error) for error in asyncio.run(both())] == [ZeroDivisionError] * 2


def test_memory_drops_the_oldest_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FakeForward()
    monkeypatch.setattr(encoder, "_MEMORY", 8)
    texts = [f"text {i}" for i in range(9)]
    assert np.array_equal(encoder.encode(texts), FakeEncoder(384).encode(texts))
    assert list(encoder._known) == texts[-6:]
