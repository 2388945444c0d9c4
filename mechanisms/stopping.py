"""When to show the one ad of a session: optimal stopping on a chain of conversations, and what the winner pays.

The states of turn t are the conversations that may have happened by then. In each of them every ad has a click
probability q_i that does not depend on the bids. The platform may show one ad, in one turn. What it gets if it shows
the best ad in state s of turn t is the stop value, and the rest of the session is worth the continuation value:

    V_t(s) = max(max_i b_i q_i(s) - c_t, d E[V_(t+1) | s]),   V_(T+1) = 0

with c_t the cost of an interruption and d the probability that the user goes on to the next turn.

Source: the recursion is that of LLM-OSDA (Fang et al. 2026), as we read its abstract and public notes; its costs and
its discount could not be read. The payment is derived here: V is a maximum of functions that are linear in the bids,
so it is convex, its slope in b_i is i's expected clicks X_i, and the payment that makes truth optimal,
b_i X_i - integral of X_i up to b_i, is b_i X_i less what V gains by i's bid. The tests compare both numerically.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv.ctr.models import Floats
from simenv.errors import InputError

_ROUNDING = 1e-12
"""Relative difference by which a continuation may exceed an equal stop value."""
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
StopValues = Callable[[Floats, Floats], Floats]
"""What the platform earns by showing the ad with the highest score in each state, currency: shape (states,). From the
scores b_i q_i of the eligible ads, -inf for the others, and the scores at which each bids just the reserve: both of
shape (states, n)."""


class Layer(NamedTuple):
    """The states of one turn, and how they are reached."""

    q: Floats
    """Click probability of each ad in each state, 0 where it cannot be shown: shape (states, n)."""
    source: Ints
    """Of each step into this turn, the state of the turn before; 0 in the first turn: shape (steps,)."""
    target: Ints
    """The state that it leads to: shape (steps,)."""
    prob: Floats
    """Its probability, given its source and that the session goes on: shape (steps,)."""


class Decision(NamedTuple):
    """What is decided in the states of one turn; each array has shape (states,)."""

    stop: Bools
    """Whether the ad is shown here, if none was shown before."""
    winner: Ints
    """The ad that would be shown: the highest score; -1 if no ad is eligible."""
    stop_value: Floats
    """What the platform earns by showing it here, currency; -inf if no ad is eligible."""
    continuation: Floats
    """What it expects from the later turns otherwise, currency."""


class Plan(NamedTuple):
    """The solution of a stopping problem at some bids."""

    value: float
    """What the platform expects of the session, currency."""
    decisions: list[Decision]
    """One per turn."""
    clicks: Floats
    """X_i: expected clicks of each ad, where the user goes on with probability d: shape (n,)."""
    turns: Floats
    """Probability that the ad is shown in each turn: shape (T,)."""


class Clarke(NamedTuple):
    """What an ad pays: b_i X_i - (V(b) - V(r, b_-i)), its value less what V gains by its bid above the reserve r."""

    price: float
    """That divided by the expected clicks: currency per click, from the reserve to the bid."""
    clicks: float
    """X_i."""
    value: float
    """V(b), currency."""
    without: float
    """V(r, b_-i), currency."""


def highest(scores: Floats, at_reserve: Floats) -> Floats:
    """The highest score: the advertiser's value, and what a first-price rule earns."""
    return np.asarray(scores.max(axis=1, initial=-np.inf), dtype=np.float64)


def second_highest(scores: Floats, at_reserve: Floats) -> Floats:
    """What a second-price rule earns: the second score, at least the winner's score at the reserve."""
    if scores.shape[1] < 2:
        return np.asarray(at_reserve.sum(axis=1), dtype=np.float64)
    winner = scores.argmax(axis=1)[:, None]
    second = np.partition(scores, -2, axis=1)[:, -2]
    return np.asarray(np.maximum(second, np.take_along_axis(at_reserve, winner, axis=1)[:, 0]), dtype=np.float64)


class StoppingProblem:
    """Conversations with click probabilities, costs and survival.

    Args:
        layers: The states of each turn; at least one turn.
        costs: c_t of each turn, currency; one number for all turns.
        survival: d, the probability that the user goes on after a turn without the ad.

    Raises:
        InputError: there are no layers, the costs are not finite numbers of at least 0, one a turn, or survival is not
            in [0, 1].
    """

    def __init__(self, layers: Sequence[Layer], costs: Sequence[float] | float = 0.0, survival: float = 1.0) -> None:
        self.layers = list(layers)
        if not self.layers:
            raise InputError("a stopping problem needs at least one turn")
        each = [float(costs)] * len(self.layers) if isinstance(costs, int | float) else [float(c) for c in costs]
        if len(each) != len(self.layers) or not all(0 <= c < np.inf for c in each):
            raise InputError(f"costs must be {len(self.layers)} finite numbers of at least 0, one a turn, got {costs}")
        if not 0 <= survival <= 1:
            raise InputError(f"survival must be a probability from 0 to 1, got {survival}")
        self.costs = each
        self.survival = float(survival)

    def plan(self, bids: Floats, reserve: float = 0.0, stop_values: StopValues = highest) -> Plan:
        """Decides in which states the ad is shown.

        Args:
            bids: Currency per click: shape (n,).
            reserve: A bid below it takes no part; neither does a score of 0.
            stop_values: What stopping earns. A tie between stopping and going on is decided for stopping.
        """
        decisions: list[Decision] = []
        continuation = np.zeros(len(self.layers[-1].q))
        for turn in range(len(self.layers) - 1, -1, -1):
            layer = self.layers[turn]
            scores = layer.q * bids
            scores = np.where((scores > 0) & (bids >= reserve), scores, -np.inf)
            winner = np.where(scores.max(axis=1, initial=-np.inf) > 0, _first_highest(scores), -1)
            earned = np.where(winner >= 0, stop_values(scores, layer.q * reserve) - self.costs[turn], -np.inf)
            stop = (winner >= 0) & (earned >= continuation * (1 - _ROUNDING))
            decisions.append(Decision(stop, winner, earned, continuation))
            continuation = self._before(turn, np.maximum(earned, continuation))
        decisions.reverse()
        clicks, turns = self._follow(decisions)
        return Plan(float(continuation[0]), decisions, clicks, turns)

    def value_of(self, decisions: Sequence[Decision], bids: Floats) -> float:
        """What the platform expects if it decides so, by the bids and costs: currency.

        Args:
            decisions: One per turn: where to stop, and who wins there.
            bids: Currency per click: shape (n,).
        """
        total = 0.0
        for turn, (layer, decision, weight) in enumerate(self._reached(decisions)):
            here = np.flatnonzero(decision.stop)
            won = decision.winner[here]
            total += float((weight[here] * (bids[won] * layer.q[here, won] - self.costs[turn])).sum())
        return total

    def fixed_turn(self, turn: int, bids: Floats, reserve: float = 0.0) -> float:
        """What the platform expects if it shows the best ad in this turn whatever was asked: currency."""
        decisions = self.plan(bids, reserve).decisions
        at_turn = [it._replace(stop=(it.winner >= 0) & (t == turn)) for t, it in enumerate(decisions)]
        return self.value_of(at_turn, bids)

    def clarke(self, plan: Plan, bids: Floats, winner: int, reserve: float = 0.0) -> Clarke:
        """The payment that makes an ad's true value its best bid, in expectation over the conversation.

        Args:
            plan: What `plan` returns for these bids and this reserve.
            bids: Currency per click: shape (n,).
            winner: The ad; it is shown in some state of the plan.
            reserve: The reserve of the plan, currency per click.
        """
        lowest = bids.copy()
        lowest[winner] = reserve
        without = self.plan(lowest, reserve).value
        clicks, bid = float(plan.clicks[winner]), float(bids[winner])
        # between reserve and bid but for rounding, which a division by few clicks enlarges
        return Clarke(min(bid, max(reserve, bid - (plan.value - without) / clicks)), clicks, plan.value, without)

    def _before(self, turn: int, values: Floats) -> Floats:
        """d E[values | state] for each state of the turn before: shape (states of that turn,)."""
        layer = self.layers[turn]
        states = len(self.layers[turn - 1].q) if turn else 1
        mean = np.bincount(layer.source, layer.prob * values[layer.target], minlength=states)
        return np.asarray(mean * (self.survival if turn else 1.0), dtype=np.float64)

    def _follow(self, decisions: Sequence[Decision]) -> tuple[Floats, Floats]:
        """Expected clicks of each ad, and the probability that the ad is shown in each turn."""
        clicks, turns = np.zeros(self.layers[0].q.shape[1]), np.zeros(len(self.layers))
        for turn, (layer, decision, weight) in enumerate(self._reached(decisions)):
            here = np.flatnonzero(decision.stop)
            won = decision.winner[here]
            np.add.at(clicks, won, weight[here] * layer.q[here, won])
            turns[turn] = weight[here].sum()
        return clicks, turns

    def _reached(self, decisions: Sequence[Decision]) -> list[tuple[Layer, Decision, Floats]]:
        """Each turn with the probability that each of its states is reached before the ad is shown."""
        reached = []
        open_ = np.ones(1)  # probability that each state of the turn before is reached and the ad not shown by then
        for turn, (layer, decision) in enumerate(zip(self.layers, decisions, strict=True)):
            steps = open_[layer.source] * layer.prob * (self.survival if turn else 1.0)
            weight = np.bincount(layer.target, steps, minlength=len(layer.q)).astype(np.float64)
            reached.append((layer, decision, weight))
            open_ = np.where(decision.stop, 0.0, weight)
        return reached


def _first_highest(scores: Floats) -> Ints:
    return np.asarray(scores.argmax(axis=1)) if scores.shape[1] else np.full(len(scores), -1)
