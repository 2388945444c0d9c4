"""Optimal stopping (LLM-OSDA): one ad in a session, shown where waiting is worth less, at the price that its bid moves.

Source: Fang et al. (2026), "LLM-OSDA", arXiv:2608.00123. The full text could not be read: the allocation is our reading
of the abstract and of public notes. Their cost of an interruption, their discount and how they bill clicks are unknown
to us, so `cost` and `survival` are our own. Theirs learns when to stop; here what may be asked next is known, and the
recursion is solved exactly. The payment as a difference of two values is derived by us (`stopping.py`), and is checked
numerically against the envelope integral that the paper charges.
"""

from __future__ import annotations

from simenv.ctr.models import CTRModel
from simenv.llm import LLM
from simenv.mechanism import Claim

from .one_ad import Charge, OneAdASession, Planned
from .stopping import highest


class OptimalStopping(OneAdASession):
    """Shows the one ad of a session where its score exceeds what waiting is worth; charges its Clarke price per click.

    Bids per click are made once, for the session. In turn t, after the questions s, the ad with the highest score
    b_i q_i(s) is shown if

        max_i b_i q_i(s) - cost >= survival x E[V_(t+1) | s]

    with V the value of the rest of the session. Its expected clicks X_i rise with its bid, and the payment that makes
    the true value the best bid is b_i X_i - (V(b) - V(r, b_-i)), with r the reserve: p_i = that / X_i per click, the
    same in every turn, between r and b_i. One turn and no cost give the second price.

    Truthful for utility maximisers and monotone in expectation over what is asked, under the mechanism's own click
    predictions: once the questions are known, another bid may have been better. Both hold where users go on with
    probability `survival`. Sessions here have their full length, so they are claimed for `survival` 1 only.
    Individually rational in every session.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i, the click probability before any text is written.
        writer: Who writes the answers: "plain", or another writer (`simenv.make_writer`).
        cost: What the interruption by an ad costs the platform: currency. An ad that is worth less is not shown.
        survival: Probability that the user goes on to the next turn; below 1 ads are shown earlier.

    Raises:
        InputError: a number is out of range, or the writer does not fit the model.
        UnknownName: unknown writer.
    """

    name = "optimal_stopping"
    stop_values = staticmethod(highest)

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        writer: str = "plain",
        cost: float = 0.0,
        survival: float = 1.0,
    ) -> None:
        super().__init__(llm, ctr_model, writer, cost, survival)
        self.claims = frozenset({Claim.INDIVIDUALLY_RATIONAL})
        if survival == 1:
            self.claims |= {Claim.MONOTONE_IN_EXPECTATION, Claim.TRUTHFUL_UM_IN_EXPECTATION}

    def charge(self, planned: Planned, turn: int, state: int) -> Charge:
        winner, _ = planned.winner(turn, state)
        bid = float(planned.bids[winner])
        paid = planned.problem.clarke(planned.plan, planned.bids, winner, planned.reserve)
        return Charge(
            paid.price,
            f"its {paid.clicks:.3f} expected clicks are worth {bid * paid.clicks:.2f}, of which it keeps "
            f"{paid.value - paid.without:.2f}, what the session is worth with its bid ({paid.value:.2f}) less without "
            f"it ({paid.without:.2f})",
        )
