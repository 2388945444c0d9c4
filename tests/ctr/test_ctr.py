"""CTR models: what mechanisms predict of clicks, learned from a log or read from the world."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from simenv import Ad, Auction, Bid, Query, outcome
from simenv.ctr.learned import Impression, _sigmoid, calibration_error, fit, held_out_quality
from simenv.ctr.models import CosineCTR, make_ctr_model
from simenv.ctr.oracle import OracleCTR
from simenv.errors import DataFileError, InputError, UnknownName
from simenv.seeding import keyed_rng
from simenv.testing import small_world


def a_log(n: int, discount: float = 0.6) -> tuple[list[Impression], dict[str, float]]:
    """Impressions drawn from a known position-based model: 40 ads of hidden appeal, two places."""
    rng = keyed_rng("ctr test")
    appeal = {f"a{i}": float(rng.normal(0, 1.2)) for i in range(40)}
    rows = []
    for i in range(n):
        ad, rank, cosine = f"a{rng.integers(40)}", int(rng.integers(2)), float(rng.uniform(0, 0.8))
        odds = -1.5 + 3 * cosine + appeal[ad]
        p = discount**rank / (1 + np.exp(-odds))
        rows.append(Impression(f"p{i % 50}", ad, "one", cosine, rank, bool(rng.random() < p)))
    return rows, appeal


def test_a_learned_model_recovers_position_relevance_and_hidden_appeal() -> None:
    """20,000 impressions: standard errors of the discount are near 0.012 and of an ad's intercept near 0.12, so these
    bounds of five would fail with probability below 1e-5; the draws are keyed, so they do not fail at random."""
    rows, appeal = a_log(20_000)
    model = fit(rows, log="here")
    assert abs(model.position_discount - 0.6) < 0.06
    order = sorted(appeal)
    assert np.corrcoef([appeal[i] for i in order], [model.ads[i] for i in order])[0, 1] > 0.97
    truth = np.array([row.clicked for row in rows], dtype=float)
    assert calibration_error(truth, model.predict(rows)) < 0.02
    assert model.name == "learned from 20000 impressions of here"


def test_held_out_personas_tell_a_learned_model_from_the_cosine() -> None:
    learned, cosine, rate = held_out_quality(a_log(4_000)[0])
    assert (learned.model, cosine.model, rate.model) == ("learned", "cosine", "mean rate")
    assert learned.log_loss < min(cosine.log_loss, rate.log_loss)
    assert learned.auc > cosine.auc > rate.auc == 0.5
    assert learned.calibration_error < cosine.calibration_error


def test_a_learned_model_is_saved_read_and_used(tmp_path: Path) -> None:
    model = fit(a_log(500)[0])
    model.save(tmp_path / "ctr.json")
    read = make_ctr_model(f"learned:{tmp_path / 'ctr.json'}")
    assert read == model
    ads = [Ad(id=i, advertiser=i, title=i, category="one") for i in ("a1", "stranger")]
    auction = Auction(id="t", query=Query(text="q"), bids=tuple(Bid(ad=a, amount=1, relevance=0.5) for a in ads))
    q = read.relevance(auction)
    assert q.shape == (2,)
    assert read.click_probs(auction, "", ["stranger", "a1"]) == pytest.approx(
        {"stranger": q[1], "a1": q[0] * model.position_discount}
    )
    with pytest.raises(DataFileError, match="exists already"):
        model.save(tmp_path / "ctr.json")


def test_a_log_without_clicks_or_personas_teaches_nothing() -> None:
    rows = [row._replace(clicked=False) for row in a_log(50)[0]]
    with pytest.raises(InputError, match="got 0 of 50"):
        fit(rows)
    with pytest.raises(InputError, match="got 0 of 0"):
        fit([])
    one = [row._replace(persona="p", clicked=True) for row in rows]
    with pytest.raises(InputError, match="held-out 1 of 1 personas need clicks and non-clicks, got "):
        held_out_quality(one)


@pytest.mark.parametrize("text", ["{}", "no json", json.dumps({"intercept": 1})])
def test_a_file_that_is_no_model_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataFileError, match=r"bad\.json"):
        make_ctr_model(f"learned:{path}")
    with pytest.raises(DataFileError, match=r"none\.json"):
        make_ctr_model(f"learned:{tmp_path / 'none.json'}")


def test_the_oracle_is_the_worlds_click_model() -> None:
    world = small_world()
    oracle = make_ctr_model("oracle", {"judge": world.judge, "personas": world.personas})
    assert isinstance(oracle, OracleCTR)
    persona = world.personas[0]
    ad = world.retriever.catalog[0]
    auction = Auction(
        id="t", query=Query(text="boots for wet trails"), profile=persona.profile, bids=(Bid(ad=ad, amount=1),)
    )
    text = f"Take boots with a membrane. See {ad.link}."
    made = outcome(auction, text, {ad.id: 1.0})
    assert oracle.click_probs(auction, text, [ad.id]) == world.judge.probabilities(persona, auction, made)  # type: ignore[attr-defined]
    assert oracle.relevance(auction)[0] == world.judge.attraction(persona, auction.query.text, [ad])[ad.id]  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="knows no persona"):
        oracle.relevance(auction.model_copy(update={"profile": "Nobody."}))
    assert oracle.relevance(auction.model_copy(update={"bids": ()})).shape == (0,)


def test_ctr_models_have_names() -> None:
    assert isinstance(make_ctr_model("cosine"), CosineCTR)
    with pytest.raises(UnknownName, match="known are cosine, evaluator, learned, oracle"):
        make_ctr_model("cosin")
    with pytest.raises(InputError, match="needs a world"):
        make_ctr_model("oracle")


def test_log_odds_of_any_size_are_a_probability_without_a_warning() -> None:
    with warnings.catch_warnings(action="error"):
        assert _sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
