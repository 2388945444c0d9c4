"""Advertisers as agents of PettingZoo: a session under GSP in which every advertiser shades its bids at random."""

import numpy as np

from simenv.integrations.pettingzoo import BiddersEnv


def main(**options):
    env = BiddersEnv(mechanism="gsp", **options)
    draws = np.random.default_rng(0)
    totals = dict.fromkeys(env.possible_agents, 0.0)
    env.reset(seed=0)
    while env.agents:
        actions = {agent: draws.uniform(-0.5, 0, 1).astype(np.float32) for agent in env.agents}
        _, rewards, _, _, _ = env.step(actions)
        for agent, reward in rewards.items():
            totals[agent] += reward
    return totals


if __name__ == "__main__":
    totals = main()
    print(f"{len(totals)} advertisers; with a gain: { ({agent: round(x, 2) for agent, x in totals.items() if x}) }")
