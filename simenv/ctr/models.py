"""CTR models, which predict clicks for mechanisms. Mechanisms share this plug-in.

A prediction differs from the world's click function, because that also depends on hidden appeal, hidden taste and the
user's traits, which the auction does not contain.
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
        """Name in tables and manifests."""
        ...

    @property
    def position_discount(self) -> float:
        """Factor on clicks per position further down in an answer, in (0, 1]."""
        ...

    def relevance(self, auction: Auction) -> Floats:
        """Predicts q_i of every candidate before any text is written: shape (n,), in (0, 1), as auction.bids."""
        ...

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        """Predicts the click probability of each shown ad in a given response; `shown` is in reading order."""
        ...


@runtime_checkable
class PredictsClicks(Protocol):
    """A mechanism with its own CTR model, which may be None."""

    ctr_model: CTRModel | None


def own_ctr_model(mechanism: object) -> CTRModel | None:
    """Returns the mechanism's own CTR model, or None."""
    return mechanism.ctr_model if isinstance(mechanism, PredictsClicks) else None


class CosineCTR:
    """Logistic function of the cosine of query and ad, discounted by position: q_i = sigmoid(slope (cosine - centre)).

    Args:
        slope, centre: The logistic curve over the retriever's cosine. With the embedded encoder, related pairs lie
            near 0.5 and unrelated ones near 0.1: centre 0.4 and slope 8 spread these over 0.7 and 0.1.
        position_discount: Factor per position further down.
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
        name: "cosine", "learned:FILE" (written by `simenv fit-ctr`), "evaluator:FILE" (`simenv fit-evaluator`),
            "oracle", package.module:Class or file.py:Class.
        context: Parts of the run: judge and personas (for the oracle), encoder.
        options: The constructor's own options.

    Raises:
        UnknownName: another name.
        DataFileError: the file holds no learned model.
        InputError: "oracle" with a judge that is not the click model, or a plug-in that cannot be loaded.
    """
    return registry.make(CTR_MODEL, name, context, **options)
