"""What agents see and get, in numbers: shared by the numeric Gymnasium environments and the bidders of PettingZoo."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from simenv.errors import InputError
from simenv.llm import LLM, make_llm
from simenv.market.values import HIGHEST
from simenv.mechanism import Mechanism, make_mechanism
from simenv.records import Auction, Transition
from simenv.world import World

Numbers = dict[str, npt.NDArray[np.float32]]

LARGEST = 100.0
"""Observed money is cut here, in units of `HIGHEST`: spaces need a bound."""
BID = spaces.Box(-1, 1, (1,))
"""Space of a bid: the bid is (1 + action) x value, so -1 bids nothing, 0 the value and 1 twice the value."""

OWN = spaces.Box(np.array([0, -1.001, 0, 0], np.float32), np.array([LARGEST, 1.001, 1, 1], np.float32))
"""Space of `own_numbers`."""


def refuse_linked(world: World, who: str) -> None:
    """Raises InputError if the turns of a session are linked: then bids hold for all of them.

    Args:
        world: The world.
        who: Who needs turns that are apart, and why, for the message.
    """
    if world.linked:
        raise InputError(
            f"{who}, so that the turns of a session must be apart", hint='make the world with turns="apart"'
        )


def own_numbers(world: World, auction: Auction, ad_id: str) -> npt.NDArray[np.float32]:
    """What the advertiser of a candidate knows: value, relevance, place and number of candidates. Shape (4,)."""
    place = [bid.ad.id for bid in auction.bids].index(ad_id)
    most = world.retriever.n
    value = value_of(world, auction, ad_id)
    return np.array(
        [money(value), auction.bids[place].relevance, place / most, len(auction.bids) / most], dtype=np.float32
    )


def money(amount: float) -> float:
    """An amount as it is observed: in units of `HIGHEST`."""
    return min(amount / HIGHEST, LARGEST)


def value_of(world: World, auction: Auction, ad_id: str) -> float:
    """The private value of a candidate's advertiser: currency per click, or per view if it bids per view."""
    return world.value_of(auction.id, auction.bid_of(ad_id).ad)


def element(space: spaces.Space[Any], action: Any, of: str = "") -> Any:
    """The action as an element of its space; floats of another width become the space's.

    Raises:
        InputError: it is none.
    """
    taken: Any = action
    if isinstance(space, spaces.Box):
        try:
            taken = np.asarray(action, dtype=space.dtype)
        except (TypeError, ValueError):  # no numbers
            taken = np.full(space.shape, np.nan, dtype=space.dtype)
    if not space.contains(taken):
        raise InputError(f"got the action {action!r}{of}: expected an element of {space}")
    return taken


def bid_of(world: World, auction: Auction, ad_id: str, action: npt.NDArray[np.float32]) -> float:
    """The bid that an action of `BID` means: currency per click, or per view if the advertiser bids per view."""
    return (1 + float(action[0])) * value_of(world, auction, ad_id)


def utility(transition: Transition, ad_id: str, expected: bool) -> float | None:
    """value x click - payment of one candidate, in currency; with a value per view, value - payment where it is shown.

    None: the judge abstained, so it is unknown.

    Args:
        transition: The turn.
        ad_id: A candidate.
        expected: Whether over click probabilities, where the judge gives them for all ads of the answer.
    """
    bid, value = transition.auction.bid_of(ad_id), transition.values[ad_id]
    expected = expected and transition.expected_payments is not None
    payments = transition.expected_payments if expected else transition.payments
    units: float | None = 0.0
    for click in transition.feedback.clicks:
        if click.ad_id == ad_id:
            chance = click.click_prob if expected else click.clicked
            units = None if chance is None and bid.unit == "click" else bid.units(chance or 0.0)
    return None if units is None or payments is None else value * units - payments.get(ad_id, 0.0)


def vector(world: World, text: str) -> npt.NDArray[np.float32]:
    """The unit vector of a text: shape (d,)."""
    return np.asarray(np.clip(world.retriever.encoder.encode([text])[0], -1, 1), dtype=np.float32)


def seller(mechanism: str | Mechanism, llm: str | LLM) -> Mechanism:
    """The mechanism by name, with this language model, or the one that is given."""
    if not isinstance(mechanism, str):
        return mechanism
    return make_mechanism(mechanism, context={"llm": make_llm(llm) if isinstance(llm, str) else llm})
