"""What a mechanism predicts of clicks: a plug-in that all mechanisms share.

A mechanism's prediction is never the world's own click function by accident: the world adds hidden appeal, hidden
taste and the user's traits, which no auction shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.errors import InputError, UnknownName
from simenv.records import Auction, Persona

if TYPE_CHECKING:
    from simenv.judges.click_model import ClickModel
    from simenv.world import World

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


class OracleCTR:
    """The click model's own probabilities: what a perfect prediction would be worth. It reads what no mechanism may see
    in a real market (the persona behind the profile, hidden appeal and taste), so it is a yardstick, not a competitor.

    Args:
        click_model: The world's judge.
        personas: The world's users, found by their profile.

    Raises:
        InputError: two personas share a profile.
    """

    name = "oracle"

    def __init__(self, click_model: ClickModel, personas: Iterable[Persona]) -> None:
        self._click_model = click_model
        self._personas: dict[str, Persona] = {}
        for persona in personas:
            if self._personas.setdefault(persona.profile, persona) is not persona:
                raise InputError(f"personas {self._personas[persona.profile].id} and {persona.id} share a profile")
        self.position_discount = click_model.params.examination.rank_discount

    def relevance(self, auction: Auction) -> Floats:
        """Attraction: the click probability of each ad alone, examined, in a fitting sentence."""
        ads = [bid.ad for bid in auction.bids]
        if not ads:
            return np.zeros(0)
        attraction = self._click_model.attraction(self._persona(auction), auction.query.text, ads)
        return np.array([attraction[ad.id] for ad in ads])

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        made = markup.outcome(auction, response, {bid.ad.id: auction.reserve for bid in auction.bids})
        probs = self._click_model.probabilities(self._persona(auction), auction, made)
        return {ad_id: probs[ad_id] for ad_id in shown}

    def _persona(self, auction: Auction) -> Persona:
        persona = self._personas.get(auction.profile)
        if persona is None:
            raise InputError(f"the oracle knows no persona with the profile {auction.profile[:80]!r}")
        return persona


def make_ctr_model(name: str = "cosine", world: World | None = None) -> CTRModel:
    """Builds a CTR model by name.

    Args:
        name: "cosine", "learned:FILE" (made by `simenv fit-ctr`), or "oracle".
        world: Where it will be used; the oracle needs it.

    Raises:
        UnknownName: another name.
        DataFileError: the file is no learned model.
        InputError: the oracle without a world whose judge is the click model.
    """
    if name == "cosine":
        return CosineCTR()
    if name.startswith("learned:"):
        from simenv.ctr.learned import LearnedCTR

        return LearnedCTR.load(name.removeprefix("learned:"))
    if name == "oracle":
        from simenv.judges.click_model import ClickModel

        if world is None or not isinstance(world.judge, ClickModel):
            judge = "no world" if world is None else f"the judge {world.judge.name}"
            raise InputError(f"the oracle CTR model needs a world whose judge is the click model, got {judge}")
        return OracleCTR(world.judge, world.personas)
    raise UnknownName("CTR model", name, ["cosine", "learned:FILE", "oracle"])
