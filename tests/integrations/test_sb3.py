"""stable-baselines3 and sb3-contrib learn on the environments of numbers."""

from __future__ import annotations

import numpy as np
import pytest

from simenv.integrations.numeric import AllocationEnv
from simenv.testing import small_world
from tests.support.examples import example


@pytest.mark.weights
def test_the_example_trains_a_bidder() -> None:
    from stable_baselines3.common.env_checker import check_env

    ours = example("sb3_bidder")
    check_env(ours.make())
    results = ours.main(steps=100, sessions=4)
    assert list(results) == ["random", "truthful", "learned"]
    assert results["truthful"][0] == pytest.approx(0), "under first price"


def test_a_masked_allocation_is_learned_without_a_forbidden_choice() -> None:
    from sb3_contrib import MaskablePPO

    env = AllocationEnv(small_world(reserve=40.0), sessions=4)
    learner = MaskablePPO("MultiInputPolicy", env, n_steps=32, batch_size=32, n_epochs=1, seed=0)
    learner.learn(32)
    seen, _ = env.reset(seed=9)
    for _ in range(3):
        chosen, _ = learner.predict(seen, action_masks=env.action_masks())
        assert all(seen["mask"][number - 1] for number in chosen if number)
        seen, _, _, _, _ = env.step(np.asarray(chosen))


@pytest.mark.slow
@pytest.mark.weights
def test_a_bidder_learns_to_shade() -> None:
    """Standard errors are 0.2 to 0.3: the learned bidder is above both by at least 6 of them."""
    results = example("sb3_bidder").main()
    assert results["learned"][0] > results["truthful"][0] + 1.5
    assert results["learned"][0] > results["random"][0] + 3


@pytest.mark.slow
@pytest.mark.weights
def test_an_allocation_is_learned() -> None:
    """Standard errors are 0.5 to 0.8, and the gain over a random choice is about 7.5."""
    results = example("sb3_allocation").main()
    assert results["learned"][0] > results["random"][0] + 4
