"""Which numbers of a world are fitted, on which scale, and how far from the prior's centre they may be.

Log-odds are fitted as they are, positive numbers by their logarithm, and shares by their log-odds. The prior is normal
on that scale, with its centre at the world that the fit begins with. All other numbers stay as they are in that world:
the ends of ramps are scales of the encoder, and what readers notice does not show in clicks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, NamedTuple

from simenv.judges.click_worlds import ClickParams

Scale = Literal["as it is", "log", "log-odds"]


class Free(NamedTuple):
    """One number that is fitted."""

    name: str
    scale: Scale
    spread: float
    """Standard deviation of the prior, on the scale."""
    centre: float
    """Centre of the prior, on the scale."""

    def value(self, theta: float) -> float:
        """The number at a point of the scale."""
        if self.scale == "log":
            return math.exp(theta)
        return 1 / (1 + math.exp(-theta)) if self.scale == "log-odds" else theta

    def slope(self, theta: float) -> float:
        """Derivative of the number at a point of the scale."""
        value = self.value(theta)
        return {"log": value, "log-odds": value * (1 - value), "as it is": 1.0}[self.scale]


_FREE: Mapping[str, tuple[Scale, float]] = {
    "attraction.base": ("as it is", 2.0),
    "attraction.relevance": ("log", 1.0),
    "attraction.affinity": ("log", 1.0),
    "attraction.tolerance": ("log", 1.0),
    "attraction.price": ("log", 1.0),
    "attraction.price_slope": ("log", 0.7),
    "attraction.amount_weight": ("log", 0.7),
    "examination.rank_discount": ("log-odds", 1.5),
    "examination.depth_loss": ("log", 1.0),
    "nativeness.floor": ("log-odds", 1.5),
    "nativeness.hard_sell": ("log-odds", 1.5),
    "nativeness.shouting": ("log-odds", 1.5),
    "flooding.rate": ("log", 1.0),
    "readers.persuasion": ("as it is", 1.0),
    "readers.noticed": ("as it is", 1.0),
    "fatigue.repeated": ("as it is", 1.0),
    "fatigue.earlier": ("as it is", 1.0),
}
APPEAL = "attraction.appeal"
"""Fitted too: the spread of the ads' own log-odds."""
APPEAL_SPREAD = 1.0
"""Standard deviation of its prior, on the log scale."""
_WHY_HELD = {
    "attraction.relevance_centre": "any other value is another base",
    "attraction.relevance_scale": "any other value is another relevance",
    "attraction.affinity_spread": "no persona's own draws are fitted",
    "flooding.free_ads": "a whole number",
    "readers.notice": "who notices an ad does not show in clicks",
    "readers.notice_label": "who notices an ad does not show in clicks",
    "readers.notice_persuasion": "who notices an ad does not show in clicks",
}
_RAMP = "an end of a ramp: a scale of the encoder"


def free_numbers(prior: ClickParams) -> list[Free]:
    """The numbers that are fitted. One at the edge of its scale (0 of a logarithm, 0 or 1 of a share) is held."""
    free = []
    for name, value in prior.numbers().items():
        if name in _FREE and (centre := _on_scale(value, _FREE[name][0])) is not None:
            free.append(Free(name, *_FREE[name], centre))
    return free


def held_numbers(prior: ClickParams) -> dict[str, str]:
    """Number that is not fitted -> why."""
    free = {it.name for it in free_numbers(prior)} | {APPEAL}
    return {
        name: f"{value:g} is the edge of its scale" if name in _FREE else _WHY_HELD.get(name, _RAMP)
        for name, value in prior.numbers().items()
        if name not in free
    }


def _on_scale(value: float, scale: Scale) -> float | None:
    if scale == "log":
        return math.log(value) if value > 0 else None
    if scale == "log-odds":
        return math.log(value / (1 - value)) if 0 < value < 1 else None
    return value
