"""What a world looks up once for all mechanisms that answer an auction."""

from __future__ import annotations

from collections import Counter

import pytest

from simenv import world as worlds
from simenv.background_loop import run_sync
from simenv.market.retrieval import Retriever
from simenv.records import Ad
from simenv.testing import small_world


class CountedValues:
    """Values by ad id, and how often each was asked for."""

    name = "counted"

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()

    def value(self, auction_id: str, ad: Ad) -> float:
        self.asked[auction_id, ad.id] += 1
        return float(len(ad.title))


@pytest.mark.parametrize("memory", [1024, 1])
def test_candidates_and_values_are_those_of_a_world_without_memory(
    memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "_MEMORY", memory)
    queries: Counter[str] = Counter()
    top = Retriever.top
    monkeypatch.setattr(Retriever, "top", lambda self, query: (queries.update([query]), top(self, query))[1])
    values = CountedValues()
    world = small_world(values=values)
    session = run_sync(world.session, 0, 0)
    auctions = [[world.auction(session, turn) for turn in (0, 1)] for _ in range(3)]
    expected = [small_world(values=CountedValues()).auction(session, turn) for turn in (0, 1)]
    assert auctions == [expected] * 3
    times = 1 if memory > 1 else 3
    assert set(values.asked.values()) == {times}
    assert all(queries[auction.query.text] == times + 1 for auction in expected), "once more in the other world"


def test_an_auction_of_the_caller_has_the_values_of_its_own_ads() -> None:
    world = small_world(values=CountedValues())
    session = run_sync(world.session, 0, 0)
    auction = world.auction(session, 0)
    bids = [
        bid.model_copy(update={"ad": bid.ad.model_copy(update={"title": f"{bid.ad.title}!"})}) for bid in auction.bids
    ]
    other = auction.model_copy(update={"bids": tuple(bids)})
    outcome = worlds.Outcome(response="No ads.")
    found = run_sync(lambda: world.step(session, 0, outcome, auction=other)).values
    assert found == {bid.ad.id: len(bid.ad.title) for bid in bids}
    assert run_sync(lambda: world.step(session, 0, outcome, auction=auction)).values != found
