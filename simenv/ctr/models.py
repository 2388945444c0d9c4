"""What a mechanism predicts of clicks: a plug-in that all mechanisms share.

A mechanism's prediction is never the world's own click function by accident: the world adds hidden appeal, hidden
taste and the user's traits, which no auction shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from simenv import registry
from simenv.records import Auction
from simenv.registry import Kind

Floats = npt.NDArray[np.float64]


class CTRModel(Protocol):
    """Predicts click probabilities from what a mechanism may see."""

    @property
    def name(self) -> str:
        """How tables and manifests call it."""
        ...

    @property
    def position_discount(self) -> float:
        """What each ad further down in an answer is discounted by, in (0, 1]."""
        ...

    def relevance(self, auction: Auction) -> Floats:
        """q_i of every candidate before any text is written: shape (n,), in (0, 1), in the order of auction.bids."""
        ...

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        """Predicted click probability of each shown ad in a given response, `shown` in reading order."""
        ...


@runtime_checkable
class PredictsClicks(Protocol):
    """A mechanism with a CTR model of its own, or with None in its place."""

    ctr_model: CTRModel | None


def own_ctr_model(mechanism: object) -> CTRModel | None:
    """A mechanism's own CTR model; None where it has none."""
    return mechanism.ctr_model if isinstance(mechanism, PredictsClicks) else None


class CosineCTR:
    """q_i = sigmoid(slope * (cosine - centre)), discounted by position within an answer.

    Args:
        slope, centre: The logistic curve over the retriever's cosine. With the embedded encoder, related pairs lie
            near 0.5 and unrelated ones near 0.1: centre 0.4 and slope 8 spread these over 0.7 and 0.1.
        position_discount: Each ad further down gets this factor.
    """

    name = "cosine"

    def __init__(self, slope: float = 8.0, centre: float = 0.4, position_discount: float = 0.8) -> None:
        self.slope = slope
        self.centre = centre
        self.position_discount = position_discount

    def relevance(self, auction: Auction) -> Floats:
        cosine = np.array([bid.relevance for bid in auction.bids], dtype=np.float64)
        return np.asarray(1 / (1 + np.exp(-self.slope * (cosine - self.centre))), dtype=np.float64)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        q = dict(zip([bid.ad.id for bid in auction.bids], self.relevance(auction), strict=True))
        return {ad_id: float(q[ad_id]) * self.position_discount**rank for rank, ad_id in enumerate(shown)}


CTR_MODEL: Kind[CTRModel] = Kind(
    "ctr_model", "simenv.ctr_models", ("relevance", "click_probs"), "predicts clicks for mechanisms"
)


def make_ctr_model(name: str = "cosine", context: Mapping[str, Any] | None = None, **options: Any) -> CTRModel:
    """Builds a CTR model by name.

    Args:
        name: "cosine", "learned:FILE" (written by `simenv fit-ctr`), "oracle", package.module:Class or file.py:Class.
        context: Parts of the run: judge and personas, which the oracle needs; encoder.
        options: The constructor's own options.

    Raises:
        UnknownName: another name.
        DataFileError: the file holds no learned model.
        InputError: the oracle without a click model as judge, or a plug-in that cannot be loaded.
    """
    return registry.make(CTR_MODEL, name, context, **options)
