"""Distorted click predictions, which replace a mechanism's CTR model in an audit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simenv.ctr.models import CTRModel, Floats
from simenv.errors import UnknownName
from simenv.records import Auction
from simenv.seeding import keyed_rng

DISTORTIONS = {
    "noise": "log-odds of each ad shifted by a normal draw of standard deviation 1",
    "flat": "log-odds halved: all ads look more alike",
    "flipped": "one ad of each auction gets 1 - q",
}
_MOST = 0.999


class DistortedCTR:
    """Distorts the relevance of another CTR model; click probabilities in a text change in proportion.

    So the base model's position effects are preserved, and a mechanism that is truthful with the base model is truthful
    with this one.

    Args:
        base: The model to distort.
        kind: One of `DISTORTIONS`.
        seed: Key of the draws, together with turn and ad.

    Raises:
        UnknownName: unknown kind.
    """

    def __init__(self, base: CTRModel, kind: str, seed: int) -> None:
        if kind not in DISTORTIONS:
            raise UnknownName("distortion", kind, DISTORTIONS)
        self.name = f"{base.name}, {kind}"
        self.position_discount = base.position_discount
        self._base = base
        self._kind = kind
        self._seed = seed

    def relevance(self, auction: Auction) -> Floats:
        return self._distort(auction, self._base.relevance(auction))

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        q = self._base.relevance(auction)
        distorted = self._distort(auction, q)
        ratio = {bid.ad.id: distorted[i] / q[i] if q[i] > 0 else 1.0 for i, bid in enumerate(auction.bids)}
        probs = self._base.click_probs(auction, response, shown)
        return {ad_id: float(min(_MOST, prob * ratio[ad_id])) for ad_id, prob in probs.items()}

    def _distort(self, auction: Auction, q: Floats) -> Floats:
        if not len(q):
            return q
        if self._kind == "flipped":
            chosen = int(keyed_rng("flipped", self._seed, _turn(auction)).integers(len(q)))
            return np.where(np.arange(len(q)) == chosen, 1 - q, q)
        safe = np.clip(q, 1e-12, _MOST)
        odds = np.log(safe / (1 - safe))
        if self._kind == "flat":
            odds = odds / 2
        else:
            ids = [bid.ad.id for bid in auction.bids]
            odds = odds + np.array([keyed_rng("ctr noise", self._seed, _turn(auction), i).normal() for i in ids])
        return np.asarray(1 / (1 + np.exp(-odds)), dtype=np.float64)


def _turn(auction: Auction) -> str:
    """Returns a key that is equal for all replicas of an auction, although these differ in id.

    Where turns are linked it is the question's: what is predicted of it before the session, and at its turn.
    """
    if auction.horizon is not None:
        return f"{auction.session_id}.{auction.query.text}"
    return f"{auction.session_id}.{auction.turn}"
