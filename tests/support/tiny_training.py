"""Options of a training that takes a second on the tiny model, and a console that prints nothing."""

from __future__ import annotations

from typing import Any

from rich.console import Console

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
