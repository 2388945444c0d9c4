"""Myerson: the auction with the largest expected revenue, given the prior distribution of values.

Source: Myerson (1981), "Optimal auction design": maximise the sum of virtual values

    phi(v) = v - (1 - F(v)) / f(v)

and charge each winner the lowest bid that would have won. Advertisers with a virtual value below 0 are excluded, so
each advertiser has its own reserve, phi^(-1)(0). With several slots the payment is that of position VCG, with virtual
values in place of bids (Edelman and Schwarz 2010, "Optimal auction design and equilibrium selection in sponsored search
auctions").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from simenv.ctr.models import CTRModel
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.records import Auction, Bid

from .ranking import Ranked
from .vcg import VCG


class Prior(Protocol):
    """The prior distribution of an advertiser's value per click. It must be regular: `virtual` is increasing."""

    def virtual(self, value: float) -> float:
        """phi(v), in currency per click."""
        ...

    def inverse(self, virtual: float) -> float:
        """The lowest value in the distribution's range whose virtual value is at least `virtual`."""
        ...


class Uniform(NamedTuple):
    """Uniform on [low, high]. On the integers low..high the virtual values are the same: (1 - F) / f = high - v."""

    low: float
    high: float

    def virtual(self, value: float) -> float:
        return 2 * value - self.high

    def inverse(self, virtual: float) -> float:
        return max(self.low, (virtual + self.high) / 2)


class Exponential(NamedTuple):
    """Exponential with the given mean."""

    mean: float

    def virtual(self, value: float) -> float:
        return value - self.mean

    def inverse(self, virtual: float) -> float:
        return max(0.0, virtual + self.mean)


def read_prior(text: str) -> Prior:
    """Parses "uniform:LOW:HIGH" or "exponential:MEAN", in currency per click.

    Raises:
        InputError: the text has neither form, or a number is out of range.
    """
    kind, *rest = str(text).split(":")
    try:
        numbers = [float(part) for part in rest]
    except ValueError:
        numbers = []
    if kind == "uniform" and len(numbers) == 2 and 0 <= numbers[0] < numbers[1] < math.inf:
        return Uniform(*numbers)
    if kind == "exponential" and len(numbers) == 1 and 0 < numbers[0] < math.inf:
        return Exponential(*numbers)
    raise InputError(f"cannot read the prior {text!r}: expected uniform:LOW:HIGH with LOW < HIGH, or exponential:MEAN")


class Myerson(VCG):
    """Myerson's revenue-optimal auction: ranks by virtual value x predicted CTR, pays the critical bid per click.

    Bids phi_i(b_i) q_i at or above their reserve are ranked. The payment is that of VCG, with scores mapped back by
    phi^(-1). DSIC for utility maximisers, individually rational and monotone like VCG, for any true distribution of
    values; revenue optimal if values are drawn from the prior. An ad's reserve is the larger of the auction's and the
    advertiser's own.

    Args:
        llm, ctr_model, slots, writer: See `RankingAuction`.
        prior: Distribution of values: "uniform:LOW:HIGH" or "exponential:MEAN"; by default that of simenv's world.
        priors: Ad id -> prior of this advertiser, in place of `prior`.

    Raises:
        InputError: a prior has neither form.
    """

    name = "myerson"

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        slots: int | None = None,
        prior: str = "uniform:1:100",
        priors: Mapping[str, str] | None = None,
        writer: str = "plain",
    ) -> None:
        super().__init__(llm, ctr_model, slots, writer)
        self.prior = read_prior(prior)
        self.priors = {ad_id: read_prior(text) for ad_id, text in (priors or {}).items()}

    def score(self, bid: Bid, q: float) -> float:
        return self._prior(bid).virtual(bid.amount) * q

    def reserve(self, auction: Auction, bid: Bid, q: float) -> float:
        return max(auction.reserve, self._prior(bid).inverse(0.0))

    def bid_to_beat(self, winner: Ranked, score: float) -> float:
        return self._prior(winner.bid).inverse(score / winner.q)

    def _prior(self, bid: Bid) -> Prior:
        return self.priors.get(bid.ad.id, self.prior)
