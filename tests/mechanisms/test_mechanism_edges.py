"""Every registered mechanism at the edges: any number of candidates, odd numbers, the environment, many at once.

What each claims is held elsewhere; here it must give a valid outcome, and no price that is above the bid.
"""

from __future__ import annotations

import asyncio
import math

import pytest

from simenv import make_mechanism, markup, mechanism_names
from simenv.env.environment import NativeAdsEnv
from simenv.env.vector import NativeAdsVectorEnv
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism, run_mechanism
from simenv.records import Auction, Outcome
from simenv.seeding import keyed_rng
from simenv.sessions import SessionMechanism
from simenv.testing import FakeEncoder, small_world
from simenv.world import World
from tests.support.auctions import GivenCTR, make_auction

NAMES = mechanism_names()


def build(name: str, **context) -> Mechanism:
    return make_mechanism(name, context={"llm": ScriptedLLM(), "encoder": FakeEncoder()} | context)


def answer(mechanism: Mechanism, auction: Auction) -> Outcome:
    outcome = asyncio.run(run_mechanism(mechanism, auction))
    markup.verify(outcome, auction)
    for placement in outcome.placements:
        assert auction.reserve * (1 - 1e-9) <= placement.price < math.inf
        assert placement.price <= auction.bid_of(placement.ad_id).amount * (1 + 1e-9)
    return outcome


@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_candidates(name: str) -> None:
    mechanism = build(name)
    for n in (*range(1, 9), 16, 33, 64):
        rng = keyed_rng("edges", n)
        answer(
            mechanism, make_auction(rng.integers(0, 101, n).tolist(), rng.uniform(-0.2, 0.8, n).tolist(), name=f"n{n}")
        )


EDGES = {
    "tiny q": ([40.0, 30.0, 20.0], [1e-300, 1e-12, 0.5], {}),
    "no clicks at all": ([40.0, 30.0], [0.0, 0.0], {}),
    "one that is never clicked": ([90.0, 30.0, 20.0], [0.0, 0.4, 0.5], {}),
    "certain clicks": ([40.0, 30.0, 20.0], [1.0, 1.0, 0.999999], {}),
    "products that underflow": ([1e-9, 1e9], [1e-320, 1e-300], {}),
    "huge bids": ([1e12, 1e12, 1.0], [0.5, 0.5, 0.5], {}),
    "equal bids": ([7.0] * 5, [0.3] * 5, {"max_ads": 3}),
    "zero bids": ([0.0] * 3, [0.3] * 3, {}),
    "zero bids at no reserve beside one": ([0.0, 5.0, 0.0], [0.3] * 3, {}),
    "below the reserve": ([5.0, 6.0], [0.5, 0.5], {"reserve": 50.0}),
    "one above the reserve": ([5.0, 60.0], [0.5, 0.5], {"reserve": 50.0}),
    "no ad allowed": ([50.0, 60.0], [0.5, 0.5], {"max_ads": 0}),
    "more places than ads": ([50.0, 60.0], [0.5, 0.5], {"max_ads": 9}),
}


@pytest.mark.parametrize("name", NAMES)
def test_odd_numbers(name: str) -> None:
    for case, (amounts, q, options) in EDGES.items():
        auction = make_auction(amounts, name=case, **options)
        for discount in (0.8, 1.0):
            outcome = answer(build(name, ctr_model=GivenCTR(q, discount)), auction)
        if "max_ads" in options and options["max_ads"] == 0:
            assert outcome.placements == ()
        if case == "below the reserve":
            assert outcome.placements == ()


@pytest.fixture(scope="module")
def world() -> World:
    return small_world()


@pytest.mark.parametrize("name", NAMES)
def test_the_environment_and_the_vector_environment_take_it(name: str, world: World) -> None:
    mechanism = build(name)
    if isinstance(mechanism, SessionMechanism):
        world = small_world(turns="linked")
    env = NativeAdsEnv(world)
    env.reset(seed=3)
    _, _, _, _, info = env.step(mechanism)
    assert info["transition"].mechanism
    many = NativeAdsVectorEnv(3, world)
    many.reset(seed=3)
    _, _, _, _, infos = many.step(build(name))
    assert infos["_transition"].all()
    assert infos["transition"][0] == info["transition"]
