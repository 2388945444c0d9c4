"""Sessions of linked turns: what a mechanism knows before the first turn, and what it commits to."""

from __future__ import annotations

from collections import Counter

import pytest

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.errors import InputError, MechanismFailed, OutcomeError, UnknownName
from simenv.llm import ScriptedLLM
from simenv.records import Auction, Exchange, Query, ShownAd
from simenv.runs.build import build, plan
from simenv.runs.options import BenchOptions
from simenv.seeding import keyed_rng
from simenv.sessions import BegunMechanism, SessionMechanism, SessionStart, SoFar, alone
from simenv.testing import PERSONAS, small_world
from simenv.world import Session, World
from tests.support.auctions import make_auction
from tests.support.session_mechanisms import OnceASession


def linked(**options: object) -> World:
    return small_world(turns="linked", **options)


def session_of(world: World, number: int = 0, seed: int = 4) -> Session:
    return run_sync(world.session, seed, number)


def start_of(world: World, number: int = 0) -> SessionStart:
    return world.start(session_of(world, number))


def test_the_questions_of_a_session_come_in_an_order_drawn_by_its_key() -> None:
    apart, world = small_world(), linked()
    orders = Counter()
    for number in range(48):
        fixed, drawn = session_of(apart, number), session_of(world, number)
        assert sorted(fixed.questions) == sorted(drawn.questions)
        orders[tuple(fixed.questions.index(question) for question in drawn.questions)] += 1
    assert session_of(world, 7) == session_of(linked(), 7)
    assert len(orders) == 6
    assert max(orders.values()) < 20  # of 48 with six equal chances: false alarm below 1e-4 over fresh seeds


def test_a_session_has_one_value_and_one_bid_per_ad_at_every_turn() -> None:
    world = linked()
    session = session_of(world)
    start = world.start(session)
    amounts: dict[str, set[float]] = {}
    for turn in range(world.horizon):
        for bid in world.auction(session, turn).bids:
            amounts.setdefault(bid.ad.id, set()).add(bid.amount)
    assert all(len(bids) == 1 for bids in amounts.values())
    assert {ad_id: min(bids) for ad_id, bids in amounts.items()}.items() <= start.bids.items()
    assert start.ads.keys() == start.bids.keys()
    apart = small_world()
    values = {turn: {b.ad.id: b.amount for b in apart.auction(session_of(apart), turn).bids} for turn in range(3)}
    assert any(values[0].get(ad_id, amount) != amount for ad_id, amount in values[1].items())


def test_what_may_be_asked_next_is_uniform_over_the_rest() -> None:
    start = start_of(linked())
    assert start.after([]) == {0: 1 / 3, 1: 1 / 3, 2: 1 / 3}
    assert start.after([1]) == {0: 0.5, 2: 0.5}
    assert start.after([1, 0, 2]) == {}
    assert len(list(start.orders())) == 6
    texts = [auction.query.text for auction in start.auctions]
    assert texts == sorted(texts)  # their order does not tell what is asked first


def test_the_auction_of_a_turn_is_that_of_its_question_with_what_happened_before() -> None:
    world = linked()
    session = session_of(world)
    start = world.start(session)
    first = world.auction(session, 0)
    answer = make_mechanism("gsp", context={"llm": ScriptedLLM()})
    outcome = run_sync(world.step, session, 0, answer).outcome
    so_far = SoFar().after(first, outcome)
    asked = start.numbers(question.text for question in session.questions[:2])
    second = start.auction(asked, so_far)
    assert (second.id, second.turn, second.horizon) == (f"{session.id}.1", 1, 3)
    assert second.history == (Exchange(query=first.query, response=outcome.response),)
    assert second.shown == tuple(ShownAd(ad_id=it.ad_id, turn=0) for it in outcome.placements) != ()
    assert start.asked(second) == asked
    assert second.model_copy(update={"history": (), "shown": ()}) == world.auction(session, 1)
    with pytest.raises(InputError, match="no further question"):
        start.asked(make_auction([1.0]))


def test_a_question_that_is_there_twice_is_asked_twice() -> None:
    auctions = [Auction(id=f"s.q{i}", horizon=2, query=Query(text="Which boots?")) for i in range(2)]
    start = SessionStart(id="s", auctions=tuple(auctions))
    assert start.numbers(["Which boots?", "Which boots?"]) == (0, 1)


def test_other_bids_hold_for_all_questions() -> None:
    start = start_of(linked())
    ad_id = next(iter(start.bids))
    other = start.with_bids({ad_id: 3.5})
    assert other.bids == start.bids | {ad_id: 3.5}
    assert {bid.amount for auction in other.auctions for bid in auction.bids if bid.ad.id == ad_id} == {3.5}
    assert start.with_bids({}) == start


def test_an_auction_apart_is_a_session_of_one_turn() -> None:
    auction = make_auction([4.0, 2.0])
    start = alone(auction)
    assert (start.horizon, start.after([]), start.after([0])) == (1, {0: 1.0}, {})
    assert start.bids == {"c0": 4.0, "c1": 2.0}
    turn = start_of(linked()).auction((0,))
    with pytest.raises(InputError, match="is a turn of a session of 3: begin the session"):
        OnceASession().run(turn, keyed_rng("any"))
    assert isinstance(OnceASession(), SessionMechanism)
    assert not isinstance(make_mechanism("organic", context={"llm": ScriptedLLM()}), SessionMechanism)


class Begins(OnceASession):
    """Returns or raises what it is given."""

    def __init__(self, begun: object) -> None:
        super().__init__()
        self.gives = begun

    def begin(self, session: SessionStart) -> object:  # type: ignore[override]
        if isinstance(self.gives, Exception):
            raise self.gives
        return self.gives


def test_what_begins_wrongly_is_named() -> None:
    start = start_of(linked())
    with pytest.raises(OutcomeError, match=r"once\.begin returned int: expected an object with run"):
        run_sync(BegunMechanism(Begins(3), start).begin)
    with pytest.raises(MechanismFailed, match=r"once\.begin raised KeyError"):
        run_sync(BegunMechanism(Begins(KeyError("x")), start).begin)
    itself = Begins(None)
    assert run_sync(BegunMechanism(itself, start).begin) is itself


def test_a_session_mechanism_needs_linked_turns() -> None:
    world = small_world()
    session = session_of(world)
    with pytest.raises(InputError, match="once commits to bids for a session"):
        run_sync(world.step, session, 0, OnceASession())
    with pytest.raises(UnknownName, match="known are apart, auto, linked"):
        small_world(turns="joined")


def test_a_run_with_turns_apart_refuses_session_mechanisms_before_it_begins() -> None:
    names = ("gsp", "optimal_stopping", "late=fixed_turn")
    planned = plan(BenchOptions(mechanisms=names, llm="scripted", turns="apart"))
    with pytest.raises(InputError, match="turns: optimal_stopping, late commit to bids for a session; got apart"):
        build(planned)


def test_turns_apart_write_none_of_it() -> None:
    world = small_world()
    text = world.auction(session_of(world), 1).model_dump_json()
    assert not any(f'"{name}"' in text for name in ("horizon", "history", "shown"))


def test_the_winner_of_a_session_is_shown_once() -> None:
    world = linked(personas=PERSONAS[:2])
    session = session_of(world)
    begun = BegunMechanism(OnceASession(), world.start(session))
    first = run_sync(begun.run, world.auction(session, 0), keyed_rng("any"))
    seen = SoFar().after(world.auction(session, 0), first)
    later = world.start(session).auction((0, 1), SoFar(seen.history, (ShownAd(ad_id="ad-1", turn=0),)))
    assert not run_sync(begun.run, later, keyed_rng("any")).placements
