"""Environments of linked turns: sessions with a memory, and mechanisms that commit to a session's bids."""

from __future__ import annotations

import itertools

import pytest

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.env.environment import NativeAdsEnv
from simenv.env.vector import NativeAdsVectorEnv
from simenv.errors import InputError, UnknownName
from simenv.judges.click_model import ClickModel
from simenv.judges.click_worlds import load_world
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.runs.rollout import Finished, rollout
from simenv.testing import FakeEncoder, small_world
from simenv.world import World
from tests.support.session_mechanisms import OnceASession


def forgetful(**options: object) -> World:
    return small_world(turns="linked", **options)


def remembering() -> World:
    return small_world(judge=ClickModel(FakeEncoder(), load_world("fatigue")))


def rows_of(world: World, mechanism: Mechanism, n: int = 7, in_flight: int | None = 64) -> list[Transition]:
    chunks: list[Finished] = []

    async def go() -> None:
        await rollout(world, {"it": mechanism}, n=n, seed=2, chunk=4, on_chunk=chunks.append, in_flight=in_flight)

    run_sync(go)
    return [row for chunk in chunks for row in chunk.transitions]


def walked(env: NativeAdsEnv, mechanism: Mechanism, n: int = 7) -> list[Transition]:
    env.reset(seed=2)
    rows: list[Transition] = []
    while len(rows) < n:
        if env.over:
            env.reset()
        rows.append(env.step(mechanism)[4]["transition"].model_copy(update={"mechanism": "it"}))
    return rows


@pytest.mark.parametrize("make", [forgetful, remembering])
def test_an_environment_and_a_run_at_once_or_in_turns_see_the_same_sessions(make) -> None:  # type: ignore[no-untyped-def]
    mechanism = OnceASession(at=1)
    rows = walked(NativeAdsEnv(make()), mechanism)
    assert rows == rows_of(make(), OnceASession(at=1)) == rows_of(make(), OnceASession(at=1), in_flight=None)
    assert [len(row.auction.history) for row in rows] == [0, 1, 2, 0, 1, 2, 0]
    assert len(mechanism.begun) == 3
    for before, row in itertools.pairwise(rows):
        if row.turn:
            assert row.auction.history[-1].response == before.outcome.response
            assert len(row.auction.shown) == len(before.auction.shown) + len(before.outcome.placements)


def test_users_of_the_world_fatigue_click_less_on_what_they_saw() -> None:
    gsp = make_mechanism("gsp", context={"llm": ScriptedLLM()})
    judge = ClickModel(FakeEncoder(), load_world("fatigue"))
    world = small_world(judge=judge)
    assert world.linked
    rows = rows_of(world, gsp, n=12)
    fresh = 0
    for row in rows:
        persona = next(it for it in world.personas if it.id == row.persona_id)
        again = judge.probabilities(persona, row.auction, row.outcome)
        assert again == {click.ad_id: click.click_prob for click in row.feedback.clicks}
        first = judge.probabilities(persona, row.auction.model_copy(update={"shown": ()}), row.outcome)
        fresh += first == again
        assert sum(again.values()) <= sum(first.values())
    assert fresh == 4, "the first turns of four sessions"


def test_a_vector_environment_of_linked_turns_has_the_sessions_of_single_ones() -> None:
    vector = NativeAdsVectorEnv(2, world=forgetful())
    vector.reset(seed=2)
    once = OnceASession(at=1)
    seen: list[list[Transition]] = [[], []]
    for _ in range(3):
        _, _, _, _, infos = vector.step(once)
        for i, transition in enumerate(infos["transition"]):
            seen[i].append(transition)
    for i, rows in enumerate(seen):
        env = NativeAdsEnv(forgetful())
        env.reset(seed=2 + i)
        alone = [env.step(OnceASession(at=1))[4]["transition"] for _ in range(3)]
        assert [row.auction for row in rows] == [row.auction for row in alone]
        assert [row.outcome for row in rows] == [row.outcome for row in alone]


def test_a_bid_is_replaced_for_the_whole_session_before_its_first_answer() -> None:
    env = NativeAdsEnv(forgetful())
    first, _ = env.reset(seed=0)
    conversation, _ = env.check(OnceASession())
    assert conversation.start is not None
    later = sorted(set(conversation.start.ads) - {bid.ad.id for bid in first.bids})
    named = [first.bids[0].ad.id, *later[:1]]
    changed = env.rebid(dict.fromkeys(named, 0.5))
    assert changed.bid_of(named[0]).amount == 0.5
    with pytest.raises(UnknownName, match="candidate ad of the session"):
        env.rebid({"nobody": 1.0})
    once = OnceASession()
    for _ in range(3):
        auction = env.step(once)[4]["transition"].auction
        assert {bid.amount for bid in auction.bids if bid.ad.id in named} <= {0.5}
        if not env.over:
            with pytest.raises(InputError, match="bids hold for a whole session"):
                env.rebid({named[0]: 2.0})


def test_a_mechanism_may_change_between_turns() -> None:
    env = NativeAdsEnv(forgetful())
    env.reset(seed=0)
    env.step(make_mechanism("organic", context={"llm": ScriptedLLM()}))
    first, second = OnceASession(), OnceASession()
    env.step(first)
    env.step(second)
    assert first.begun == second.begun != []
