"""Options of a training that takes a second on the tiny model, and a console that prints nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from mechanisms.llm_auction.policy import AdaptedLLM

SMALL: dict[str, Any] = {
    "epochs": 2,
    "auctions": 6,
    "clicked_auctions": 4,
    "validation": 3,
    "responses": 3,
    "candidates": [3],
    "batch": 2,
    "save_every": 1,
    "learning_rate": 0.05,
    "r": 2,
    "blocks": [],
    "pctr_steps": 20,
    "threads": 1,
}
QUIET = Console(quiet=True)


def shaken(path: Path) -> AdaptedLLM:
    """A policy with an adapter that does something."""
    policy = AdaptedLLM(path, r=2)
    policy._model.float()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.trained.values():
            parameter.add_(torch.randn(parameter.shape, generator=generator).mul(0.2))
    return policy
