"""What can be switched off in a training, and that a training of before the switches goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mechanisms.llm_auction import spread as module
from mechanisms.llm_auction.irpo import Config, loss_of, sample_groups, teaches
from mechanisms.llm_auction.levels import Episode, Group
from mechanisms.llm_auction.reward_model import FILE, PredictedCTR, load
from mechanisms.llm_auction.slim import offer
from mechanisms.llm_auction.train import LLMAuctionTrainer, Training
from simenv import make_mechanism
from simenv.encoder import default_encoder
from simenv.errors import DataFileError, InputError
from simenv.llm.local import LocalLLM
from tests.support.auctions import make_auction
from tests.support.tiny_training import QUIET, SMALL

pytestmark = pytest.mark.weights

Sampled = list[tuple[list[Episode], list[Group]]]


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch) -> Sampled:
    """What every phase 2 of the trainings to come learns from."""
    seen: Sampled = []

    def record(level: Any, auctions: list[Episode], *rest: Any) -> list[Group]:
        seen.append((list(auctions), sample_groups(level, auctions, *rest)))
        return seen[-1][1]

    monkeypatch.setattr(module, "sample_groups", record)
    return seen


def run(tiny: Path, out: Path, **options: Any) -> None:
    LLMAuctionTrainer().train({**SMALL, "llm": f"local:{tiny}", "reward": "oracle", **options}, out, QUIET)


def test_the_places_of_an_offer_can_go_beyond_the_ads_that_are_free() -> None:
    auction = make_auction([50.0, 20.0, 10.0], max_ads=1)
    assert max(map(len, offer(auction).choices())) == 1
    assert max(map(len, offer(auction, places=2).choices())) == 2


def test_sft_is_the_cross_entropy_of_the_best_response() -> None:
    config = Config(loss="sft")
    group = Group([(0,), (1,), ()], [-1.0, -1.0, -1.0], [3.0, 9.0, 0.0])
    assert float(loss_of(torch.tensor([-0.5, -2.0, -3.0]), group, config)) == 2.0
    assert teaches(group, config)


@pytest.mark.parametrize("fresh", [True, False])
def test_bids_are_fresh_in_every_epoch_or_fixed(tiny: Path, tmp_path: Path, sampled: Sampled, fresh: bool) -> None:
    run(tiny, tmp_path / "out", fresh_bids=fresh)
    (first, groups), (second, later) = sampled
    bids = [[e.auction.bids for e in auctions] for auctions in (first, second)]
    assert (bids[0] == bids[1]) is not fresh
    assert [group.responses for group in groups] != [group.responses for group in later]  # drawn again


@pytest.mark.parametrize("penalty", [True, False])
def test_without_the_penalty_a_further_ad_costs_nothing(
    tiny: Path, tmp_path: Path, sampled: Sampled, penalty: bool
) -> None:
    run(tiny, tmp_path / "out", epochs=1, max_ads=0, penalty=penalty)
    ((_, groups),) = sampled
    pairs = [r for group in groups for c, r in zip(group.responses, group.rewards, strict=True) if len(c) == 2]
    assert pairs
    # Two ads beyond those free cost 100; two bids of at most 100 earn no more than 200 x the click probability.
    assert all((reward < 0) is penalty for reward in pairs if reward < 90)
    assert all(min(group.rewards) >= 0 for group in groups) is not penalty


def test_a_warm_start_makes_the_best_responses_likelier(tiny: Path, tmp_path: Path, sampled: Sampled) -> None:
    training = Training(
        Config.model_validate({**SMALL, "llm": f"local:{tiny}", "reward": "oracle", "warm_start": 6}),
        tmp_path / "out",
        QUIET,
    )
    training.out.mkdir()
    training._updates(0, training.judge, training.config.model_copy(update={"loss": "sft", "auctions": 12}))
    ((auctions, groups),) = sampled
    gains = []
    for episode, group in zip(auctions, groups, strict=True):
        best = group.rewards.index(max(group.rewards))
        (logps,) = training.level.logps([(episode, [group.responses[best]])])
        gains.append(float(logps[0].detach()) - group.ref_logps[best])
    assert sum(gains) > 0


def test_a_warm_start_comes_once_and_before_the_first_epoch(tiny: Path, tmp_path: Path, sampled: Sampled) -> None:
    run(tiny, tmp_path / "out", warm_start=2)
    assert [len(auctions) for auctions, _ in sampled] == [2 * SMALL["batch"], SMALL["auctions"], SMALL["auctions"]]
    warm, *epochs = ({e.auction.id for e in auctions} for auctions, _ in sampled)
    assert all(warm.isdisjoint(epoch) for epoch in epochs)


@pytest.mark.parametrize("score", [True, False])
def test_the_retrievers_score_is_shown_or_not(tiny: Path, tmp_path: Path, sampled: Sampled, score: bool) -> None:
    run(tiny, tmp_path / "out", epochs=1, show_score=score)
    ((auctions, _),) = sampled
    assert all(e.offer.prompt == offer(e.auction, show_score=score).prompt for e in auctions)


def test_the_digit_is_the_prediction_of_the_epochs_reward_model(tiny: Path, tmp_path: Path, sampled: Sampled) -> None:
    run(tiny, tmp_path / "out", reward="pctr", score="pctr", auctions=2, epochs=1)
    ctr = PredictedCTR(load(tmp_path / "out" / "epochs" / "1", default_encoder()))
    ((auctions, _),) = sampled
    assert [e.offer.prompt for e in auctions] == [offer(e.auction, score="pctr", ctr=ctr).prompt for e in auctions]
    assert not (tmp_path / "out" / "epochs" / "0" / FILE).exists()
    context = {"llm": LocalLLM(tiny, name="tiny", follows_formats=False)}
    adapter = tmp_path / "out" / "epochs" / "1"
    mechanism: Any = make_mechanism("llm_auction", context=context, adapter=adapter, score="pctr")
    auction = make_auction([50.0])
    assert mechanism.offer(auction).prompt == offer(auction, score="pctr", ctr=ctr).prompt
    with pytest.raises(InputError, match='training options: score "pctr" needs a reward model'):
        run(tiny, tmp_path / "other", score="pctr")


def test_clicks_of_an_older_version_are_not_read(tiny: Path, tmp_path: Path) -> None:
    config = Config.model_validate({**SMALL, "llm": f"local:{tiny}"})
    training = Training(config, tmp_path, QUIET)
    training.state["log"] = [("user", "ad", "query", "sentence", (), 0, 1.0)]
    training._save()
    with pytest.raises(DataFileError, match=r"logged by another version of simenv, .* \(train into a new folder\)"):
        Training(config, tmp_path, QUIET)


def test_a_state_of_before_these_options_goes_on(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tiny, tmp_path / "whole", epochs=1)
    save, saved = Training._save, 0

    def dying(self: Training) -> None:
        nonlocal saved
        save(self)
        saved += 1
        if saved == 3:  # amid the epoch
            raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_save", dying)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "cut", epochs=1)
    monkeypatch.undo()
    state = torch.load(tmp_path / "cut" / "state.pt", weights_only=True)
    config = json.loads(state["config"])
    for name in ("warm_start", "fresh_bids", "penalty", "max_ads", "show_score", "score"):
        del config[name]
    del state["warmed"]
    torch.save(state | {"config": json.dumps(config)}, tmp_path / "cut" / "state.pt")
    run(tiny, tmp_path / "cut", epochs=1)
    for name in ("adapter_model.safetensors", "curve.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.slow
@pytest.mark.parametrize("judge", ["embedded", "llm"])
def test_a_judge_of_language_models_clicks_as_the_click_model_does(tiny: Path, tmp_path: Path, judge: str) -> None:
    few = {"auctions": 2, "samples": 2, "validation": 1, "candidates": [2], "epochs": 1}
    run(tiny, tmp_path / "out", judge=judge, **few)
    rows = (tmp_path / "out" / "curve.csv").read_text().splitlines()
    assert len(rows) == 3
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["judge"] == {"embedded": "embedded", "llm": "llm:embedded"}[judge]
