"""Which questions a session of linked turns has: with frozen ones, any of the persona's."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from simenv.background_loop import run_sync
from simenv.testing import small_world
from simenv.users.queries import FileQueries


def test_a_shorter_session_draws_from_all_frozen_questions_of_the_persona() -> None:
    world, asked = small_world(turns="linked", horizon=2), Counter()
    for number in range(60):
        session = run_sync(world.session, 1, number)
        start = world.start(session)
        assert (start.horizon, len(session.questions), len(set(session.questions))) == (2, 2, 2)
        assert {auction.query.text for auction in start.auctions} == set(session.persona.queries)
        assert len(start.after(start.asked(world.auction(session, 0)))) == len(session.persona.queries) - 1
        asked[session.persona.queries.index(session.questions[0].text)] += 1
    # 60 draws of 3 equal chances: each comes 9 times or more but for a chance of 0.002 over fresh seeds
    assert min(asked[place] for place in range(3)) > 8


def test_questions_of_a_file_are_those_of_the_session(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("".join(f"Which product number {i} is best?\n" for i in range(5)))
    world = small_world(turns="linked", horizon=2, queries=FileQueries(tmp_path / "q.txt"))
    session = run_sync(world.session, 1, 0)
    assert {a.query.text for a in world.start(session).auctions} == {question.text for question in session.questions}
