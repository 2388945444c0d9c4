"""The loop in ten lines: one persona's session, answered by one mechanism."""

import gymnasium

import simenv

env = gymnasium.make("simenv/NativeAds-v0", horizon=2)
mechanism = simenv.make_mechanism("gsp", llm=simenv.make_llm("embedded"))

auction, info = env.reset(seed=0)
terminated = False
while not terminated:
    auction, reward, terminated, truncated, info = env.step(mechanism)
    transition = info["transition"]
    print(f"{transition.auction.query.text}\n  -> {transition.outcome.response}\n  reward {reward:.2f}")
