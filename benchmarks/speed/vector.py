"""One vector environment of 32 on the embedded model against 32 single environments, one after the other.

python -m benchmarks.speed.vector

Both answer the same auctions with gsp, each round with an empty memory of texts. All transitions must be equal.
"""

from __future__ import annotations

import argparse
import time

import gymnasium

import simenv
from benchmarks.speed.measure import Aim, compare
from simenv.records import Transition


class Environments:
    """The same auctions, answered together and one by one."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.world = simenv.make_world(horizon=5)
        self._loaded = simenv.make_llm("embedded")  # so that a round need not load the weights again
        self.answers: dict[str, list[Transition]] = {}

    def fresh(self) -> simenv.Mechanism:
        """The mechanism, with a model that remembers nothing."""
        return simenv.make_mechanism("gsp", llm=simenv.make_llm("embedded"))

    def together(self) -> float:
        """Answers a second of the vector environment."""
        gsp = self.fresh()
        envs = gymnasium.make_vec("simenv/NativeAds-v0", num_envs=self.count, world=self.world)
        envs.reset(seed=0)
        began = time.perf_counter()
        self.answers["together"] = list(envs.step(gsp)[4]["transition"])
        return self.count / (time.perf_counter() - began)

    def one_by_one(self) -> float:
        """Answers a second of single environments."""
        gsp = self.fresh()
        singles = [gymnasium.make("simenv/NativeAds-v0", world=self.world) for _ in range(self.count)]
        for i, env in enumerate(singles):
            env.reset(seed=i)
        began = time.perf_counter()
        self.answers["one by one"] = [env.step(gsp)[4]["transition"] for env in singles]
        return self.count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    envs = Environments(options.envs)
    compare(
        "embedded model: a vector environment against single ones",
        "answers/s",
        {f"vector of {options.envs}": envs.together, "one by one": envs.one_by_one},
        aim=Aim(4.0),
        rounds=options.rounds,
        note="The transitions of both sides are the same, to the bit, but for the number of the environment.",
    )
    pairs = zip(envs.answers["together"], envs.answers["one by one"], strict=True)
    same = sum(a.model_copy(update={"index": b.index}) == b for a, b in pairs)  # a single environment counts from 0
    print(f"{same} of {options.envs} transitions are equal bit for bit")
    if same < options.envs:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
