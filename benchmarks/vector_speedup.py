"""Compares one vector environment of 32 with 32 single environments: the ratio of answers per second.

    python benchmarks/vector_speedup.py --envs 32 --steps 1 --llm embedded

Both answer the same auctions with gsp in one process, each with its own model and encoder. Quote only the ratio:
absolute times depend on the machine.
"""

from __future__ import annotations

import argparse
import time

import gymnasium

import simenv
from simenv.encoder import MiniLM


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envs", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--llm", default="embedded")
    options = parser.parse_args()

    def fresh() -> tuple[simenv.World, simenv.Mechanism]:
        """A world and a mechanism with empty caches of model and encoder."""
        world = simenv.make_world(encoder=MiniLM(), horizon=5)
        return world, simenv.make_mechanism("gsp", llm=simenv.make_llm(options.llm))

    world, gsp = fresh()
    envs = gymnasium.make_vec("simenv/NativeAds-v0", num_envs=options.envs, world=world)
    envs.reset(seed=0)
    began = time.perf_counter()
    together = [transition for _ in range(options.steps) for transition in envs.step(gsp)[4]["transition"]]
    vector_seconds = time.perf_counter() - began

    world, gsp = fresh()
    singles = [gymnasium.make("simenv/NativeAds-v0", world=world) for _ in range(options.envs)]
    for i, env in enumerate(singles):
        env.reset(seed=i)
    began = time.perf_counter()
    alone = [env.step(gsp)[4]["transition"] for _ in range(options.steps) for env in singles]
    single_seconds = time.perf_counter() - began

    same = sum(a == b for a, b in zip(together, alone, strict=True))
    print(f"vector: {len(together) / vector_seconds:.2f} answers/s, one by one: {len(alone) / single_seconds:.2f}")
    print(f"ratio {single_seconds / vector_seconds:.1f}; {same} of {len(alone)} transitions are equal bit for bit")


if __name__ == "__main__":
    main()
