"""The Gymnasium environments: a step is one auction answered by the mechanism that is the action.

`environment.py` is one environment, `vector.py` several side by side, `spaces.py` their spaces. May import the world
and what is below it; the command line imports it, and `gymnasium.make("simenv/NativeAds-v0")` finds it.
"""

from simenv.env.environment import NativeAdsEnv
from simenv.env.vector import NativeAdsVectorEnv

__all__ = ["NativeAdsEnv", "NativeAdsVectorEnv"]
