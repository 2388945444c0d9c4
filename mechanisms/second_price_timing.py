"""Second-price timing: one ad in a session, shown where the second score is worth most, for the second price per click.

Source: Banchio, Mehta, Perlroth (2024), "Ads in Conversations", arXiv:2403.11022 v2; our reading of the abstract and of
public notes. Their result: early, and it often shows the wrong ad, although it may earn more. With two advertisers and
click probabilities that are a martingale the second score is a minimum, which is concave, so the ad is shown in the
first turn; a test of `stopping.py` holds this.
"""

from __future__ import annotations

from simenv.mechanism import Claim

from .one_ad import Charge, OneAdASession, Planned
from .stopping import second_highest


class SecondPriceTiming(OneAdASession):
    """Second-price timing of a session's one ad: waits as long as the expected second score is larger later.

    The platform stops where the second highest b_i q_i, at least the winner's score at the reserve, is worth most to
    it. The ad with the highest score pays this / q_i per click. Individually rational. Not truthful: bids move the
    turn. With the turn fixed it would be (`fixed_turn`).

    Args:
        llm, ctr_model, writer, cost, survival, reserve: See `OneAdASession`.
    """

    name = "second_price_timing"
    claims = frozenset({Claim.INDIVIDUALLY_RATIONAL})
    stop_values = staticmethod(second_highest)

    def charge(self, planned: Planned, turn: int, state: int) -> Charge:
        _, q = planned.winner(turn, state)
        earned = float(planned.plan.decisions[turn].stop_value[state]) + planned.problem.costs[turn]
        return Charge(max(planned.reserve, earned / q), "the least bid at which it still has the highest score")
