"""The stage after the click: it draws by key, and leaves everything before it as it was."""

from __future__ import annotations

import math

import pytest

from simenv.conversions import Conversions
from simenv.errors import InputError
from simenv.records import Ad, Bid, Persona, Traits, Transition
from simenv.runs.summary import summarize
from simenv.testing import small_world
from tests.support.hand_made import turn
from tests.support.runs import transitions


def bid(relevance: float = 0.4, body: str = "A thing.", category: str = "shoes") -> Bid:
    ad = Ad(id="a", advertiser="Firm", title="Thing", body=body, category=category)
    return Bid(ad=ad, amount=1.0, relevance=relevance)


def persona(**traits: object) -> Persona:
    return Persona(id="p", info="A person.", traits=Traits.model_validate(traits))


def test_an_ordinary_ad_converts_at_the_base_rate() -> None:
    assert Conversions(0.05).prob(persona(), bid()) == pytest.approx(0.05)


def test_relevance_taste_and_price_move_the_odds_as_the_docstring_says() -> None:
    stage = Conversions(0.05)

    def odds(someone: Persona, offer: Bid) -> float:
        prob = stage.prob(someone, offer)
        return math.log(prob / (1 - prob)) - math.log(0.05 / 0.95)

    assert odds(persona(), bid(relevance=0.55)) == pytest.approx(0.5)
    assert odds(persona(affinity={"shoes": -0.5}), bid()) == pytest.approx(-0.25)
    assert odds(persona(price_sensitivity=0.8), bid(body="Only $300.")) == pytest.approx(-0.8)
    assert odds(persona(price_sensitivity=0.8), bid(body="Only $3.")) == pytest.approx(0.8)


@pytest.mark.parametrize("options", [{"rate": 0.0}, {"rate": 1.0}, {"rate": 0.1, "price": -1}, {"rate": math.nan}])
def test_numbers_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match="must be"):
        Conversions(**options)


@pytest.fixture(scope="module")
def converting() -> list[Transition]:
    return transitions(small_world(conversions=Conversions(0.3)), "gsp", "first_price", "organic", n=24)


def test_only_the_stage_is_new(converting: list[Transition]) -> None:
    before = transitions(small_world(), "gsp", "first_price", "organic", n=24)
    assert "conver" not in "".join(row.model_dump_json() for row in before)
    gone: dict[str, object] = dict.fromkeys(("conversion_prob", "converted", "conversion_value"))
    for old, new in zip(before, converting, strict=True):
        clicks = tuple(click.model_copy(update=gone) for click in new.feedback.clicks)
        assert new.model_copy(update={"feedback": new.feedback.model_copy(update={"clicks": clicks})}) == old


def test_only_clicks_convert_and_all_mechanisms_draw_alike(converting: list[Transition]) -> None:
    drawn: dict[tuple[str, str], bool | None] = {}
    for row in converting:
        assert Transition.model_validate_json(row.model_dump_json()) == row
        for click in row.feedback.clicks:
            assert click.conversion_value == pytest.approx(row.values[click.ad_id] / 0.3)
            assert not (click.converted and not click.clicked)
            if click.clicked:
                key = (row.auction.id, click.ad_id)
                assert drawn.setdefault(key, click.converted) == click.converted
    assert {True, False} <= set(drawn.values())


def test_an_abstained_click_has_an_unknown_conversion() -> None:
    row = turn(0, {"a": (None, None)})
    after = Conversions(0.5).after(persona(), row.auction, row.feedback, row.values)
    assert after.clicks[0].converted is None
    assert after.clicks[0].conversion_prob is not None


def test_draws_have_their_probability() -> None:
    """2,000 draws at 0.3: the share is off by more than 0.05 in fewer than one of a million seeds (4.9 sigma)."""
    stage = Conversions(0.3)
    rows = [turn(i, {"a": (True, 1.0)}) for i in range(2000)]
    offer = rows[0].auction.bid_of("a")
    prob = stage.prob(persona(), offer)
    converted = [stage.after(persona(), row.auction, row.feedback, row.values).clicks[0].converted for row in rows]
    assert sum(map(bool, converted)) / 2000 == pytest.approx(prob, abs=0.05)


def test_metrics_of_conversions(converting: list[Transition]) -> None:
    table = summarize(converting)
    cells = {(cell.mechanism, cell.metric): cell.estimate.value for cell in table.cells}
    of_gsp = [row for row in converting if row.mechanism == "gsp"]
    clicks = [click for row in of_gsp for click in row.feedback.clicks]
    conversions = [(c.click_prob or 0.0) * (c.conversion_prob or 0.0) for c in clicks]
    paid = sum(sum((row.expected_payments or {}).values()) for row in of_gsp)
    worth = sum(number * (c.conversion_value or 0.0) for number, c in zip(conversions, clicks, strict=True))
    assert cells["gsp", "conversions"] == pytest.approx(sum(conversions) / len(of_gsp))
    assert cells["gsp", "cpa"] == pytest.approx(paid / sum(conversions))
    assert cells["gsp", "roas"] == pytest.approx(worth / paid)
    assert cells["organic", "conversions"] == 0
    assert math.isnan(cells["organic", "cpa"])
    without = summarize(transitions(small_world(), "gsp", "organic", n=4))
    assert {"conversions", "cpa", "roas"}.isdisjoint(cell.metric for cell in without.cells)
