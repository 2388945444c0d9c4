"""Fakes for tests of mechanisms and of error paths, without weights, keys or a network beyond this machine.

`small_world` is a world of twelve ads and four personas that runs in milliseconds. `FakeOpenAI` is a server of
OpenAI's protocol over real HTTP that can simulate failures, and `FakeRoles` supplies its replies for every role of a
model in a run. Measurements with these fakes do not describe models or users.
"""

from simenv.testing.fake_openai import FAULTS, FakeFailure, FakeMessage, FakeOpenAI, FakeRaw, Fault, Reply
from simenv.testing.fake_roles import FakeRoles
from simenv.testing.fake_world import ADS, PERSONAS, FakeEncoder, small_world

__all__ = [
    "ADS",
    "FAULTS",
    "PERSONAS",
    "FakeEncoder",
    "FakeFailure",
    "FakeMessage",
    "FakeOpenAI",
    "FakeRaw",
    "FakeRoles",
    "Fault",
    "Reply",
    "small_world",
]
