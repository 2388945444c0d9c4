"""The comparison of writers: its measures, and its tables in the documentation."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.writers import OUT, fault, flow, own_clicks, tables
from simenv.records import Click, Feedback, Transition
from simenv.testing import FakeEncoder
from tests.support.auctions import make_auction
from tests.support.pages import text_of

AUCTION = make_auction([30.0, 60.0], max_ads=2)
LINK = AUCTION.bids[0].ad.link


def transition(**details: object) -> Transition:
    from simenv import outcome

    made = outcome(AUCTION, f"Wash it. See {LINK}.", {"c0": 1.0}, details=details)
    return Transition(
        index=0,
        mechanism="m",
        persona_id="p",
        turn=0,
        auction=AUCTION,
        outcome=made,
        feedback=Feedback(clicks=(Click(ad_id="c0", clicked=True, click_prob=0.4),)),
        values={},
        payments={},
        expected_payments=None,
        reward=None,
        expected_reward=None,
    )


def test_flow_is_the_mean_cosine_of_neighbours() -> None:
    encoder = FakeEncoder()
    a, b, c = encoder.encode(["Wash it.", "See Product 0.", "Then dry it."])
    text = f"Wash it. See {LINK}. Then dry it. And iron it."
    d = encoder.encode(["And iron it."])[0]
    assert flow(text, encoder) == pytest.approx(np.mean([a @ b, b @ c, c @ d]), abs=1e-6)
    assert flow(text, encoder, ads_only=True) == pytest.approx(np.mean([a @ b, b @ c]), abs=1e-6)
    assert flow("Wash it.", encoder) is None
    assert flow("Wash it. Dry it.", encoder, ads_only=True) is None


def test_faults_and_clicks_on_ads_that_the_model_worked_in() -> None:
    assert [fault(transition(**d)) for d in ({}, {"smoothed": True}, {"smoothed": False})] == [None, 0.0, 1.0]
    assert [fault(transition(woven=own)) for own in (["c0"], [])] == [0.0, 1.0]
    assert [own_clicks(transition(rewritten=own)) for own in (["c0"], [])] == [0.4, 0.0]
    assert own_clicks(transition()) is None


def test_the_tables_of_the_documentation_are_those_of_the_results() -> None:
    page = text_of("docs/mechanisms.md")
    for name, table in tables(json.loads(OUT.read_text(encoding="utf-8"))).items():
        assert table in page, name


def test_a_stronger_rewriting_works_more_ads_in_and_serves_the_reader_less() -> None:
    """Of the results that are kept: rerun `python -m benchmarks.writers` after a change."""
    rows = json.loads(OUT.read_text(encoding="utf-8"))["strengths"]
    weak, strong = rows["strength -1"], rows["strength 16"]
    assert strong["own_clicks"][0] - strong["own_clicks"][1] > weak["own_clicks"][0] + weak["own_clicks"][1]
    assert strong["satisfaction"][0] < weak["satisfaction"][0]
