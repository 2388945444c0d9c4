"""The click model: monotone where the criteria say so, exact, and keyed so that all mechanisms meet the same user."""

from __future__ import annotations

import asyncio

import pytest

from simenv import Ad, Auction, Bid, Outcome, Persona, Query, outcome
from simenv.records import Traits
from simenv.users.click_model import ClickModel, ClickParams, sentence_around
from tests.fakes import FakeEncoder

ADS = (
    Ad(id="A1", advertiser="Tern", title="Tern hiking boots", body="Boots for wet trails.", category="outdoor"),
    Ad(id="A2", advertiser="Pike", title="Pike hiking boots", body="Boots for wet trails.", category="outdoor"),
    Ad(id="A3", advertiser="Cobble", title="Cobble saver", body="A bank account without fees.", category="finance"),
    Ad(id="A4", advertiser="Plum", title="Plum recipes", body="Weekly dinners by post.", category="food"),
)
AUCTION = Auction(
    id="t", query=Query(id="t", text="which hiking boots for wet trails"), bids=tuple(Bid(ad=a, amount=1) for a in ADS)
)
PRICES = {ad.id: 1.0 for ad in ADS}
ANSWER = "For wet trails take hiking boots with a membrane. Wear them in before the tour."


def persona(**traits: object) -> Persona:
    return Persona(id="p", info="A hiker.", traits=Traits.model_validate({"patience": 0.5, **traits}))


def model(**params: object) -> ClickModel:
    return ClickModel(FakeEncoder(), ClickParams.model_validate(params))


def probs(text: str, who: Persona | None = None, **params: object) -> dict[str, float]:
    return model(**params).probabilities(who or persona(), AUCTION, outcome(AUCTION, text, PRICES))


def test_probabilities_lie_in_the_unit_interval_and_cover_every_shown_ad() -> None:
    text = ANSWER + " " + " ".join(f"See {ad.link}." for ad in ADS)
    found = probs(text)
    assert list(found) == [ad.id for ad in ADS]
    assert all(0 < p < 1 for p in found.values())
    assert probs(ANSWER) == {}


def test_a_relevant_ad_is_clicked_more() -> None:
    hidden = {"appeal_weight": 0.0, "affinity_spread": 0.0}
    boots = probs(f"{ANSWER} See {ADS[0].link}.", **hidden)["A1"]
    bank = probs(f"{ANSWER} See {ADS[2].link}.", **hidden)["A3"]
    assert boots > bank


def test_leaked_ad_process_text_stops_all_clicks() -> None:
    assert probs(f"{ANSWER} See {ADS[0].link}.")["A1"] > 0
    assert probs(f"{ANSWER} The candidate ads pay per click: {ADS[0].link}.") == {"A1": 0.0}


@pytest.mark.parametrize(
    ("trait", "low", "high"),
    [
        ({"ad_tolerance": 0.0}, {"ad_tolerance": 0.0}, {"ad_tolerance": 1.0}),
        ({"patience": 0.0}, {"patience": 0.0}, {"patience": 1.0}),
        ({"affinity": {}}, {"affinity": {"outdoor": -1.0}}, {"affinity": {"outdoor": 1.0}}),
    ],
)
def test_more_of_a_trait_means_more_clicks(trait: dict, low: dict, high: dict) -> None:
    text = f"{ANSWER} See {ADS[0].link}."
    assert probs(text, persona(**low))["A1"] < probs(text, persona(**high))["A1"]


def test_price_sensitive_people_prefer_what_says_it_is_cheap() -> None:
    cheap = ADS[0].model_copy(update={"body": "Affordable boots for wet trails."})
    dear = cheap.model_copy(update={"body": "Luxury boots for wet trails."})

    def gap(sensitivity: float) -> float:
        clicks = []
        for ad in (cheap, dear):
            auction = AUCTION.model_copy(update={"bids": (Bid(ad=ad, amount=1),)})
            made = outcome(auction, f"{ANSWER} See {ad.link}.", PRICES)
            clicks.append(model().probabilities(persona(price_sensitivity=sensitivity), auction, made)["A1"])
        return clicks[0] - clicks[1]

    assert gap(1.0) > gap(0.0)


def test_an_earlier_place_is_examined_more() -> None:
    """Same sentence, same answer, same ads around: only the place differs."""
    flat = {"coherence_floor": 1.0}  # nativeness would compare with the rest of the text, which moves too
    first = probs(f"See {ADS[0].link}. {ANSWER}", **flat)["A1"]
    last = probs(f"{ANSWER} See {ADS[0].link}.", **flat)["A1"]
    assert first > last


def test_hard_sell_wording_costs_clicks() -> None:
    quiet = probs(f"{ANSWER} See {ADS[0].link}.")["A1"]
    loud = probs(f"{ANSWER} Buy now, limited time: {ADS[0].link}!")["A1"]
    assert loud < quiet / 2
    assert probs(f"{ANSWER} You could also look at {ADS[0].link} for this.")["A1"] > loud


def test_more_ads_than_are_free_flood_the_answer() -> None:
    alone = probs(f"{ANSWER} See {ADS[0].link}.", similar=2.0, free_ads=1)["A1"]
    two = probs(f"{ANSWER} See {ADS[0].link}. See {ADS[2].link}.", similar=2.0, free_ads=1)["A1"]
    three = probs(f"{ANSWER} See {ADS[0].link}. See {ADS[2].link}. See {ADS[3].link}.", similar=2.0, free_ads=1)["A1"]
    assert alone > two > three


def test_similar_ads_share_attention_and_at_most_one_is_clicked() -> None:
    text = f"{ANSWER} See {ADS[0].link}. See {ADS[1].link}."
    alone = probs(f"{ANSWER} See {ADS[0].link}.", base=3.0)["A1"]
    both = probs(text, base=3.0)
    assert sum(both.values()) < 1
    assert both["A1"] < alone
    judge = model(base=3.0)
    clicked = 0
    for i in range(200):
        auction = AUCTION.model_copy(update={"id": f"t{i}"})
        made = outcome(auction, text, PRICES)
        clicks = asyncio.run(judge.judge(persona(), auction, made)).clicks
        assert sum(bool(c.clicked) for c in clicks) <= 1
        clicked += sum(bool(c.clicked) for c in clicks)
    assert clicked > 0


def test_clicks_follow_their_probabilities() -> None:
    """400 keyed draws; |z| > 4 would happen with probability 6e-5, and the draws are fixed by their keys."""
    judge = model()
    text = f"{ANSWER} See {ADS[0].link}."
    clicks = []
    for i in range(400):
        auction = AUCTION.model_copy(update={"id": f"draw {i}"})
        clicks.append(asyncio.run(judge.judge(persona(), auction, outcome(auction, text, PRICES))).clicks[0])
    p = clicks[0].click_prob
    assert p is not None
    rate = sum(bool(c.clicked) for c in clicks) / 400
    assert abs(rate - p) < 4 * (p * (1 - p) / 400) ** 0.5


def test_user_noise_is_keyed_by_auction_and_ad_alone() -> None:
    """The same ad in the same auction, at a higher probability, is clicked whenever it was at a lower one."""
    weak, strong = model(base=-1.0), model(base=1.0)
    for i in range(100):
        auction = AUCTION.model_copy(update={"id": f"crn {i}"})
        made = outcome(auction, f"{ANSWER} See {ADS[0].link}.", PRICES)
        before = asyncio.run(weak.judge(persona(), auction, made)).clicks[0].clicked
        after = asyncio.run(strong.judge(persona(), auction, made)).clicks[0].clicked
        assert after or not before


def test_the_ads_id_and_bid_are_only_labels() -> None:
    text = f"{ANSWER} See {ADS[0].link}."
    renamed = ADS[0].model_copy(update={"id": "Z9"})
    auction = AUCTION.model_copy(update={"bids": (Bid(ad=renamed, amount=99),)})
    made: Outcome = outcome(auction, f"{ANSWER} See {renamed.link}.", {"Z9": 1.0})
    assert model().probabilities(persona(), auction, made)["Z9"] == pytest.approx(probs(text)["A1"])


def test_hidden_draws_differ_between_worlds() -> None:
    text = f"{ANSWER} See {ADS[0].link}."
    made = outcome(AUCTION, text, PRICES)
    here = ClickModel(FakeEncoder(), world="one").probabilities(persona(), AUCTION, made)
    there = ClickModel(FakeEncoder(), world="two").probabilities(persona(), AUCTION, made)
    assert here != there


def test_sentence_around_a_link_ends_at_full_stops() -> None:
    text = f"First. You could try {ADS[0].link}, it fits. Last."
    start = text.index("@")
    begin, end = sentence_around(text, (start, start + len(ADS[0].link)))
    assert text[begin:end].strip() == f"You could try {ADS[0].link}, it fits."
