"""The stopping problem of a session against brute force, the integral of its clicks, and what is known of it."""

from __future__ import annotations

import numpy as np
import pytest

from mechanisms.stopping import Decision, Layer, StoppingProblem, highest, second_highest
from simenv.errors import InputError


def tree(rng: np.random.Generator, turns: int, branches: int, ads: int, *, martingale: bool = False) -> list[Layer]:
    """A random tree. In a martingale the click probabilities of a state are the mean of what follows."""
    layers: list[Layer] = []
    for turn in range(turns):
        states = branches**turn
        probs = rng.dirichlet(np.ones(branches if turn else 1), size=max(1, states // branches)).ravel()
        parent = np.arange(states) // branches if turn else np.zeros(1, dtype=np.intp)
        layers.append(Layer(rng.uniform(0.01, 0.6, (states, ads)), parent, np.arange(states), probs))
    for turn in range(turns - 2, -1, -1) if martingale else ():
        below = layers[turn + 1]
        means = np.zeros_like(layers[turn].q)
        np.add.at(means, below.source, below.prob[:, None] * below.q)
        layers[turn] = layers[turn]._replace(q=means)
    return layers


def random_problem(rng: np.random.Generator, turns: int = 4, ads: int = 3) -> tuple[StoppingProblem, np.ndarray, float]:
    """A problem with bids and a reserve."""
    costs, survival = rng.uniform(0, 5, turns), float(rng.choice([1.0, 0.9, 0.6]))
    reserve = float(rng.choice([0.0, 15.0]))
    problem = StoppingProblem(tree(rng, turns, 3, ads), list(costs), survival)
    return problem, rng.uniform(1, 100, ads), reserve


def best_by_trying(problem: StoppingProblem, bids: np.ndarray, reserve: float, turn: int = 0, state: int = 0) -> float:
    """V in one state, straight from the recursion."""
    layer = problem.layers[turn]
    scores = [b * q for b, q in zip(bids, layer.q[state], strict=True) if b >= reserve]
    stop = max(scores) - problem.costs[turn] if scores else -np.inf
    if turn + 1 == len(problem.layers):
        return max(stop, 0.0)
    below = problem.layers[turn + 1]
    following = [
        below.prob[child] * best_by_trying(problem, bids, reserve, turn + 1, int(child))
        for child in np.flatnonzero(below.source == state)
    ]
    return max(stop, problem.survival * sum(following))


def test_the_value_is_that_of_the_recursion_and_of_the_decisions() -> None:
    for seed in range(10):
        problem, bids, reserve = random_problem(np.random.default_rng(seed))
        plan = problem.plan(bids, reserve)
        assert plan.value == pytest.approx(best_by_trying(problem, bids, reserve), abs=1e-9)
        assert plan.value == pytest.approx(problem.value_of(plan.decisions, bids), abs=1e-9)


def test_the_payment_is_the_integral_of_the_clicks() -> None:
    """b_i X_i(b) - integral of X_i from the reserve, by a trapezoid of 200 steps: an error of one step at each jump."""
    for seed in range(4):
        problem, bids, reserve = random_problem(np.random.default_rng(seed))
        plan = problem.plan(bids, reserve)
        for i in np.flatnonzero(plan.clicks):
            steps = np.linspace(reserve, bids[i], 201)
            clicks = []
            for z in steps:
                other = bids.copy()
                other[i] = z
                clicks.append(problem.plan(other, reserve).clicks[i])
            assert (np.diff(clicks) > -1e-12).all()
            integral = np.trapezoid(clicks, steps)
            paid = problem.clarke(plan, bids, int(i), reserve).price * plan.clicks[i]
            step = steps[1] - steps[0]
            assert abs(paid - (bids[i] * plan.clicks[i] - integral)) <= step * plan.clicks[i] / 2 + 1e-9


def test_prices_lie_between_the_reserve_and_the_bid_and_no_other_bid_is_better() -> None:
    for seed in range(40):
        problem, values, reserve = random_problem(rng := np.random.default_rng(seed))
        plan = problem.plan(values, reserve)
        for i in range(len(values)):
            truthful = 0.0
            if plan.clicks[i]:
                price = problem.clarke(plan, values, i, reserve).price
                assert reserve <= price <= values[i]
                truthful = (values[i] - price) * plan.clicks[i]
            for bid in [*rng.uniform(0, 150, 3), 0.9 * values[i], 1.1 * values[i]]:
                bids = values.copy()
                bids[i] = bid
                other = problem.plan(bids, reserve)
                if other.clicks[i]:
                    price = problem.clarke(other, bids, i, reserve).price
                    assert (values[i] - price) * other.clicks[i] <= truthful + 1e-9


def test_no_fixed_turn_is_worth_more() -> None:
    for seed in range(20):
        problem, bids, reserve = random_problem(np.random.default_rng(seed))
        value = problem.plan(bids, reserve).value
        assert all(problem.fixed_turn(turn, bids, reserve) <= value + 1e-9 for turn in range(4))


def test_one_turn_without_a_cost_is_the_second_price() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bids, reserve = rng.uniform(1, 100, 4), 20.0
        problem = StoppingProblem(tree(rng, 1, 1, 4))
        plan = problem.plan(bids, reserve)
        scores = np.where(bids >= reserve, bids * problem.layers[0].q[0], -1.0)
        winner = int(scores.argmax())
        assert plan.decisions[0].winner[0] == winner
        second = max(0.0, np.sort(scores)[-2]) / problem.layers[0].q[0, winner]
        assert problem.clarke(plan, bids, winner, reserve).price == pytest.approx(max(second, reserve))


def test_wrong_values_change_decisions_only_where_stop_and_continuation_are_close() -> None:
    changed = 0
    for seed in range(60):
        problem, bids, reserve = random_problem(rng := np.random.default_rng(seed))
        plan, error = problem.plan(bids, reserve), float(rng.uniform(0.2, 4))
        decisions: list[Decision] = []
        for decision in plan.decisions:
            shift = rng.uniform(-error, error, (2, len(decision.stop)))
            stop = decision.stop_value + shift[0] >= decision.continuation + shift[1]
            wrong = stop != decision.stop
            assert (np.abs(decision.stop_value - decision.continuation)[wrong] <= 2 * error).all()
            changed += int(wrong.sum())
            decisions.append(decision._replace(stop=stop & (decision.winner >= 0)))
        # A wrong decision loses at most 2 error, and a session makes at most one in each turn.
        assert plan.value - problem.value_of(decisions, bids) <= 2 * error * len(decisions)
    assert changed > 30


def test_first_price_never_gains_by_stopping_before_the_last_turn() -> None:
    """With click probabilities that are a martingale, the highest score is convex: it only grows on average."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        problem = StoppingProblem(tree(rng, 5, 3, 3, martingale=True))
        bids = rng.uniform(1, 100, 3)
        assert problem.plan(bids).value == pytest.approx(problem.fixed_turn(4, bids), rel=1e-12)


def test_second_price_of_two_stops_in_the_first_turn() -> None:
    """The second of two scores is their minimum, which is concave: waiting only loses."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        problem = StoppingProblem(tree(rng, 5, 3, 2, martingale=True))
        assert problem.plan(rng.uniform(1, 100, 2), 0.0, second_highest).turns[0] == pytest.approx(1)


def test_second_price_waits_longer_and_loses_less_with_more_advertisers() -> None:
    waits, losses = [], []
    for ads in (2, 3, 6):
        turn = early = late = 0.0
        for seed in range(60):
            problem = StoppingProblem(tree(np.random.default_rng(seed), 5, 3, ads, martingale=True))
            bids = np.random.default_rng([seed, 1]).uniform(90, 110, ads)
            plan = problem.plan(bids, 0.0, second_highest)
            turn += float((plan.turns * np.arange(5)).sum()) / 60
            early += problem.value_of(plan.decisions, bids)
            late += problem.plan(bids).value
        waits.append(turn)
        losses.append(1 - early / late)
    assert waits[0] == pytest.approx(0)
    assert waits[0] < waits[1] < waits[2]
    assert losses[0] > losses[1] > losses[2] > 0


def test_what_a_second_price_earns() -> None:
    scores = np.array([[3.0, 5.0, -np.inf], [4.0, -np.inf, -np.inf]])
    at_reserve = np.array([[1.0, 2.0, 0.5], [1.5, 0.5, 0.5]])
    assert second_highest(scores, at_reserve).tolist() == [3.0, 1.5]
    assert second_highest(scores[1:, :1], at_reserve[1:, :1]).tolist() == [1.5]
    assert highest(scores, at_reserve).tolist() == [5.0, 4.0]


def test_no_ad_is_shown_where_none_is_eligible() -> None:
    problem = StoppingProblem(tree(np.random.default_rng(0), 3, 2, 2))
    for bids, reserve in (([0.0, 0.0], 0.0), ([10.0, 9.0], 11.0)):
        for rule in (highest, second_highest):
            plan = problem.plan(np.array(bids), reserve, rule)
            assert plan.value == 0 == plan.turns.sum() == plan.clicks.sum()
    assert (
        StoppingProblem([Layer(np.zeros((1, 0)), np.zeros(1, int), np.zeros(1, int), np.ones(1))])
        .plan(np.zeros(0))
        .value
        == 0
    )


def test_an_interruption_that_costs_more_than_it_earns_is_left_out() -> None:
    layers = tree(np.random.default_rng(0), 3, 2, 2)
    assert StoppingProblem(layers, 200.0).plan(np.array([100.0, 100.0])).turns.sum() == 0


@pytest.mark.parametrize(
    ("costs", "survival", "said"),
    [([1.0], 1.0, "one a turn"), (-1.0, 1.0, "at least 0"), (0.0, 1.2, "probability from 0 to 1, got 1.2")],
)
def test_impossible_numbers_are_refused(costs, survival, said: str) -> None:
    with pytest.raises(InputError, match=said):
        StoppingProblem(tree(np.random.default_rng(0), 2, 2, 2), costs, survival)
    with pytest.raises(InputError, match="at least one turn"):
        StoppingProblem([])
