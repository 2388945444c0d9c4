"""The platform learns which ad to show: MaskablePPO of sb3-contrib on numbers, against a random choice and a rule."""

import gymnasium
import numpy as np
from gymnasium.wrappers import FilterObservation
from sb3_contrib import MaskablePPO

import simenv  # registers simenv/Allocation-v0


def make(**options):
    env = gymnasium.make("simenv/Allocation-v0", **{"candidates": 4, "max_ads": 1, "reserve": 20.0, **options})
    return FilterObservation(env, ["candidates", "mask"])  # bid and relevance of each candidate


def reward(choose, sessions, **options):
    """Mean reward per auction, in currency, on the sessions of another run, and its standard error."""
    env, rewards = make(**options), []
    env.reset(seed=1)
    for session in range(sessions):
        seen, _ = env.reset(options={"session": session})
        over = False
        while not over:
            seen, got, over, _, _ = env.step(choose(seen, env.unwrapped.action_masks()))
            rewards.append(got)
    return np.mean(rewards), np.std(rewards) / len(rewards) ** 0.5


def main(steps=3000, sessions=100, **options):
    learner = MaskablePPO(
        "MultiInputPolicy",
        make(sessions=sessions, **options),
        n_steps=min(steps, 500),
        batch_size=100,
        gamma=0,
        learning_rate=3e-3,
        seed=0,
    )
    learner.learn(steps)
    draws = np.random.default_rng(0)
    policies = {
        "random": lambda seen, masks: np.array([draws.choice(np.flatnonzero(masks))]),
        "bid x relevance": lambda seen, masks: np.array([1 + (seen["candidates"].prod(1) * seen["mask"]).argmax()]),
        "learned": lambda seen, masks: learner.predict(seen, action_masks=masks, deterministic=True)[0],
    }
    return {name: reward(policy, sessions, **options) for name, policy in policies.items()}


if __name__ == "__main__":
    print(f"simenv {simenv.__version__}: the platform's reward per auction")
    for name, (mean, error) in main().items():
        print(f"{name:>16}: {mean:6.2f} ± {error:.2f}")
