"""What the measurements of the written format share: the held-out auctions, and the parts of a training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from mechanisms.llm_auction import intent, lora, reward_model
from mechanisms.llm_auction.adapter_files import read_adapter
from mechanisms.llm_auction.irpo import Config
from mechanisms.llm_auction.levels import Episode, episodes
from mechanisms.llm_auction.part_auctions import part_world
from mechanisms.llm_auction.policy import AdaptedLLM
from mechanisms.llm_auction.reward_model import PredictedCTR
from mechanisms.llm_auction.slim import Score
from simenv.encoder import default_encoder
from simenv.records import Auction
from simenv.users.queries import FileQueries

BEST = 64
"""Answers among which the judge's clicks find the best one."""
BIDS = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
UNCOMMERCIAL = 50
"""Auctions of questions without commercial intent."""
SWEPT = 24
"""Auctions of the sweep over bids."""


class Cell(NamedTuple):
    """Auctions with the same number of candidates and the same seed; seed -1: questions without commercial intent."""

    n: int
    seed: int

    def episodes(self, config: Config, count: int) -> list[Episode]:
        """The first `count` auctions of the test part."""
        queries = FileQueries("no_commercial_intent") if self.seed < 0 else None
        world = part_world("test", config, self.n, queries=queries)
        return episodes(world, count, 90_000 + abs(self.seed))


QUIET = Cell(8, -1)
"""Questions without commercial intent."""
SWEEP = Cell(8, 0)
"""Where bids are swept."""


def config_of(training: Path) -> Config:
    """The options of a training."""
    return Config.model_validate(json.loads((training / "manifest.json").read_text())["config"])


def epochs_of(training: Path) -> list[Path]:
    """The adapters of all epochs: untrained, fine-tuned, and each epoch of IRPO."""
    return sorted((training / "epochs").iterdir(), key=lambda folder: int(folder.name))


def pctr_of(training: Path) -> PredictedCTR:
    """The last epoch's reward model, which all rows of the table use."""
    return PredictedCTR(reward_model.load(epochs_of(training)[-1], default_encoder()))


def refuses_of(training: Path) -> Callable[[Auction], bool]:
    """Whether the mechanism offers no ads to a question, because it has no commercial intent."""
    known = intent.load(training, default_encoder())
    return lambda auction: known is not None and known.probability(auction.query.text) < intent.LEAST


def score_of(config: Config) -> Score:
    """What the digits of prompts with bids are: the pCTR's predictions, or eCPM."""
    return "ecpm" if config.score == "ecpm" else "pctr"


def load(policy: AdaptedLLM, folder: Path | None) -> None:
    """Gives the policy the adapter of a folder; None: factors of 0, which leave the base model as it is."""
    if folder is None:
        lora.assign(policy.trained, {name: torch.zeros_like(value) for name, value in policy.trained.items()})
    else:
        factors = read_adapter(folder).factors
        lora.assign(policy.trained, {name: torch.from_numpy(value) for name, value in factors.items()})


def rebid(auction: Auction, amount: float) -> Auction:
    """The auction with another bid of its most relevant ad."""
    best = max(range(len(auction.bids)), key=lambda i: auction.bids[i].relevance)
    bids = [b.model_copy(update={"amount": float(amount)}) if i == best else b for i, b in enumerate(auction.bids)]
    return auction.model_copy(update={"bids": tuple(bids)})
