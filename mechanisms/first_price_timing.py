"""First-price timing: one ad in a session, shown where the bids promise the platform most, for the bid per click.

Source: Banchio, Mehta, Perlroth (2024), "Ads in Conversations", arXiv:2403.11022 v2; our reading of the abstract and of
public notes. Their result: efficient, but late. With click probabilities that are a martingale, as beliefs are, the
highest score is convex in them, so waiting never loses; a test of `stopping.py` holds this.
"""

from __future__ import annotations

from simenv.mechanism import Claim

from .one_ad import Charge, OneAdASession, Planned
from .stopping import highest


class FirstPriceTiming(OneAdASession):
    """First-price timing of a session's one ad: waits as long as the expected highest score is larger later.

    The platform stops where max_i b_i q_i is worth most to it, by the recursion of optimal stopping. The winner pays
    its bid per click. Individually rational. Not truthful: a lower bid pays less. Compare it at learned bids.

    Args:
        llm, ctr_model, writer, cost, survival, reserve: See `OneAdASession`.
    """

    name = "first_price_timing"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL})
    stop_values = staticmethod(highest)

    def charge(self, planned: Planned, turn: int, state: int) -> Charge:
        winner, _ = planned.winner(turn, state)
        return Charge(float(planned.bids[winner]), "its bid")
