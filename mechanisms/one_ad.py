"""Base class of mechanisms that show at most one ad in a session, in the turn that a plan of the whole session chooses.

The plan is made before the first turn, from the bids for the session and from what may be asked next. The CTR model
predicts the clicks of each candidate for each question that may come. It is given the questions before it, in the order
of the session's list and without answers, because those are not written yet. The other turns are answered without ads.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from simenv import Writer, make_writer, outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.errors import InputError
from simenv.llm import LLM
from simenv.records import Auction, Exchange, Outcome
from simenv.sessions import SessionStart, SoFar, alone

from .stopping import Decision, Layer, Plan, StoppingProblem

_MEMORY = 64
"""Sessions whose predictions are kept: they are the same at all bids."""
_MOST_STATES = 50_000

State = tuple[frozenset[int], int]
"""Numbers of the questions before a turn, and of the turn's own."""


class Chain(NamedTuple):
    """What may happen in a session, whatever the bids are."""

    ads: list[str]
    """Ids of the ads, in the order of the click probabilities."""
    states: list[dict[State, int]]
    """The states of each turn, with their positions in the layer."""
    layers: list[Layer]


class Planned(NamedTuple):
    """A session's plan with what it was made of."""

    problem: StoppingProblem
    bids: Floats
    """Currency per click: shape (n,)."""
    reserve: float
    """Currency per click."""
    plan: Plan

    def winner(self, turn: int, state: int) -> tuple[int, float]:
        """The ad with the highest score in a state: its position and its click probability."""
        i = int(self.plan.decisions[turn].winner[state])
        return i, float(self.problem.layers[turn].q[state, i])


class Charge(NamedTuple):
    """A price with its reason."""

    price: float
    """Currency per click."""
    why: str
    """For readers: where it comes from."""


class OneAdASession:
    """Base of mechanisms that plan the one ad of a session. A subclass defines `stop_values` and `charge`.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i, the click probability before any text is written.
        writer: Who writes the answers: "plain", or another writer (`simenv.make_writer`).
        cost: c, what the interruption by an ad costs the platform: currency.
        survival: d, the probability that the user goes on to the next turn.
        reserve: Reserve price, currency per click, where it is above that of the auctions.

    Raises:
        InputError: a number is out of range, or the writer does not fit the model.
        UnknownName: unknown writer.
    """

    name: str

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        writer: str = "plain",
        cost: float = 0.0,
        survival: float = 1.0,
        reserve: float = 0.0,
    ) -> None:
        for option, number in (("cost", cost), ("survival", survival), ("reserve", reserve)):
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < np.inf:
                allowed = "number from 0 to 1" if option == "survival" else "finite number of at least 0"
                raise InputError(f"{option} must be a {allowed}, got {number!r}")
        if survival > 1:
            raise InputError(f"survival must be a number from 0 to 1, got {survival!r}")
        self.ctr_model = ctr_model or CosineCTR()
        self.cost = cost
        self.survival = survival
        self.reserve = reserve
        self._writer = make_writer(writer, llm)
        self._chains: OrderedDict[SessionStart, Chain] = OrderedDict()

    @staticmethod
    def stop_values(scores: Floats, at_reserve: Floats) -> Floats:
        """What the platform counts as earned where it shows the ad: see `stopping.StopValues`."""
        raise NotImplementedError

    def charge(self, planned: Planned, turn: int, state: int) -> Charge:
        """What a click on the ad that is shown in a state costs; at most the bid up to rounding."""
        raise NotImplementedError

    def begin(self, session: SessionStart) -> _PlannedSession:
        """Plans a session; the result answers its turns."""
        chain = self._chain(session)
        bids = np.array([session.bids[ad_id] for ad_id in chain.ads], dtype=np.float64)
        reserve = max([self.reserve, *(auction.reserve for auction in session.auctions)])
        problem = StoppingProblem(chain.layers, self.cost, self.survival)
        plan = problem.plan(bids, reserve, self.stop_values)
        return _PlannedSession(self, self._writer, session, chain, Planned(problem, bids, reserve, plan))

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        """Answers an auction that belongs to no session: it is a session of one turn."""
        return await self.begin(alone(auction)).run(auction, rng)

    def _chain(self, session: SessionStart) -> Chain:
        """The chain of a session, kept for its other bids."""
        key = session.with_bids(dict.fromkeys(session.bids, 0.0))
        if key not in self._chains:
            if len(self._chains) == _MEMORY:
                self._chains.popitem(last=False)
            self._chains[key] = chain_of(key, self.ctr_model)
        return self._chains[key]


class _PlannedSession:
    """Answers the turns of a session by its plan."""

    def __init__(
        self, rule: OneAdASession, writer: Writer, session: SessionStart, chain: Chain, planned: Planned
    ) -> None:
        self.name = rule.name
        self._rule = rule
        self._writer = writer
        self._session = session
        self._chain = chain
        self._planned = planned

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        path = self._path(auction)
        turn, (state, decision) = len(path) - 1, path[-1]
        if auction.shown or any(earlier.stop[at] for at, earlier in path[:-1]):
            return await self._without_ad(auction, {"note": "the ad of this session was shown before"})
        if decision.winner[state] < 0:
            return await self._without_ad(auction, {"note": "no ad is eligible"})
        i, _ = self._planned.winner(turn, state)
        ad = auction.bid_of(self._chain.ads[i]).ad
        now, later = float(decision.stop_value[state]), float(decision.continuation[state])
        details: dict[str, JsonValue] = {"best_ad": ad.id, "stop_value": now, "continuation": later}
        compared = f"showing {ad.id} now is worth {now:.2f}, waiting {later:.2f}"
        if not decision.stop[state]:
            return await self._without_ad(auction, {**details, "note": f"waits: {compared}"})
        charge = self._rule.charge(self._planned, turn, state)
        price = min(float(self._planned.bids[i]), charge.price)
        details["note"] = f"shows an ad: {compared}. A click costs {price:.2f}: {charge.why}"
        return outcome(auction, await self._writer.with_ads(auction, [ad]), {ad.id: price}, details=details)

    async def _without_ad(self, auction: Auction, details: dict[str, JsonValue]) -> Outcome:
        return outcome(auction, await self._writer.answer(auction), details=details)

    def _path(self, auction: Auction) -> list[tuple[int, Decision]]:
        """The states of the turns so far, the present one last, with what is decided there."""
        asked = self._session.asked(auction)
        states = [(frozenset(asked[:turn]), number) for turn, number in enumerate(asked)]
        return [
            (known[state], decision)
            for known, state, decision in zip(self._chain.states, states, self._planned.plan.decisions, strict=False)
        ]


def chain_of(session: SessionStart, ctr_model: CTRModel) -> Chain:
    """The questions that may come in each turn, and the click probabilities of all ads for them.

    Raises:
        InputError: the session is too long: it has more than 50,000 states.
    """
    ads = list(session.ads)
    column = {ad_id: i for i, ad_id in enumerate(ads)}
    states: list[dict[State, int]] = []
    layers: list[Layer] = []
    before: list[frozenset[int]] = [frozenset()]
    for _ in range(session.horizon):
        known: dict[State, int] = {}
        steps = [
            (source, known.setdefault((asked, number), len(known)), prob)
            for source, asked in enumerate(before)
            for number, prob in session.after(asked).items()
        ]
        if sum(map(len, states)) + len(known) > _MOST_STATES:
            raise InputError(
                f"a session of {session.horizon} turns has more than {_MOST_STATES} states, too many to plan: "
                "use a shorter horizon"
            )
        q = np.zeros((len(known), len(ads)))
        for (asked, number), at in known.items():
            auction = _auction(session, asked, number)
            relevance = ctr_model.relevance(auction) if auction.max_ads else np.zeros(len(auction.bids))
            q[at, [column[bid.ad.id] for bid in auction.bids]] = relevance
        source, target, probs = zip(*steps, strict=True)
        layers.append(Layer(q, np.array(source), np.array(target), np.array(probs)))
        states.append(known)
        before = [asked | {number} for asked, number in known]
    return Chain(ads, states, layers)


def _auction(session: SessionStart, asked: frozenset[int], number: int) -> Auction:
    """The auction of a question after others, as it is known before the session."""
    earlier = sorted(asked)
    history = tuple(Exchange(query=session.auctions[i].query, response="") for i in earlier)
    return session.auction([*earlier, number], SoFar(history=history))
