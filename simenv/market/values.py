"""Advertisers' private values per click. Draws are keyed by auction and ad: all mechanisms see equal values."""

from __future__ import annotations

import math
from typing import Any, Protocol

from simenv import registry
from simenv.errors import InputError
from simenv.records import Ad
from simenv.registry import Kind
from simenv.seeding import keyed_rng

HIGHEST = 100
"""Bids and values are integers in 1..100, currency per click (LLM-Auction, section 5.1)."""


class ValueDistribution(Protocol):
    """Draws an advertiser's value per click."""

    name: str

    def value(self, auction_id: str, ad: Ad) -> float:
        """Returns currency per click, at least 0 and finite. Equal arguments must give equal values: draw from
        `keyed_rng("my distribution", auction_id, ad.id)`."""
        ...


class UniformValues:
    """Uniform integers in 1..100 (LLM-Auction, section 5.1)."""

    name = "uniform"

    def value(self, auction_id: str, ad: Ad) -> float:
        return float(keyed_rng("value", auction_id, ad.id).integers(1, HIGHEST + 1))


class LogNormalValues:
    """Log-normal values, cut at 100: most are low and a few are high, as in sponsored search.

    The log-normal distribution is common for click values in simulations of sponsored search (Lahaie and Pennock 2007,
    "Revenue analysis of a family of ranking rules for keyword auctions").

    Args:
        median: Currency per click, above 0.
        sigma: Standard deviation of the logarithm, at least 0.

    Raises:
        InputError: a number out of range.
    """

    def __init__(self, median: float = 30.0, sigma: float = 0.8) -> None:
        if not 0 < median < math.inf or not 0 <= sigma < math.inf:
            raise InputError(f"log-normal values need a median above 0 and a sigma >= 0, got {median} and {sigma}")
        self.name = f"lognormal:{median:g},{sigma:g}"
        self._median = median
        self._sigma = sigma

    def value(self, auction_id: str, ad: Ad) -> float:
        deviation = keyed_rng("log-normal value", auction_id, ad.id).normal()
        return float(min(HIGHEST, self._median * math.exp(self._sigma * deviation)))


VALUES: Kind[ValueDistribution] = Kind(
    "values", "simenv.values", ("value",), "draws an advertiser's private value per click"
)


def make_values(name: str = "uniform", **options: Any) -> ValueDistribution:
    """Builds a value distribution by name: "uniform", "lognormal", package.module:Class or file.py:Class.

    Raises:
        UnknownName: no distribution has this name.
        InputError: it cannot be loaded, or an option is wrong.
    """
    return registry.make(VALUES, name, **options)
