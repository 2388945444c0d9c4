"""Metrics of sessions: only where turns are linked, and per session."""

from __future__ import annotations

import pytest

from simenv.background_loop import run_sync
from simenv.records import Transition
from simenv.runs.rollout import Finished, rollout
from simenv.runs.summary import summarize
from simenv.testing import small_world
from tests.support.session_mechanisms import OnceASession


def rows(n: int = 12) -> list[Transition]:
    chunks: list[Finished] = []

    async def go() -> None:
        world = small_world(turns="linked")
        await rollout(world, {"once": OnceASession(at=1)}, n=n, seed=1, on_chunk=chunks.append)

    run_sync(go)
    return [row for chunk in chunks for row in chunk.transitions]


def test_metrics_of_sessions_are_per_session() -> None:
    seen = rows()
    cells = {cell.metric: cell.estimate.value for cell in summarize(seen).cells}
    showing = [row for row in seen if row.outcome.placements]
    paid = sum(sum((row.expected_payments or {}).values()) for row in seen)
    assert cells["session_revenue"] == pytest.approx(paid / 4)
    assert cells["session_revenue"] == pytest.approx(3 * cells["revenue"])
    assert cells["session_ads"] == pytest.approx(len(showing) / 4)
    assert cells["stop_turn"] == pytest.approx(sum(row.turn for row in showing) / len(showing))
    assert 1 <= cells["stop_turn"] <= 2


def test_a_session_that_is_cut_off_counts_as_one() -> None:
    seen = rows(11)  # three sessions, and two turns of a fourth
    cells = {cell.metric: cell.estimate.value for cell in summarize(seen).cells}
    assert cells["session_ads"] == pytest.approx(sum(len(row.outcome.placements) for row in seen) / 4)
    assert cells["session_ads"] <= 1


def test_turns_apart_have_none_of_them() -> None:
    seen = rows()
    apart = [row.model_copy(update={"auction": row.auction.model_copy(update={"horizon": None})}) for row in seen]
    assert {"session_revenue", "session_ads", "stop_turn"}.isdisjoint(c.metric for c in summarize(apart).cells)
