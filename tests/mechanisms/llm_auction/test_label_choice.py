"""IRPO on the choice of ads within sampled answers, and the loss that keeps the language near the examples."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from mechanisms.llm_auction import irpo, label_choice, sft
from mechanisms.llm_auction.folder import parse
from mechanisms.llm_auction.irpo import Config, teaches, update
from mechanisms.llm_auction.label_choice import Chosen, LabelChoices, Place, cut
from mechanisms.llm_auction.levels import Drawn, Episode, Group, Pages
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.slim import offer
from mechanisms.llm_auction.written import Written, page
from simenv.encoder import default_encoder
from simenv.errors import InputError
from simenv.judges.click_model import ClickModel
from simenv.objective import Objective
from simenv.records import Persona
from tests.support.auctions import make_auction

pytestmark = pytest.mark.weights

AUCTION = make_auction([90.0, 20.0, 55.0])
ADS = [bid.ad for bid in AUCTION.bids]
EPISODE = Episode(Persona.model_validate({"id": "p", "info": "x", "traits": {}}), AUCTION, offer(AUCTION))


@pytest.fixture(scope="module")
def policy(tiny: Path) -> AdaptedLLM:
    return AdaptedLLM(tiny, r=2)


def test_choices_have_the_probabilities_of_whole_answers(policy: AdaptedLLM) -> None:
    asked = page(AUCTION)
    before = f"Walk. {ADS[1].link} is near. Or take"
    with torch.no_grad():
        ((row, first),) = policy.label_logps([(asked, [before, "Walk."])])
        texts = [before, *(f"{before} {ADS[i].link}" for i in (0, 2)), "Walk.", *(f"Walk. {ad.link}" for ad in ADS)]
        whole = policy.written_logps(asked, [Written(text, ended=False) for text in texts]).tolist()
    labels, opened = row[:-1].tolist(), float(row[-1])
    assert labels[1] == -math.inf  # the text has it already
    assert sum(map(math.exp, labels)) == pytest.approx(1.0)
    assert [labels[i] + opened for i in (0, 2)] == pytest.approx([one - whole[0] for one in whole[1:3]], abs=4e-3)
    assert (first[:-1] + first[-1]).tolist() == pytest.approx([one - whole[3] for one in whole[4:]], abs=4e-3)


def test_examples_do_not_teach_which_ad_to_choose(policy: AdaptedLLM) -> None:
    asked = page(AUCTION)
    text = Written(f"Walk. {ADS[1].link} is near.")
    with torch.no_grad():
        (whole,) = policy.written_logps_of([(asked, [text])])
        (rest,) = policy.written_logps_of([(asked, [text])], choices=False)
        ((row,),) = policy.label_logps([(asked, ["Walk."])])
        taught = sft._logps(policy, [sft.Example("auction", asked, text)])
    assert float(whole - rest) == pytest.approx(float(row[1]), abs=2e-3)
    assert float(taught) == pytest.approx(float(rest), abs=1e-3)


def test_every_candidate_is_a_response_at_places_of_an_answer(
    policy: AdaptedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(policy)
    texts = [Written(f"Or take {ADS[1].link} with you"), Written("Walk to the shop."), Written("Walk")]
    monkeypatch.setattr(pages, "respond", lambda *_, **__: [[Drawn(text, 0.0)] for text in texts])
    level = LabelChoices(pages)
    at_link, at_end, nowhere = level.respond([EPISODE] * 3, 1, "draw")
    assert nowhere == []
    links, ends = [one.response for one in at_link], [one.response for one in at_end]
    assert [one.ad_id for one in links] == [ad.id for ad in ADS]
    assert {one.before for one in links} == {"Or take"}
    assert ends == [Chosen("Walk to the shop.", ad) for ad in (*(ad.id for ad in ADS), None)]
    assert {one.after for one in links} == {""}  # "with you" goes with the ad that was there
    assert sum(math.exp(one.logp) for one in at_link) == pytest.approx(1.0, abs=1e-3)
    assert sum(math.exp(one.logp) for one in at_end) == pytest.approx(1.0, abs=1e-3)
    with torch.no_grad():
        logps = level.logps([(EPISODE, links), (EPISODE, ends), (EPISODE, [*ends, *links])])
    known = [[one.logp for one in drawn] for drawn in (at_link, at_end, [*at_end, *at_link])]
    assert [row.tolist() for row in logps] == [pytest.approx(row, abs=4e-3) for row in known]
    shown = [level.outcome(EPISODE, one) for one in (links[2], ends[3])]
    assert [[p.ad_id for p in one.placements] for one in shown] == [[ADS[2].id], []]
    assert not shown[0].violations
    assert shown[1].response == "Walk to the shop."


def test_a_text_with_all_ads_that_it_may_have_has_no_choice(
    policy: AdaptedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(policy)
    text = Written(" ".join(["Walk.", *(f"{ad.link} is near." for ad in ADS)]))
    monkeypatch.setattr(pages, "respond", lambda *_, **__: [[Drawn(text, 0.0)]])
    monkeypatch.setattr(label_choice, "PLACES", 4)
    (drawn,) = LabelChoices(pages).respond([EPISODE], 1, "draw")
    assert AUCTION.max_ads == 2
    assert {one.response.before for one in drawn} == {"Walk.", f"Walk. {ADS[0].link} is near."}
    assert all(math.isfinite(one.logp) for one in drawn)


def test_users_see_whole_answers_and_every_ad_at_their_places(
    policy: AdaptedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(policy)
    texts = [Written(f"Walk. {ADS[0].link} is near."), Written("Run.")]
    monkeypatch.setattr(pages, "respond", lambda *_, **__: [[Drawn(text, 0.0) for text in texts], []])
    level = LabelChoices(pages)
    seen = level.seen([EPISODE, EPISODE], 2)
    first, second, third = (ad.id for ad in ADS)
    assert [[p.ad_id for p in one.outcome.placements] for one in seen] == [
        *([first], []),  # the two answers
        *([first], [second], [third]),  # behind "Walk."
        *([first, second], [first, third]),  # at the end
    ]
    assert seen[3].outcome.response == f"Walk. {ADS[1].link}: {ADS[1].body}"
    judge = ClickModel(default_encoder())
    rows = irpo.collect_clicks(level, [EPISODE, EPISODE], judge, Config(responses=2))
    assert [row.ad for row in rows] == [first, first, second, third, second, third]  # each ad once at a place


def test_an_answer_is_cut_before_its_links_and_where_its_sentences_end() -> None:
    first, second = f"{ADS[0].link} is near.", f"Try {ADS[2].link} too."
    text = f"Walk. {first} {second} It"
    known = [
        Place("Walk.", False, f"{first} {second} It", f"{second} It"),  # it opened a link: nothing else is known
        Place(f"Walk. {first}", True, f"{second} It", "It"),  # an ad there takes the place of the second
        Place(f"Walk. {first} Try", False, f"{ADS[2].link} too. It", "It"),
        Place(f"Walk. {first} {second}", True, "It", "It"),
    ]
    draws = [cut(EPISODE, Written(text), f"draw {i}") for i in range(40)]
    assert all(len(draw) == 2 and known.index(draw[0]) < known.index(draw[1]) for draw in draws)
    assert {place for draw in draws for place in draw} == set(known)
    assert cut(EPISODE, Written("Walk"), "draw") == []
    assert cut(EPISODE, Written("Walk. Then run. It", ended=False), "draw") == [
        Place("Walk.", True, "Then run.", "Then run."),
        Place("Walk. Then run.", True),
    ]
    assert cut(EPISODE, Written(f" {first}"), "draw") == [Place(f" {first}", True)]  # no link before the first word


def test_an_ad_at_a_place_is_judged_in_the_whole_answer(policy: AdaptedLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = ("Warm boots for wet days.", "Maps of every hill.", "Tea in a steel flask.")
    bids = [
        bid.model_copy(update={"ad": bid.ad.model_copy(update={"body": body})})
        for bid, body in zip(AUCTION.bids, bodies, strict=True)
    ]
    episode = EPISODE._replace(auction=AUCTION.model_copy(update={"bids": tuple(bids)}))
    first, second, third = (f"{bid.ad.link}: {bid.ad.body}" for bid in bids)
    text = f"Walk. Then run. For shops, {second} {first} Rest."
    pages = Pages(policy)
    level = LabelChoices(pages)
    monkeypatch.setattr(pages, "respond", lambda *_, **__: [[Drawn(Written(text), 0.0)]])
    monkeypatch.setattr(label_choice, "PLACES", 9)
    (drawn,) = level.respond([episode], 1, "draw")

    def shown(before: str) -> list[str]:
        at_place = [one.response for one in drawn if one.response.before == before]
        return [level.outcome(episode, response).response for response in at_place]

    assert shown("Walk.") == [
        f"Walk. {first} Then run. Rest.",  # in place of the next ad, and not again where it stood
        f"Walk. {second} Then run. {first} Rest.",
        f"Walk. {third} Then run. {first} Rest.",
        text,  # no ad there, but later, in other words
    ]
    assert shown("Walk. Then run. For shops,") == [
        f"Walk. Then run. For shops, {first} Rest.",
        text,
        f"Walk. Then run. For shops, {third} {first} Rest.",
    ]
    assert shown(f"Walk. Then run. For shops, {second}") == [
        text,
        f"Walk. Then run. For shops, {second} {third} Rest.",
    ]  # the answer opened a link there: it says nothing of those without one


def test_with_ads_at_the_end_an_answer_is_cut_behind_its_other_sentences() -> None:
    text = f"Walk. {ADS[0].link} is near. Then run. It"
    ad = f"{ADS[0].link} is near."
    moved = f"Walk. Then run. It {ad}"
    draws = [cut(EPISODE, Written(text), f"draw {i}", ads_at_end=True) for i in range(20)]
    places = {place for draw in draws for place in draw}
    assert places == {Place("Walk. Then run. It", False, ad), Place(moved, True)}
    assert cut(EPISODE, Written("Walk. Run."), "draw", ads_at_end=True) == [Place("Walk. Run.", optional=True)]


def test_with_ads_at_the_end_users_see_ads_there_alone(policy: AdaptedLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = Pages(policy, ads_at_end=True)
    text = Written(f"Walk. {ADS[0].link} is near. Run.")
    monkeypatch.setattr(pages, "respond", lambda *_, **__: [[Drawn(text, 0.0)]])
    seen = LabelChoices(pages).seen([EPISODE], 1)
    assert len(seen) == 1 + 3 + 2  # the answer; behind "Walk. Run."; behind the ad there
    assert all(one.outcome.response.startswith("Walk. Run. @") for one in seen)


def test_whether_an_ad_is_shown_has_the_mean_reward_of_the_ads(policy: AdaptedLLM) -> None:
    level = LabelChoices(Pages(policy))
    walk = [Chosen("Walk.", ad) for ad in (ADS[0].id, ADS[1].id, None)]
    probs = [0.3, 0.1, 0.6]
    other = [Chosen("Or take", ad.id) for ad in ADS]
    group = Group([*walk, *other], [*map(math.log, probs), *[math.log(1 / 3)] * 3], [20.0, 4.0, 0.0, 1.0, 2.0, 3.0])
    logps = torch.tensor([*map(math.log, (0.1, 0.1, 0.8)), *map(math.log, (0.5, 0.25, 0.25))])
    (which, one), (whether, two), (elsewhere, three) = level.choices(logps, group)
    assert which.exp().tolist() == pytest.approx([0.5, 0.5])
    assert [math.exp(ref) for ref in one.ref_logps] == pytest.approx([0.75, 0.25])
    assert one.rewards == [20.0, 4.0]
    assert whether.exp().tolist() == pytest.approx([0.2, 0.8])
    assert [math.exp(ref) for ref in two.ref_logps] == pytest.approx([0.4, 0.6])
    assert two.rewards == pytest.approx([0.75 * 20 + 0.25 * 4, 0.0])
    assert elsewhere.exp().tolist() == pytest.approx([0.5, 0.25, 0.25])
    assert three.rewards == [1.0, 2.0, 3.0]


def test_the_number_of_places_does_not_change_the_weight_of_the_anchor(policy: AdaptedLLM) -> None:
    level = LabelChoices(Pages(policy))
    one = Group([Chosen("Walk.", ad) for ad in (ADS[0].id, ADS[1].id, None)], [-1.0, -2.0, -0.8], [20.0, 4.0, 0.0])
    two = Group([*one.responses, *(Chosen("Run.", r.ad_id) for r in one.responses)], one.ref_logps * 2, one.rewards * 2)
    logps = torch.tensor([-2.0, -1.5, -0.5])
    losses = [irpo._loss_of_all(level, logps.repeat(n), group, Config()) for n, group in ((1, one), (2, two))]
    assert float(losses[1]) == pytest.approx(float(losses[0]))
    assert float(losses[0]) > 0


def test_an_ad_costs_the_platform_something_where_none_belongs(policy: AdaptedLLM) -> None:
    level, judge, objective = LabelChoices(Pages(policy)), ClickModel(default_encoder()), Objective()
    responses = [Chosen("Walk.", ad) for ad in (ADS[0].id, None)]
    both = [(EPISODE, responses), (EPISODE._replace(plain=True), responses)]
    usual, plain = irpo.rewards(level, judge, both, objective, 20.0)
    assert [one - other for one, other in zip(usual, plain, strict=True)] == pytest.approx([20.0, 0.0])
    assert usual[0] > usual[1] == 0


def test_an_ad_that_does_not_pay_is_shown_less_often(tiny: Path) -> None:
    policy = AdaptedLLM(tiny, r=4)
    level = LabelChoices(Pages(policy))
    responses = [Chosen("Walk.", ad) for ad in (*(ad.id for ad in ADS), None)]
    config = Config(learning_rate=0.05, kl_weight=5.0, warmup=0.0)
    for worth, sign in ((20.0, 1), (-60.0, -1)):
        with torch.no_grad():
            (before,) = level.logps([(EPISODE, responses)])
        group = Group(responses, before.tolist(), [worth, worth, worth, 0.0])
        optimizer = torch.optim.AdamW(policy.trained.values())
        for step in range(6):
            update(level, optimizer, [(EPISODE, group)], config, step)
        with torch.no_grad():
            (after,) = level.logps([(EPISODE, responses)])
        shown = [float(row[:-1].exp().sum()) for row in (before, after)]
        assert (shown[1] - shown[0]) * sign > 0


def test_updates_raise_the_choice_with_the_reward_and_the_anchor_keeps_the_examples(tiny: Path) -> None:
    policy = AdaptedLLM(tiny, r=4)
    level = LabelChoices(Pages(policy))
    responses = [Chosen("Walk.", ad.id) for ad in ADS]
    config = Config(level="written", sft_auctions=4, learning_rate=0.05, anchor=1.0, kl_weight=5.0, warmup=0.0)
    example = sft.Example("plain", page(AUCTION), Written("Walk to the shop."))
    with torch.no_grad():
        (before,) = level.logps([(EPISODE, responses)])
        kept = policy.written_logps(example.asked, [example.text])
        loss = sft.anchor(policy, [example], config, 0)
    assert float(loss) == pytest.approx(-float(kept[0]), abs=1e-2)
    group = Group(responses, before.tolist(), [0.0, 0.0, 20.0])
    optimizer = torch.optim.AdamW(policy.trained.values())
    for step in range(8):
        update(level, optimizer, [(EPISODE, group)], config, step, lambda: sft.anchor(policy, [example], config, 0))
    with torch.no_grad():
        (after,) = level.logps([(EPISODE, responses)])
        assert float(policy.written_logps(example.asked, [example.text])[0]) > float(kept[0])
    assert float(after[2]) > float(before[2]) + 0.5


def test_an_update_with_gradients_that_are_not_finite_is_left_out(tiny: Path) -> None:
    policy = AdaptedLLM(tiny, r=4)
    level = LabelChoices(Pages(policy))
    responses = [Chosen("Walk.", ad.id) for ad in ADS]
    with torch.no_grad():
        (logps,) = level.logps([(EPISODE, responses)])
    before = {name: value.detach().clone() for name, value in policy.trained.items()}
    optimizer = torch.optim.AdamW(policy.trained.values())
    group = Group(responses, logps.tolist(), [0.0, math.nan, 20.0])
    assert math.isnan(update(level, optimizer, [(EPISODE, group)], Config(), 0) or 0.0)
    assert all(torch.equal(value, before[name]) for name, value in policy.trained.items())


@pytest.mark.parametrize("loss", ["regression", "dpo"])
def test_an_auction_without_two_responses_teaches_nothing(loss: str) -> None:
    config = Config(loss=loss)  # type: ignore[arg-type]
    assert not teaches(Group([], [], []), config)
    assert not teaches(Group(["Walk."], [-1.0], [5.0]), config)
    assert teaches(Group(["Walk.", "Run."], [-1.0, -1.0], [5.0, 50.0]), config)


def test_options_of_the_stage_are_checked() -> None:
    with pytest.raises(InputError, match=r"stages: one for each epoch at most \(2\), got 3"):
        parse(Config, {"level": "written", "sft_auctions": 5, "epochs": 2, "stages": ["labels"] * 3})
    with pytest.raises(InputError, match="stages answers, sentences need anchor, for instance"):
        parse(Config, {"level": "written", "sft_auctions": 5, "epochs": 2, "stages": ["answers", "sentences"]})
    with pytest.raises(InputError, match=r"stages\.0: Input should be 'labels', 'sentences' or 'answers'"):
        parse(Config, {"level": "written", "sft_auctions": 5, "stages": ["words"]})
    with pytest.raises(InputError, match="stages: only for level written, got level links"):
        parse(Config, {"stages": ["answers"]})
    with pytest.raises(InputError, match="plain_ad_cost needs questions without commercial intent"):
        parse(Config, {"level": "written", "sft_auctions": 5, "plain_ad_cost": 20})
    with pytest.raises(InputError, match="anchor needs examples"):
        parse(Config, {"level": "written", "llm": "local:x", "anchor": 0.1})
