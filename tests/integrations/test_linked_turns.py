"""Frameworks whose agents act on each turn alone refuse a world of linked turns, and say why."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simenv.errors import InputError
from simenv.integrations.numeric import BiddingEnv
from simenv.integrations.trl import AuctionReward
from simenv.testing import small_world
from simenv.world import World


@pytest.mark.parametrize("make", [BiddingEnv, AuctionReward])
def test_linked_turns_are_refused(make: Callable[[World], object]) -> None:
    make(small_world())
    with pytest.raises(InputError, match="so that the turns of a session must be apart"):
        make(small_world(turns="linked"))
