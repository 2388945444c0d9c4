"""Sampling and judging by workers gives what one process gives, and training goes through it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mechanisms.llm_auction import spread
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.levels import episodes
from mechanisms.llm_auction.models import Models
from mechanisms.llm_auction.reward_model import PCTR
from mechanisms.llm_auction.spread import Spread
from mechanisms.llm_auction.train import LLMAuctionTrainer
from simenv.encoder import default_encoder
from simenv.errors import InputError, UnknownName
from simenv.testing import small_world
from tests.support.pools import FakePool
from tests.support.tiny_training import QUIET, SMALL

pytestmark = pytest.mark.weights


def test_workers_sample_and_judge_as_this_process_does(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died: list[spread.Task] = []

    def dies(task: spread.Task) -> bool:
        died.append(task)
        return len(died) == 2

    pools: list[FakePool] = []

    def pool(*args: Any, **options: Any) -> FakePool:
        pools.append(FakePool(*args, **options, dies=dies))
        return pools[-1]

    monkeypatch.setattr(spread, "RayPool", pool)
    monkeypatch.setattr(spread, "PART", 2)
    config = Config.model_validate({**SMALL, "llm": f"local:{tiny}", "engine": "ray", "workers": 1})
    models = Models(config)
    with torch.no_grad():
        for value in models.policy.trained.values():
            value.add_(0.01)  # the workers' own adapters are new ones
    auctions = episodes(small_world(), 5, 0)
    model = PCTR(default_encoder(), [auctions[0].auction.profile], []).eval()
    with Spread(config, models) as there:
        here = Spread(config.model_copy(update={"engine": "local"}), models)
        assert there.clicks(auctions, config) == here.clicks(auctions, config)
        for source in (models.judge, model):
            groups = here.groups(auctions, source, config, "draw", 1)
            assert there.groups(auctions, source, config, "draw", 1) == groups
            assert len(groups) == len(auctions)
    assert len(died) == 3 * 3 + 1
    assert [(made.started, made.closed) for made in pools] == [(2, True)]


def test_an_engine_that_is_not_there_is_refused(tiny: Path, tmp_path: Path) -> None:
    for options, error, message in (
        ({"engine": "spark"}, UnknownName, "unknown engine 'spark': known are local, ray"),
        ({"workers": 2}, InputError, "the engine local has no workers, got 2"),
    ):
        with pytest.raises(error, match=message):
            LLMAuctionTrainer().train({**SMALL, "llm": f"local:{tiny}", **options}, tmp_path / "out", QUIET)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_training_on_ray_is_that_of_one_process(tiny: Path, tmp_path: Path) -> None:
    """`pytest -m slow tests/mechanisms/llm_auction/test_spread.py`, half a minute."""
    given = {**SMALL, "llm": f"local:{tiny}", "auctions": 40, "epochs": 1}
    LLMAuctionTrainer().train({**given, "engine": "ray", "workers": 2}, tmp_path / "ray", QUIET)
    LLMAuctionTrainer().train(given, tmp_path / "local", QUIET)
    for file in ("adapter_model.safetensors", "curve.csv", "pctr.safetensors"):
        assert (tmp_path / "ray" / file).read_bytes() == (tmp_path / "local" / file).read_bytes()
