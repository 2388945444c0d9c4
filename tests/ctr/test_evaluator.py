"""The click-intent evaluator as a CTR model: what it reads, its file, and mechanisms that use it."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import pytest

from simenv import Auction, Bid, Query, registry
from simenv.ctr.evaluator import Evaluator
from simenv.ctr.evaluator_file import EvaluatorFile
from simenv.ctr.models import make_ctr_model
from simenv.errors import DataFileError, InputError
from simenv.testing import ADS, FakeEncoder
from tests.support.evaluators import DIMENSION, random_evaluator, random_file

BOOTS, SHOES, _, BANK = ADS[:4]
AUCTION = Auction(
    id="t",
    query=Query(text="Which boots stay dry on wet trails?"),
    profile="A teacher who hikes.",
    bids=tuple(Bid(ad=ad, amount=1.0) for ad in (BOOTS, SHOES, BANK)),
)
ANSWER = f"Look for a membrane on wet trails. {BOOTS.link} are waterproof. Save for them with {BANK.link}!"


def test_it_predicts_a_probability_of_every_candidate_and_of_every_shown_ad() -> None:
    model = random_evaluator()
    before = model.relevance(AUCTION)
    assert before.shape == (3,)
    assert len(set(before)) == 3
    probs = model.click_probs(AUCTION, ANSWER, [BOOTS.id, BANK.id])
    assert list(probs) == [BOOTS.id, BANK.id]
    assert all(0.02 <= q <= 0.7 for q in (*before, *probs.values()))
    assert model.click_probs(AUCTION, ANSWER.replace("waterproof", "red"), [BOOTS.id])[BOOTS.id] != probs[BOOTS.id]
    assert model.relevance(AUCTION.model_copy(update={"bids": ()})).shape == (0,)
    assert model.click_probs(AUCTION, "No ads.", []) == {}


def test_a_rival_beside_the_ad_is_read() -> None:
    """One sentence after the ad, about another ad: the same number of ads, and the same text before them."""
    model = random_evaluator()
    beside = {
        other.id: model.click_probs(AUCTION, f"Try {BOOTS.link}. See {other.link}.", [BOOTS.id, other.id])[BOOTS.id]
        for other in (SHOES, BANK)
    }
    assert beside[SHOES.id] != beside[BANK.id]


def test_bids_and_the_brand_change_nothing() -> None:
    model = random_evaluator()
    renamed = BOOTS.model_copy(update={"advertiser": "Fuchs", "title": BOOTS.title.replace("TrailFox", "Fuchs")})
    bids = (Bid(ad=renamed, amount=99.0), *AUCTION.bids[1:])
    other = AUCTION.model_copy(update={"bids": bids})
    probs = model.click_probs(AUCTION, ANSWER, [BOOTS.id])
    assert model.click_probs(other, ANSWER.replace("TrailFox", "Fuchs"), [BOOTS.id]) == probs
    assert (model.relevance(other) == model.relevance(AUCTION)).all()


def test_an_evaluator_is_saved_and_read(tmp_path: Path) -> None:
    model, path = random_evaluator(), tmp_path / "evaluator.json"
    model.file.save(path)
    read = make_ctr_model(f"evaluator:{path}", {"encoder": registry.Lazy(lambda: FakeEncoder(DIMENSION))})
    assert isinstance(read, Evaluator)
    assert (read.name, read.sha256) == (model.name, json.loads(path.read_text())["sha256"])
    assert read.name == f"evaluator {read.sha256[:12]} of here"
    assert (read.relevance(AUCTION) == model.relevance(AUCTION)).all()
    with pytest.raises(DataFileError, match="exists already"):
        model.file.save(path)


def test_another_encoder_is_refused() -> None:
    with pytest.raises(InputError, match="learned on vectors of other, got the encoder fake"):
        Evaluator(random_file(encoder="other"), FakeEncoder(DIMENSION))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    random_file().save(tmp_path / "whole.json")
    whole = json.loads((tmp_path / "whole.json").read_text())
    nan = np.full(len(EvaluatorFile.model_validate(whole).array("mean")), np.nan, "<f4")
    damaged = {
        "no json": b"evaluator",
        "cut off": (tmp_path / "whole.json").read_bytes()[:500],
        "nothing in it": b"{}",
        "one number": json.dumps(whole | {"position_discount": 0.5}).encode(),
        "too short": json.dumps(whole | {"mean": whole["mean"][:-8]}).encode(),
        "not finite": json.dumps(whole | {"mean": base64.b64encode(nan.tobytes()).decode()}).encode(),
        "no base64": json.dumps(whole | {"mean": "!"}).encode(),
        "no hash": json.dumps({k: v for k, v in whole.items() if k != "sha256"}).encode(),
        "huge": json.dumps(whole | {"dimension": 10**30}).encode(),
    }
    said = {
        "one number": "its content has the hash ",
        "too short": "mean has another length than 203 numbers",
        "not finite": "mean has numbers that are not finite",
        "no hash": "it has no sha256 of its content",
    }
    for name, content in damaged.items():
        path = tmp_path / "bad.json"
        path.write_bytes(content)
        with pytest.raises(DataFileError, match=r"bad\.json: not a click-intent evaluator: ") as raised:
            make_ctr_model(f"evaluator:{path}")
        assert said.get(name, "") in str(raised.value), name
    with pytest.raises(DataFileError, match=r"none\.json"):
        make_ctr_model(f"evaluator:{tmp_path / 'none.json'}")
