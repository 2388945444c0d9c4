"""The click model: monotone where theory says so, exact, frozen, keyed so that all mechanisms meet the same user."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simenv import Ad, Auction, Bid, Outcome, Persona, Query, outcome
from simenv.encoder import default_encoder
from simenv.errors import InputError
from simenv.judges.click_model import ClickModel
from simenv.judges.click_worlds import world_v1
from simenv.records import Placement, Traits
from simenv.testing import FakeEncoder
from simenv.text import sentence_around

ADS = (
    Ad(id="A1", advertiser="Tern", title="Tern hiking boots", body="Boots for wet trails.", category="outdoor"),
    Ad(id="A2", advertiser="Pike", title="Pike hiking boots", body="Boots for wet trails.", category="outdoor"),
    Ad(id="A3", advertiser="Cobble", title="Cobble saver", body="A bank account without fees.", category="finance"),
    Ad(id="A4", advertiser="Plum", title="Plum recipes", body="Weekly dinners by post.", category="food"),
)
AUCTION = Auction(
    id="t", query=Query(text="which hiking boots for wet trails"), bids=tuple(Bid(ad=a, amount=1) for a in ADS)
)
PRICES = {ad.id: 1.0 for ad in ADS}
ANSWER = "For wet trails take hiking boots with a membrane. Wear them in before the tour."


def persona(**traits: object) -> Persona:
    return Persona(id="p", info="A hiker.", traits=Traits.model_validate({"patience": 0.5, **traits}))


ENCODER = FakeEncoder()
NO_LEAKS = {"leaks.cue_none": 8.0, "leaks.cue_full": 9.0}
"""The cue of leaks means nothing on a bag of words; violations still count."""


def model(changes: dict[str, object] | None = None) -> ClickModel:
    return ClickModel(ENCODER, world_v1().changed(NO_LEAKS | (changes or {})))


def probs(text: str, who: Persona | None = None, changes: dict[str, object] | None = None) -> dict[str, float]:
    return model(changes).probabilities(who or persona(), AUCTION, outcome(AUCTION, text, PRICES))


def test_probabilities_lie_in_the_unit_interval_and_cover_every_shown_ad() -> None:
    text = ANSWER + " " + " ".join(f"See {ad.link}." for ad in ADS)
    found = probs(text)
    assert list(found) == [ad.id for ad in ADS]
    assert all(0 < p < 1 for p in found.values())
    assert probs(ANSWER) == {}


def test_a_relevant_ad_is_clicked_more() -> None:
    hidden = {"attraction.appeal": 0.0, "attraction.affinity_spread": 0.0}
    boots = probs(f"{ANSWER} See {ADS[0].link}.", changes=hidden)["A1"]
    bank = probs(f"{ANSWER} See {ADS[2].link}.", changes=hidden)["A3"]
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
    flat = {"nativeness.floor": 1.0}  # nativeness compares with what was read before, which moves too
    first = probs(f"See {ADS[0].link}. {ANSWER}", changes=flat)["A1"]
    last = probs(f"{ANSWER} See {ADS[0].link}.", changes=flat)["A1"]
    assert first > last


def test_hard_sell_wording_costs_clicks() -> None:
    quiet = probs(f"{ANSWER} See {ADS[0].link}.")["A1"]
    loud = probs(f"{ANSWER} Hurry, this offer ends tonight and will never come back: {ADS[0].link}!")["A1"]
    assert loud < quiet / 2
    assert probs(f"{ANSWER} You could also look at {ADS[0].link} for this.")["A1"] > loud


def test_more_ads_than_are_free_flood_the_answer() -> None:
    changes = {"competition.substitutes_from": 1.5, "competition.substitutes_full": 2.0, "flooding.free_ads": 1}
    alone = probs(f"{ANSWER} See {ADS[0].link}.", changes=changes)["A1"]
    two = probs(f"{ANSWER} See {ADS[0].link}. See {ADS[2].link}.", changes=changes)["A1"]
    three = probs(f"{ANSWER} See {ADS[0].link}. See {ADS[2].link}. See {ADS[3].link}.", changes=changes)["A1"]
    assert alone > two > three


def test_similar_ads_share_attention_and_at_most_one_is_clicked() -> None:
    text = f"{ANSWER} See {ADS[0].link}. See {ADS[1].link}."
    keen = {"attraction.base": 3.0}
    alone = probs(f"{ANSWER} See {ADS[0].link}.", changes=keen)["A1"]
    both = probs(text, changes=keen)
    assert sum(both.values()) < 1
    assert both["A1"] < alone
    judge = model(keen)
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
    weak, strong = model({"attraction.base": -1.0}), model({"attraction.base": 1.0})
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
    here = model({"world": "one"}).probabilities(persona(), AUCTION, made)
    there = model({"world": "two"}).probabilities(persona(), AUCTION, made)
    assert here != there


def test_sentence_around_a_link_ends_at_full_stops() -> None:
    text = f"First. You could try {ADS[0].link}, it fits. Last."
    start = text.index("@")
    begin, end = sentence_around(text, (start, start + len(ADS[0].link)))
    assert text[begin:end].strip() == f"You could try {ADS[0].link}, it fits."


def test_nothing_after_an_ad_matters_but_ads_and_leaks() -> None:
    text = f"{ANSWER} See {ADS[0].link}."
    assert probs(f"{text} Dry them slowly, away from the stove, and wax them twice a year.") == probs(text)
    assert probs(f"{text} See {ADS[1].link}.")["A1"] < probs(text)["A1"]


def test_the_firm_is_only_a_label() -> None:
    ad = ADS[0].model_copy(update={"advertiser": "Wren", "title": "Wren hiking boots"})
    auction = AUCTION.model_copy(update={"bids": (Bid(ad=ad, amount=1),)})
    text = f"{ANSWER} See {ad.link}."
    renamed = model().probabilities(persona(), auction, outcome(auction, text, PRICES))
    assert renamed == probs(f"{ANSWER} See {ADS[0].link}.")


def test_an_ad_whose_link_is_not_in_the_text_is_not_clicked() -> None:
    absent = Outcome(response=ANSWER, placements=(Placement(ad_id="A1", price=1.0, span=(0, 0)),))
    assert model().probabilities(persona(), AUCTION, absent) == {"A1": 0.0}


@pytest.mark.parametrize(
    ("number", "low", "high", "text"),
    [
        ("attraction.relevance_centre", 0.5, 0.2, "See {0}."),
        ("examination.depth_loss", 1.0, 0.0, "See {0}."),
        ("examination.rank_discount", 0.5, 1.0, "See {2}. See {0}."),
        ("nativeness.floor", 0.0, 1.0, "Bananas ripen faster in paper, see {0}."),
        ("nativeness.hard_sell", 0.1, 0.9, "Act fast, stocks are melting away, grab {0}!"),
        ("competition.substitutes_full", 0.7, 1.5, "See {1}. See {0}."),
        ("flooding.rate", 2.0, 0.0, "See {1}. See {2}. See {3}. See {0}."),
    ],
)
def test_every_factor_is_monotone_in_its_numbers(number: str, low: float, high: float, text: str) -> None:
    shown = f"{ANSWER} {text.format(*(ad.link for ad in ADS))}"
    assert probs(shown, changes={number: low})["A1"] < probs(shown, changes={number: high})["A1"]


@given(
    st.floats(-1, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([(0,), (0, 1), (2, 0), (3, 1, 0)]),
)
@settings(max_examples=60, deadline=None)
def test_traits_move_clicks_one_way_whatever_else_holds(
    taste: float, tolerance: float, patience: float, price: float, shown: tuple[int, ...]
) -> None:
    traits = {
        "affinity": {"outdoor": taste},
        "ad_tolerance": tolerance,
        "patience": patience,
        "price_sensitivity": price,
    }
    text = f"{ANSWER} {' '.join(f'See {ADS[i].link}.' for i in shown)}"
    here = probs(text, persona(**traits))["A1"]
    assert 0 <= here <= 1
    for more in ({"affinity": {"outdoor": min(1, taste + 0.3)}}, {"patience": min(1, patience + 0.3)}):
        assert probs(text, persona(**(traits | more)))["A1"] >= here * (1 - 1e-9)
    keener = probs(text, persona(**(traits | {"ad_tolerance": min(1, tolerance + 0.3)})))
    assert sum(keener.values()) >= sum(probs(text, persona(**traits)).values()) * (1 - 1e-9)


def test_numbers_have_names_and_a_hash() -> None:
    params = world_v1()
    assert params.numbers()["attraction.base"] == params.attraction.base
    other = params.changed({"attraction.base": 0.0})
    assert other.attraction.base == 0.0
    assert other.sha256 != params.sha256 == params.changed({}).sha256
    for name in ("attraction", "attraction.bass", "base"):
        with pytest.raises(InputError, match=name):
            params.changed({name: 1.0})
    with pytest.raises(InputError, match="rank_discount"):
        params.changed({"examination.rank_discount": 2.0})


@pytest.mark.weights
def test_world_v1_is_frozen() -> None:
    """Numbers, examples and equations of world "v1": whoever changes one makes another world, with a new name."""
    assert world_v1().sha256 == "5a15f0f269d65f4ffe9ea41d3793703577153e2ba7319022840f60b45b08833b"
    boots = ADS[0].model_copy(update={"body": "Waterproof boots for wet trails, resoled for life."})
    shoes = Ad(
        id="A2",
        advertiser="Pike",
        title="Pike trail shoes",
        body="Cheap light shoes for dry paths, 29 dollars.",
        category="outdoor",
    )
    ads = (boots, shoes, ADS[2])
    auction = AUCTION.model_copy(update={"bids": tuple(Bid(ad=ad, amount=1) for ad in ads)})
    who = persona(ad_tolerance=0.6, price_sensitivity=0.7, patience=0.4, affinity={"outdoor": 0.5})
    answer = "For wet trails take boots with a membrane. Wear them in before the tour."
    judge = ClickModel(default_encoder())
    for text, expected in (
        (f"One pair worth a look is {boots.link}, which can be resoled.", {"A1": 0.950086}),
        (
            f"See {boots.link}. Or see {shoes.link}, at 29 dollars. And open {ADS[2].link}.",
            {"A1": 0.081109, "A2": 0.092868, "A3": 0.01258},
        ),
        (f"HURRY, nobody beats {boots.link}, order today!", {"A1": 0.040885}),
    ):
        found = judge.probabilities(who, auction, outcome(auction, f"{answer} {text}", PRICES))
        assert found == pytest.approx(expected, abs=2e-4)
