"""The pCTR model: what it reads of an answer, what it learns, and its file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import save_file

from mechanisms.llm_auction.click_features import NUMBERS, SLOTS, PCTRExample, features, pctr_examples, single_examples
from mechanisms.llm_auction.reward_model import FILE, PCTR, PredictedCTR, fit, load, save
from simenv.ctr.learned import calibration_error
from simenv.errors import DataFileError, InputError
from simenv.records import Auction
from simenv.seeding import keyed_rng
from simenv.testing import FakeEncoder
from tests.support.auctions import make_auction, small_auction

WORDS = ("boots", "loans", "tents", "pianos")


def example(query: str, word: str, clicked: float | None = None, **fields: str) -> PCTRExample:
    """An ad for `word` after a sentence about the query."""
    known = {"user": "nobody", "ad": "new ad", "title": f"{word} for all"} | fields
    return PCTRExample(
        **known,
        body=f"All {word}.",
        category="shop",
        query=f"which {query} now",
        before=f"There are many {query}.",
        sentence=f"good {word} for you",
        words=f"good {word} for you",
        after="",
        others=(),
        other_copies=(),
        rank=0,
        clicked=clicked,
    )


def clicks(n: int) -> list[PCTRExample]:
    """Clicked with probability 0.9 if the ad is for the query's word, else 0.1."""
    rng = keyed_rng("clicks for pctr")
    rows = []
    for i in range(n):
        query, other = rng.choice(WORDS, size=2, replace=False)
        fits = bool(rng.random() < 0.5)
        clicked = float(rng.random() < (0.9 if fits else 0.1))
        rows.append(example(query, query if fits else other, clicked, user=f"user {i % 7}", ad=f"ad {i % 5}"))
    return rows


@pytest.fixture(scope="module")
def fitted() -> PCTR:
    return fit(clicks(1200), FakeEncoder(), seed=0, steps=160)


def test_it_learns_relevance_that_holds_for_new_users_and_ads(fitted: PCTR) -> None:
    fits, misses = fitted.predict([example("boots", "boots"), example("boots", "loans")])
    assert fits > 0.7
    assert misses < 0.3


def test_its_probabilities_are_calibrated(fitted: PCTR) -> None:
    rows = [row._replace(user="nobody", ad="new ad") for row in clicks(1200)]
    truth = np.array([row.clicked for row in rows])
    assert calibration_error(truth, fitted.predict(rows), bins=2) < 0.06
    fitted.calibration[1] += 1.0  # the test can fail
    assert calibration_error(truth, fitted.predict(rows), bins=2) > 0.06
    fitted.calibration[1] -= 1.0


def test_its_file_gives_the_same_predictions(fitted: PCTR, tmp_path: Path) -> None:
    rows = clicks(5)
    save(fitted, tmp_path)
    assert load(tmp_path, FakeEncoder()).predict(rows) == pytest.approx(fitted.predict(rows))
    with pytest.raises(DataFileError, match="no pCTR model"):
        load(tmp_path / "nowhere", FakeEncoder())


def test_a_file_of_an_older_version_says_so(tmp_path: Path) -> None:
    model = PCTR(FakeEncoder(), ["u"], ["a"])
    for known in ([["u"], ["a"]], {"users": ["u"], "ads": ["a"], "inputs": ["cosine"]}):
        save_file(dict(model.state_dict()), tmp_path / FILE, metadata={"known": json.dumps(known)})
        with pytest.raises(DataFileError, match=r"made by another version of simenv, .* other inputs \(train again\)"):
            load(tmp_path, FakeEncoder())


def test_a_log_without_clicks_is_refused() -> None:
    with pytest.raises(InputError, match="needs clicks and non-clicks, got 0 clicks of 5"):
        fit([row._replace(clicked=0.0) for row in clicks(5)], FakeEncoder(), seed=0)


def answered() -> tuple[Auction, list[PCTRExample]]:
    """Two ads in an answer, the second after two sentences."""
    auction = small_auction(3)
    boots, shoes = auction.bids[0].ad, auction.bids[1].ad
    text = f"Wet trails need care. Try {boots.link}: they stay dry! On roads {shoes.link} is enough. Have fun."
    return auction, pctr_examples(auction, text, [boots.id, shoes.id], {boots.id: True})


def test_an_example_has_the_texts_around_its_ad_and_nothing_of_its_brand() -> None:
    auction, (first, second) = answered()
    assert first.before == "Wet trails need care."
    assert first.sentence == "Try TrailFox Hiking Boots: they stay dry!"
    assert first.words == "Try : they stay dry!"
    assert first.after == "On roads Pacer Road Shoes is enough. Have fun."
    assert first.copy == "Hiking Boots. Waterproof hiking boots for wet trails."
    assert first.others == (second.sentence,)
    assert first.other_copies == (second.copy,)
    assert (first.rank, first.clicked, second.rank, second.clicked) == (0, 1.0, 1, None)
    assert first.user == auction.profile


def test_features_are_what_their_names_say() -> None:
    _, rows = answered()
    encoder = FakeEncoder()
    found = features(rows, encoder)
    assert found.numbers.shape == (2, len(NUMBERS))
    assert found.slots.shape == (2, len(SLOTS))

    def number(row: int, name: str) -> float:
        return float(found.numbers[row, NUMBERS.index(name)])

    def cosine(one: str, other: str) -> float:
        return float(encoder.encode([one])[0] @ encoder.encode([other])[0])

    first, second = rows
    assert number(0, "query, copy") == pytest.approx(cosine(first.query, first.copy), abs=1e-6)
    assert number(0, "profile, category") == pytest.approx(cosine(first.user, "shoes"), abs=1e-6)
    assert number(0, "nearest other copy") == pytest.approx(cosine(first.copy, second.copy), abs=1e-6)
    near = max(cosine(second.words, text) for text in (second.query, "Wet trails need care.", first.sentence))
    assert number(1, "nearest sentence before, sentence") == pytest.approx(near, abs=1e-6)
    assert [number(i, "rank") for i in (0, 1)] == [0.0, 1.0]
    assert [number(i, "number of ads") for i in (0, 1)] == [2.0, 2.0]
    assert [number(i, "words before") for i in (0, 1)] == [4.0, 11.0]
    assert number(0, "words of the answer") == 20.0
    assert [number(i, "exclamation mark") for i in (0, 1)] == [1.0, 1.0]  # the second: of the sentence before it
    assert np.isfinite(found.numbers).all()


def test_before_an_answer_is_known_the_place_is_the_mean_of_the_log(fitted: PCTR) -> None:
    rows = single_examples(small_auction(3))
    found = features(rows, FakeEncoder())
    unknown = [name for name, known in zip(NUMBERS, np.isfinite(found.numbers[0]), strict=True) if not known]
    assert "words before" in unknown
    assert "query, copy" not in unknown
    at_mean = found.numbers.copy()
    at_mean[:, [NUMBERS.index(name) for name in unknown]] = fitted.mean[[NUMBERS.index(name) for name in unknown]]
    inputs = fitted.inputs(rows)
    assert np.allclose(
        fitted(inputs).detach(), fitted(inputs._replace(numbers=inputs.numbers.new_tensor(at_mean))).detach(), atol=1e-5
    )


def test_it_is_a_ctr_model_that_any_mechanism_may_use(fitted: PCTR) -> None:
    ctr = PredictedCTR(fitted)
    auction = make_auction([50.0, 20.0])
    assert ctr.relevance(auction).shape == (2,)
    a, b = (bid.ad for bid in auction.bids)
    both = f"Try {a.link}, it is good. Or {b.link}, which is not."
    probs = ctr.click_probs(auction, both, [a.id, b.id])
    assert list(probs) == [a.id, b.id]
    assert all(0 < prob < 1 for prob in probs.values())
    assert ctr.click_probs(auction, "Nothing.", []) == {}
    alone = (f"Try {b.link}.", [b.id])
    one, none, other = ctr.click_probs_of([(auction, *alone), (auction, "Nothing.", []), (auction, both, [a.id, b.id])])
    assert none == {}
    assert one == pytest.approx(ctr.click_probs(auction, *alone))
    assert other == pytest.approx(probs)
    assert ctr.relevance(auction.model_copy(update={"bids": ()})).shape == (0,)
