"""An advertiser learns how far to shade its bids under first price: PPO of stable-baselines3 on numbers."""

import gymnasium
import numpy as np
from gymnasium.wrappers import FilterObservation
from stable_baselines3 import PPO

import simenv  # registers simenv/Bidding-v0


def make(**options):
    """The others bid 0.6 x their value."""
    env = gymnasium.make("simenv/Bidding-v0", mechanism="first_price", bidder="shaded:0.6", candidates=4, **options)
    return FilterObservation(env, ["own"])  # value, relevance and place; not the vector of the query


def utility(policy, sessions, **options):
    """Mean utility per auction, in currency, on the sessions of another run, and its standard error."""
    env, gains = make(**options), []
    env.reset(seed=1)
    for session in range(sessions):
        seen, _ = env.reset(options={"session": session})
        over = False
        while not over:
            seen, gain, over, _, _ = env.step(policy(seen))
            gains.append(gain)
    return np.mean(gains), np.std(gains) / len(gains) ** 0.5


def main(steps=3000, sessions=100, **options):
    learner = PPO(
        "MultiInputPolicy",
        make(sessions=sessions, **options),
        n_steps=min(steps, 500),
        batch_size=100,
        gamma=0.0,
        learning_rate=3e-3,
        seed=0,
    )
    learner.learn(steps)
    draws = np.random.default_rng(0)
    policies = {
        "random": lambda seen: draws.uniform(-1, 1, 1).astype(np.float32),
        "truthful": lambda seen: np.zeros(1, np.float32),
        "learned": lambda seen: learner.predict(seen, deterministic=True)[0],
    }
    return {name: utility(policy, sessions, **options) for name, policy in policies.items()}


if __name__ == "__main__":
    print(f"simenv {simenv.__version__}: utility per auction")
    for name, (mean, error) in main().items():
        print(f"{name:>9}: {mean:6.2f} ± {error:.2f}")
