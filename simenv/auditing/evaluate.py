"""One auction, and what everybody gets in it at any profile of bids: the experiment that all of an audit is made of.

A mechanism is measured in one of two ways.

exact    It has a `lottery`, or neither its generator nor a bid shown to the language model decides anything: then
         its texts are held fixed by their keys, and every figure is exact over its draw, given these texts.
sampled  It draws from its generator without a known lottery, or the language model samples under prompts in which the
         bids stand. Then every auction is run as several replicas, each a draw of its own, the same at every bid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.background_loop import gather
from simenv.ctr.models import CTRModel, Floats
from simenv.errors import InputError, OutcomeError
from simenv.judges.base import Judge
from simenv.llm.base import AnyRequest, ScoreRequest, metered
from simenv.mechanism import Lottery, Mechanism, lottery_of, run_mechanism
from simenv.records import Auction, Click, Outcome, Persona
from simenv.seeding import keyed_rng

Bools = npt.NDArray[np.bool_]

_PROBED = 3
_SCALE = 1.1
"""Of all bids at once: most rules then decide as before, and a prompt that shows bids still changes."""
_ROUNDING = 1e-9


class AuditCase(NamedTuple):
    """One auction in which everybody bids its value."""

    persona: Persona
    auction: Auction
    values: Floats
    """Currency per click of every candidate: shape (n,)."""

    def at(self, bids: Floats, replica: int | None = None) -> Auction:
        """The auction at other bids, shape (n,); a replica has a name, and so draws, of its own."""
        changed = tuple(
            bid if bid.amount == amount else bid.model_copy(update={"amount": float(amount)})
            for bid, amount in zip(self.auction.bids, bids, strict=True)
        )
        name = self.auction.id if replica is None else f"{self.auction.id}~{replica}"
        return self.auction.model_copy(update={"id": name, "bids": changed})


class Subject(NamedTuple):
    """A mechanism under audit."""

    label: str
    mechanism: Mechanism
    ctr_model: CTRModel
    """Its own, or the run's where it has none."""
    replicas: int
    """0: exact."""


class Played(NamedTuple):
    """What everybody gets at one profile of bids: each of shape (replicas, n), one row if it is exact.

    Clicks and payments are expectations per answer; those of the world are nan where the judge abstained.
    """

    own_clicks: Floats
    own_payments: Floats
    clicks: Floats
    payments: Floats
    overcharged: Floats
    """1 where an outcome that may happen charges more than its bid for the predicted clicks in it, else 0."""


class BidEvaluator:
    """Runs mechanisms, and remembers what the judge said of each text: one is judged once.

    Args:
        judge: The world. A verdict without probability counts as the probability 0 or 1.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._judged: dict[tuple[str, str], dict[str, float]] = {}
        self._best: dict[str, float] = {}

    def best_welfare(self, case: AuditCase) -> float:
        """The most welfare of any answer to this auction that was seen so far, in currency per answer."""
        return self._best.get(case.auction.id, 0.0)

    async def play(
        self, subject: Subject, case: AuditCase, bids: Floats, replicas: Sequence[int] | None = None
    ) -> Played:
        """Runs one profile of bids, shape (n,), on all replicas or on these."""
        numbers: Sequence[int | None] = [None]
        if subject.replicas:
            numbers = range(subject.replicas) if replicas is None else replicas
        rows = await gather([self._row(subject, case, case.at(bids, number)) for number in numbers])
        return Played(*(np.array(column) for column in zip(*rows, strict=True)))

    async def _row(self, subject: Subject, case: AuditCase, auction: Auction) -> list[Floats]:
        place = {bid.ad.id: i for i, bid in enumerate(auction.bids)}
        made = np.zeros((5, len(place)))
        own_clicks, own_payments, clicks, payments, overcharged = made
        for weight, outcome in await _lottery(subject, auction):
            shown = [placement.ad_id for placement in outcome.placements]
            predicted = subject.ctr_model.click_probs(auction, outcome.response, shown) if shown else {}
            seen = await self._seen(case, auction, outcome)
            utility = dict.fromkeys(outcome.transfers, 0.0)
            for placement in outcome.placements:
                i, own, true = place[placement.ad_id], predicted[placement.ad_id], seen[placement.ad_id]
                own_clicks[i] += weight * own
                own_payments[i] += weight * own * placement.price
                clicks[i] += weight * true
                payments[i] += weight * true * placement.price
                utility[placement.ad_id] = own * (auction.bids[i].amount - placement.price)
            for ad_id, amount in outcome.transfers.items():
                own_payments[place[ad_id]] += weight * amount
                payments[place[ad_id]] += weight * amount
                utility[ad_id] -= amount
            for ad_id, left in utility.items():
                i = place[ad_id]
                if weight > 0 and left < -_ROUNDING * max(1.0, auction.bids[i].amount):
                    overcharged[i] = 1.0
        return list(made)

    async def _seen(self, case: AuditCase, auction: Auction, outcome: Outcome) -> dict[str, float]:
        """Click probabilities in the world; nan where the judge abstained."""
        key = auction.id, outcome.response
        if key not in self._judged:
            markup.verify(outcome, auction)
            feedback = await self._judge.judge(case.persona, auction, outcome)
            probs = {click.ad_id: _prob(click) for click in feedback.clicks}
            self._judged[key] = probs
            welfare = sum(
                value * probs.get(bid.ad.id, 0.0) for bid, value in zip(auction.bids, case.values, strict=True)
            )
            if welfare > self.best_welfare(case):  # never if it is nan
                self._best[case.auction.id] = float(welfare)
        return self._judged[key]


def _prob(click: Click) -> float:
    if click.click_prob is not None:
        return click.click_prob
    return math.nan if click.clicked is None else float(click.clicked)


async def _lottery(subject: Subject, auction: Auction) -> Lottery:
    if subject.replicas:
        return [(1.0, await run_mechanism(subject.mechanism, auction))]
    return await lottery_of(subject.mechanism, auction)


async def is_exact(mechanism: Mechanism, cases: Sequence[AuditCase]) -> bool:
    """Whether a mechanism is measured exactly; see the module.

    A lottery is taken at its word. Without one, an auction is run twice: with a generator that is looked at afterwards,
    and with all bids a tenth higher. The mechanism is sampled if it drew from its generator, or if what the language
    model was asked to sample from changed, which is tried in three auctions before it is believed.
    """
    cases = [case for case in cases if case.auction.bids][:_PROBED]
    if hasattr(mechanism, "lottery"):
        try:
            for case in cases[:1]:
                await lottery_of(mechanism, case.auction)
        except OutcomeError:
            raise
        except InputError:  # it does not know its distribution under its options
            return False
        return True
    for case in cases:
        asked = []
        for scale in (1.0, _SCALE):
            rng = _Watched(keyed_rng("mechanism", case.auction.id).bit_generator)
            with metered() as meter:
                await run_mechanism(_With(mechanism, rng), case.at(scale * case.values))
            if rng.drawn(case.auction.id):
                return False
            asked.append(_sampled_requests(meter.requests))
        if asked[0] == asked[1]:
            return True
    return not cases


class _Watched(np.random.Generator):
    """A generator of which one can tell afterwards whether anything was drawn."""

    def drawn(self, auction_id: str) -> bool:
        fresh = keyed_rng("mechanism", auction_id).bit_generator.state
        return bool(self.bit_generator.state != fresh)


class _With:
    """A mechanism that is run with a generator of ours."""

    def __init__(self, mechanism: Mechanism, rng: np.random.Generator) -> None:
        self._mechanism = mechanism
        self._rng = rng
        self.name = str(getattr(mechanism, "name", type(mechanism).__name__))

    def run(self, auction: Auction, rng: np.random.Generator) -> Any:
        return self._mechanism.run(auction, self._rng)


def _sampled_requests(requests: Sequence[AnyRequest]) -> frozenset[AnyRequest]:
    """Those whose answers are drawn: not scores, and not greedy completions."""
    return frozenset(r for r in requests if not isinstance(r, ScoreRequest) and r.sampling.temperature > 0)
