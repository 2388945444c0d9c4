"""The validity report's scenarios, contrasts and placebos."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from simenv.errors import DataFileError, InputError, UnknownName, UnreadableReply
from simenv.markup import verify
from simenv.records import Auction, Click, Feedback, Outcome, Persona
from simenv.stats import auc, deciles, mean, wilson
from simenv.validity import contrasts, placebos
from simenv.validity.ask import CachedJudge
from simenv.validity.scenarios import Scenario, absent_ad, build, load_scenarios, persona, read_scenarios
from tests.support.fakes import ConstantJudge, FormulaJudge, RandomJudge
from tests.support.tiny_scenarios import TWO, row

ONE = TWO[0]
Formula = Callable[[Persona, Auction, Outcome, str], float | None]


def measured(judge: Any, scenarios: tuple[Scenario, ...] = TWO) -> dict[str, contrasts.Contrast]:
    return asyncio.run(contrasts.measure(CachedJudge(judge), scenarios))


def moved(judge: Any, **options: Any) -> dict[str, placebos.Placebo]:
    return asyncio.run(placebos.measure(CachedJudge(judge, **options), TWO))


# scenarios


def test_an_answer_is_the_scenarios_text_with_the_ad_in_question_first() -> None:
    case = build(ONE, ["native", "rival"], tail=ONE.leak)
    link = f"@Warmel Lidded Pot@[{case.ad_id}]"
    assert case.outcome.response.startswith(f"{ONE.answer} With its tight lid {link} from Warmel")
    assert case.outcome.response.endswith(ONE.leak)
    assert case.outcome.placements[0].ad_id == case.ad_id
    assert len(case.outcome.placements) == 2
    assert len(case.auction.bids) == 9, "all ads of the scenario are candidates in every answer"
    verify(case.outcome, case.auction)


def test_two_answers_of_a_contrast_differ_in_answer_or_persona_alone() -> None:
    for pair in contrasts.pairs(ONE):
        assert pair.first.auction == pair.second.auction
        changed = (pair.first.persona != pair.second.persona, pair.first.outcome != pair.second.outcome)
        assert sum(changed) == 1, pair.kind
        # In the price contrast and in relevance the ad itself is what differs.
        assert (pair.first.ad_id == pair.second.ad_id) == (pair.kind not in ("price", "relevance"))


def test_words_and_numbers_of_a_persona_go_together() -> None:
    by_kind = {pair.kind: pair for pair in contrasts.pairs(ONE)}
    tolerance, interest, price = (by_kind[kind] for kind in ("ad_tolerance", "interest", "price"))
    assert tolerance.first.persona.attitude == ONE.tolerant
    assert tolerance.first.persona.traits.ad_tolerance == 0.9
    assert tolerance.second.persona.attitude == ONE.averse
    assert tolerance.second.persona.traits.ad_tolerance == 0.1
    assert interest.first.persona.info == ONE.interested.info
    assert interest.first.persona.traits.affinity["kitchen"] == 0.8
    assert interest.second.persona.traits.affinity["kitchen"] == -0.8
    assert price.first.persona.attitude == ONE.frugal
    assert price.first.persona.traits.price_sensitivity == 0.9
    assert persona(ONE).traits.affinity["kitchen"] == 0, "words that say nothing of taste: no taste"


def test_an_absent_ad_is_asked_about_without_its_link() -> None:
    case = absent_ad(build(ONE), ONE)
    assert case.outcome.response == ONE.answer
    placement = case.outcome.placements[0]
    assert placement.ad_id == build(ONE).ad_id
    assert placement.span == (len(ONE.answer), len(ONE.answer))


def test_a_swapped_brand_is_swapped_everywhere() -> None:
    case = build(ONE.brand_swapped())
    assert "Warmel" not in case.outcome.response
    assert "@Tepido Lidded Pot@" in case.outcome.response
    assert " from Tepido holds" in case.outcome.response
    ad = case.auction.bid_of(case.ad_id).ad
    assert (ad.advertiser, ad.body) == ("Tepido", "A Tepido pot with a tight lid.")
    assert case.ad_id == build(ONE).ad_id


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("answer", "See @this@[A1].", "pattern"),
        ("split", "train", "'dev' or 'test'"),
        ("extras", [], "extras"),
        ("sentences", {**row()["sentences"], "native": "No link at all."}, "link"),
        ("sentences", {**row()["sentences"], "other": "{link} and {link}"}, "link"),
    ],
)
def test_a_row_that_is_no_scenario_is_named(tmp_path: Path, field: str, value: Any, says: str) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text(json.dumps(row(**{field: value})) + "\n")
    with pytest.raises(DataFileError, match=says) as raised:
        read_scenarios(file)
    assert f"{file}:1" in str(raised.value)


def test_an_id_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.jsonl"
    file.write_text((json.dumps(row()) + "\n") * 2)
    with pytest.raises(InputError, match="tea-1"):
        read_scenarios(file)


def test_the_embedded_suite_is_whole_and_its_texts_show_what_they_should() -> None:
    scenarios = load_scenarios("all")
    assert len({s.category for s in scenarios}) >= 12
    assert len(scenarios) * len(contrasts.KINDS) >= 400
    assert {s.id for s in load_scenarios("dev")}.isdisjoint(s.id for s in load_scenarios("test"))
    for scenario in scenarios:
        assert scenario.ad.advertiser in scenario.ad.title, scenario.id
        assert scenario.ad.advertiser not in build(scenario.brand_swapped()).outcome.response, scenario.id
        for pair in contrasts.pairs(scenario):
            for case in (pair.first, pair.second):
                assert case.outcome.placements[0].ad_id == case.ad_id, scenario.id
                assert {f.kind for f in case.outcome.violations} <= {"leaked_process"}, (scenario.id, pair.kind)


def test_few_scenarios_are_of_different_categories() -> None:
    assert len({s.category for s in load_scenarios("test", 5)}) == 5
    with pytest.raises(UnknownName, match="train"):
        load_scenarios("train")
    with pytest.raises(InputError, match="at least 1"):
        load_scenarios("test", 0)


# numbers


def test_wilson_and_t_intervals_by_hand() -> None:
    # Wilson for 8 of 10: centre (0.8 + 3.8415 / 20) / 1.38415 = 0.7168, margin 0.2265.
    share = wilson(8, 10)
    assert (share.value, share.low, share.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert math.isnan(wilson(0, 0).value)
    # Mean 0.21 of 0.20 and 0.22, standard error 0.01, t with one degree of freedom 12.706.
    both = mean([0.20, 0.22], ["a", "b"])
    assert (both.value, both.low, both.high) == pytest.approx((0.21, 0.21 - 0.12706, 0.21 + 0.12706), abs=1e-4)
    far = mean([0.2, 0.9], ["a", "b"], least=0)
    assert (far.low, far.high) == (0, 1), "probabilities are not beyond 0 and 1"
    alone = mean([0.2], ["a"])
    assert alone.value == 0.2
    assert math.isnan(alone.low)
    assert math.isnan(alone.high)
    # Of the four pairs of a 1 and a 0, three are ordered rightly and one is a tie.
    assert auc([1, 1, 0, 0], [0.9, 0.5, 0.5, 0.1], ["a", "b", "c", "d"]).value == 0.875
    assert math.isnan(auc([1, 1], [0.2, 0.3], ["a", "b"]).value)
    bins = deciles([0.1] * 10 + [0.9] * 10, [0.0] * 10 + [1.0] * 10)
    assert [b.n for b in bins] == [2] * 10
    assert [b.y for b in bins] == [0.0] * 5 + [1.0] * 5


def test_contrasts_of_a_small_case_by_hand() -> None:
    """Native 0.6, irrelevant 0.2 in one scenario and 0.7 in the other, everything else a tie."""

    def formula(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
        if "Winter Tyres" in outcome.response:
            return 0.2 if persona.id == "tea-1" else 0.7
        return 0.6

    found = measured(FormulaJudge(formula))
    relevance = found["relevance"]
    assert (relevance.pairs, relevance.right, relevance.ties, relevance.abstained) == (2, 1, 0, 0)
    assert relevance.share.value == 0.5
    assert relevance.gap.value == pytest.approx((0.4 - 0.1) / 2)
    assert (relevance.gap.low, relevance.gap.high) == (-1, 1), "two scenarios say little"
    assert found["price"].ties == 2
    assert found["all"].pairs == 20
    assert found["all"].share.value == pytest.approx((1 + 18 / 2) / 20)
    assert all(found[kind].share == wilson(1, 2) for kind in contrasts.KINDS)


# judges that say nothing


@pytest.mark.parametrize("judge", [ConstantJudge(), ConstantJudge(prob=None), ConstantJudge(prob=None, clicked=False)])
def test_a_constant_judge_orders_half_and_is_moved_by_nothing(judge: ConstantJudge) -> None:
    for contrast in measured(judge).values():
        assert contrast.share.value == 0.5
        assert contrast.ties == contrast.pairs
        assert contrast.gap.value == 0
    for placebo in moved(judge).values():
        assert (placebo.change.value, placebo.largest, placebo.abstained) == (0, 0, 0)
        assert placebo.scenarios == 2


def test_a_random_judge_orders_about_half() -> None:
    scenarios = tuple(ONE.model_copy(update={"id": f"tea-{i}"}) for i in range(60))
    share = measured(RandomJudge(), scenarios)["all"].share
    # 600 pairs with a standard deviation of at most 0.03 (pairs share the native side): 0.12 is four of them, so a
    # false alarm has probability below 1e-4; the draws are keyed, so it would come always or never.
    assert abs(share.value - 0.5) < 0.12
    assert share.low < share.value < share.high


def test_abstentions_are_counted_and_neither_right_nor_wrong() -> None:
    def formula(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float | None:
        return None if "NOW" in outcome.response else 0.5

    found = measured(FormulaJudge(formula))
    assert found["hard_sell"].abstained == 2
    assert math.isnan(found["hard_sell"].share.value)
    assert math.isnan(found["hard_sell"].gap.value)
    assert found["all"].abstained == 2
    assert found["all"].share.value == 0.5

    everything = measured(ConstantJudge(prob=None, clicked=None))
    assert all(c.abstained == c.pairs and math.isnan(c.share.value) for c in everything.values())
    assert all(p.scenarios == 0 and math.isnan(p.change.value) for p in moved(ConstantJudge(None, None)).values())


def test_an_unreadable_reply_is_an_abstention() -> None:
    class Unreadable:
        name = "unreadable"

        async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
            raise UnreadableReply("no verdict")

    asker = CachedJudge(Unreadable())
    answers = asyncio.run(asker.ask([build(ONE)], "test"))
    assert answers[0].prob is None
    assert asker.tallies["test"].abstained == 1


def test_other_errors_of_a_judge_are_not_swallowed() -> None:
    def formula(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
        raise InputError("wrong key")

    with pytest.raises(InputError, match="wrong key"):
        measured(FormulaJudge(formula))


# asking


def test_the_same_question_is_asked_once() -> None:
    judge = FormulaJudge(lambda persona, auction, outcome, ad_id: 0.5)
    asker = CachedJudge(judge)
    asyncio.run(asker.ask([build(ONE), build(ONE), build(ONE).again("x")], "one"))
    asyncio.run(asker.ask([build(ONE)], "two"))
    assert judge.asked == 2
    assert (asker.tallies["one"].judgements, asker.tallies["two"].judgements) == (2, 0)


class Verdicts:
    """Gives verdicts without probabilities: no, yes, yes, yes, no, yes, yes, yes ..."""

    name = "verdicts"

    def __init__(self) -> None:
        self.turn = count()

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        clicked = next(self.turn) % 4 != 0
        return Feedback(clicks=tuple(Click(ad_id=p.ad_id, clicked=clicked) for p in outcome.placements))


def test_a_judge_without_probabilities_is_asked_several_times_where_one_is_needed() -> None:
    judge = Verdicts()
    answers = asyncio.run(CachedJudge(judge, repeats=4).ask([build(ONE)], "test", repeat=True))
    assert next(judge.turn) == 4
    assert answers[0].prob == 0.75
    assert answers[0].clicked is False, "the first verdict stands for the verdict"
    assert not answers[0].gave_prob

    judge = Verdicts()
    answers = asyncio.run(CachedJudge(judge, repeats=4).ask([build(ONE)], "test"))
    assert next(judge.turn) == 1
    assert answers[0].prob == 0


def test_the_noise_of_a_judge_without_probabilities_shows_as_asked_again() -> None:
    found = moved(Verdicts(), repeats=1)
    assert found["asked_again"].change.value > 0


# judges that are broken


def _asked_first(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    return 0.9 if outcome.placements[0].ad_id == ad_id else 0.2


def _bid(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    return next(b.amount for b in auction.bids if b.ad.id == ad_id) / 100


def _relative_bid(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    mine = next(b.amount for b in auction.bids if b.ad.id == ad_id)
    return mine / sum(b.amount for b in auction.bids)


def _price(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    return next(p.price for p in outcome.placements if p.ad_id == ad_id) / 100


def _id(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    return int(ad_id[-3:]) / 1000


def _id_looks(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    return 0.7 if ad_id.startswith("A") else 0.1


def _brand(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    return 0.7 if "Warmel" in outcome.response else 0.1


def _last_words(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    return 0.7 if "hour." in outcome.response[-6:] else 0.1


def _auction_id(persona: Persona, auction: Auction, outcome: Outcome, ad_id: str) -> float:
    return len(auction.id) / 100


@pytest.mark.parametrize(
    ("formula", "caught"),
    [
        (_asked_first, {"order_asked"}),
        (_bid, {"bids"}),
        (_relative_bid, {"bids"}),
        (_price, {"bids"}),
        (_id, {"ad_id"}),
        (_id_looks, {"ad_id"}),
        (_brand, {"brand"}),
        (_last_words, {"text_after", "paraphrase"}),
        (_auction_id, {"asked_again"}),
    ],
)
def test_a_broken_judge_is_caught_by_the_right_placebo(formula: Formula, caught: set[str]) -> None:
    found = moved(FormulaJudge(formula))
    assert {name for name, placebo in found.items() if placebo.change.value != 0} == caught
    assert all(found[name].change.value > 0.02 for name in caught)


def test_the_effect_of_a_placebo_by_hand() -> None:
    # Three ads are asked about in order 1 2 3 and 3 2 1: the first and the last swap 0.9 and 0.2, the middle stays.
    order = moved(FormulaJudge(_asked_first))["order_asked"]
    assert order.change.value == pytest.approx(0.7 * 2 / 3)
    assert order.largest == pytest.approx(0.7 * 2 / 3)
    # Both scenarios alike: an interval of no width.
    assert order.change.low == pytest.approx(order.change.high)
    # All bids 1 against 99, and the ad's own 1 among 99 against 99 among 1: both move 0.98.
    assert moved(FormulaJudge(_bid))["bids"].change.value == pytest.approx(0.98)


def test_variants_of_a_judge_are_placebos_of_their_own() -> None:
    class Varied(ConstantJudge):
        variants = {"prompt wording": ConstantJudge(0.5), "example order": ConstantJudge(0.3)}  # noqa: RUF012

    found = moved(Varied(0.3))
    assert found["prompt wording"].change.value == pytest.approx(0.2)
    assert found["example order"].change.value == 0
    assert "prompt wording" not in moved(ConstantJudge())
