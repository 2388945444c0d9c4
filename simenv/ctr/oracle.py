"""The oracle CTR model predicts the click model's own probabilities, as an upper bound for predictions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from simenv import markup
from simenv.ctr.models import Floats
from simenv.errors import InputError
from simenv.judges.base import Judge
from simenv.judges.click_model import ClickModel
from simenv.records import Auction, Persona


class OracleCTR:
    """Predicts the click model's own probabilities: an upper bound for predictions.

    It reads data that no mechanism has in a real market (the persona behind the profile, hidden appeal and taste), so
    it is a reference, not a competitor.

    Args:
        judge: The world's judge: a click model.
        personas: The world's users; the profile identifies them.

    Raises:
        InputError: the judge is not a click model, or two personas share a profile.
    """

    name = "oracle"

    def __init__(self, judge: Judge | None = None, personas: Iterable[Persona] = ()) -> None:
        if not isinstance(judge, ClickModel):
            got = "no world" if judge is None else f"the judge {judge.name}"
            raise InputError(f"the oracle CTR model needs a world whose judge is the click model, got {got}")
        self._click_model = judge
        self._personas: dict[str, Persona] = {}
        for persona in personas:
            if self._personas.setdefault(persona.profile, persona) is not persona:
                raise InputError(f"personas {self._personas[persona.profile].id} and {persona.id} share a profile")
        self.position_discount = judge.params.examination.rank_discount

    def relevance(self, auction: Auction) -> Floats:
        """Returns the attraction: the click probability of each ad alone, if examined, in a fitting sentence."""
        ads = [bid.ad for bid in auction.bids]
        if not ads:
            return np.zeros(0)
        attraction = self._click_model.attraction(self._persona(auction), auction.query.text, ads, auction.shown)
        return np.array([attraction[ad.id] for ad in ads])

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        outcome = markup.outcome(auction, response, {bid.ad.id: auction.reserve for bid in auction.bids})
        probs = self._click_model.probabilities(self._persona(auction), auction, outcome)
        return {ad_id: probs[ad_id] for ad_id in shown}

    def _persona(self, auction: Auction) -> Persona:
        persona = self._personas.get(auction.profile)
        if persona is None:
            raise InputError(f"the oracle knows no persona with the profile {auction.profile[:80]!r}")
        return persona
