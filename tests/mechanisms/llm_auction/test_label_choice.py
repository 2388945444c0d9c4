"""IRPO on the choice of ads within sampled answers, and the loss that keeps the language near the examples."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from mechanisms.llm_auction import sft
from mechanisms.llm_auction.folder import parse
from mechanisms.llm_auction.irpo import Config, Group, teaches, update
from mechanisms.llm_auction.label_choice import Chosen, LabelChoices, cut
from mechanisms.llm_auction.levels import Drawn, Episode, Pages
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.slim import offer
from mechanisms.llm_auction.written import Written, page
from simenv.errors import InputError
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
        (row,) = policy.label_logps([(asked, before)])
        whole = policy.written_logps(asked, [Written(f"{before} {ADS[i].link}", ended=False) for i in (0, 2)])
    assert row[1] == -torch.inf  # the text has it already
    assert float(row.exp().sum()) == pytest.approx(1.0)
    assert float(row[0] - row[2]) == pytest.approx(float(whole[0] - whole[1]), abs=2e-3)


def test_examples_do_not_teach_which_ad_to_choose(policy: AdaptedLLM) -> None:
    asked = page(AUCTION)
    text = Written(f"Walk. {ADS[1].link} is near.")
    with torch.no_grad():
        (whole,) = policy.written_logps_of([(asked, [text])])
        (rest,) = policy.written_logps_of([(asked, [text])], choices=False)
        (row,) = policy.label_logps([(asked, "Walk.")])
        taught = sft._logps(policy, [sft.Example("auction", asked, text)])
    assert float(whole - rest) == pytest.approx(float(row[1]), abs=2e-3)
    assert float(taught) == pytest.approx(float(rest), abs=1e-3)


def test_every_candidate_is_a_response_at_one_place_of_an_answer(
    policy: AdaptedLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(policy)
    texts = [Written(f"Walk. {ADS[1].link} is near."), Written("Walk to the shop.")]
    monkeypatch.setattr(pages, "respond", lambda *_, **__: [[Drawn(text, 0.0)] for text in texts])
    level = LabelChoices(pages)
    drawn, none = level.respond([EPISODE, EPISODE], 1, "draw")
    assert none == []  # an answer without a link has no such place
    responses = [one.response for one in drawn]
    assert responses == [Chosen("Walk.", ad.id) for ad in ADS]
    with torch.no_grad():
        (logps,) = level.logps([(EPISODE, responses)])
    assert logps.tolist() == pytest.approx([one.logp for one in drawn], abs=2e-3)
    shown = level.outcome(EPISODE, Chosen("Walk.", ADS[2].id))
    assert [p.ad_id for p in shown.placements] == [ADS[2].id]
    assert not shown.violations


def test_an_answer_is_cut_before_one_of_its_links() -> None:
    text = f"Walk. {ADS[0].link} is near. Try {ADS[2].link} too."
    found = {cut(EPISODE, Written(text), f"draw {i}") for i in range(20)}
    assert found == {"Walk.", f"Walk. {ADS[0].link} is near. Try"}
    assert cut(EPISODE, Written("Walk. "), "draw") is None


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
    with pytest.raises(InputError, match="label_epochs is at most epochs \\(2\\), got 3"):
        parse(Config, {"level": "written", "sft_auctions": 5, "epochs": 2, "label_epochs": 3})
    with pytest.raises(InputError, match="label_epochs needs anchor, for instance"):
        parse(Config, {"level": "written", "sft_auctions": 5, "epochs": 2, "label_epochs": 1})
    with pytest.raises(InputError, match="anchor needs examples"):
        parse(Config, {"level": "written", "llm": "local:x", "anchor": 0.1})
