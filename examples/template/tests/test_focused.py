"""Tests without weights and without a network: the model is scripted, the world is small."""

from __future__ import annotations

import asyncio

import pytest
import simenv
from simenv.env.environment import NativeAdsEnv
from simenv.testing import small_world

from my_ad_mechanisms.focused import Focused


@pytest.fixture
def mechanism() -> simenv.Mechanism:
    return simenv.make_mechanism("my_ad_mechanisms.focused:Focused", llm=simenv.make_llm("scripted"))


def auction(*bids: tuple[str, float, float]) -> simenv.Auction:
    ads = [simenv.Ad(id=name, advertiser=name, title=f"Offer {name}", body="Made by hand.") for name, _, _ in bids]
    offers = (simenv.Bid(ad=ad, amount=amount, relevance=fit) for ad, (_, amount, fit) in zip(ads, bids, strict=True))
    return simenv.Auction(
        id="auction-1", query=simenv.Query(text="Which chair is good for my back?"), bids=tuple(offers)
    )


def test_it_keeps_its_claims(mechanism: simenv.Mechanism) -> None:
    """The public suite: degenerate auctions, repeated runs, and a sweep of each bid for what the mechanism claims."""
    report = simenv.check_mechanism(mechanism)
    assert set(report.claims) == set(Focused.claims)
    assert report.warnings == ()


def test_the_winner_pays_what_beats_the_next_one(mechanism: simenv.Mechanism) -> None:
    equally_relevant = auction(("A", 40.0, 0.5), ("B", 30.0, 0.5))
    shown = asyncio.run(simenv.run_mechanism(mechanism, equally_relevant)).placements
    assert [placement.ad_id for placement in shown] == ["A"]
    assert shown[0].price == pytest.approx(30.0)


def test_an_ad_that_does_not_fit_is_not_shown(mechanism: simenv.Mechanism) -> None:
    outcome = asyncio.run(simenv.run_mechanism(mechanism, auction(("A", 40.0, 0.1))))
    assert outcome.placements == ()


def test_it_answers_a_session(mechanism: simenv.Mechanism) -> None:
    env = NativeAdsEnv(small_world())
    env.reset(seed=0)
    over = False
    while not over:
        _, _, over, _, info = env.step(mechanism)
        assert len(info["transition"].outcome.placements) <= 1
