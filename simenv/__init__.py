"""simenv: the reference environment for LLM-native advertising auctions.

    import gymnasium, simenv
    env = gymnasium.make("simenv/NativeAds-v0")
    auction, info = env.reset(seed=0)
    auction, reward, terminated, truncated, info = env.step(mechanism)

Importing this package loads no torch, transformers or litellm.
"""

from __future__ import annotations

import gymnasium

from simenv.check import check_mechanism
from simenv.errors import SimenvError
from simenv.llm import make_llm
from simenv.markup import outcome, strip_markup
from simenv.mechanism import Claim, Mechanism, make_mechanism, mechanism_names, run_mechanism
from simenv.objective import Objective
from simenv.records import Ad, Auction, Bid, Click, Feedback, Outcome, Persona, Placement, Query, Transition
from simenv.world import World, make_world

__version__ = "0.1.0"

gymnasium.register(
    "simenv/NativeAds-v0",
    entry_point="simenv.env.environment:NativeAdsEnv",
    vector_entry_point="simenv.env.vector:NativeAdsVectorEnv",
)

__all__ = [
    "Ad",
    "Auction",
    "Bid",
    "Claim",
    "Click",
    "Feedback",
    "Mechanism",
    "Objective",
    "Outcome",
    "Persona",
    "Placement",
    "Query",
    "SimenvError",
    "Transition",
    "World",
    "check_mechanism",
    "make_llm",
    "make_mechanism",
    "make_world",
    "mechanism_names",
    "outcome",
    "run_mechanism",
    "strip_markup",
]
