"""Evaluates clicks and payments of one auction for a profile of bids. All parts of an audit use this experiment.

A mechanism is measured in one of two ways.

exact    It has a `lottery`, or its outcome depends neither on its random generator nor on texts that are sampled from
         prompts with bids. Keys then fix its texts, and expectations over its lottery are exact, given these texts.
sampled  It draws from its generator without a known lottery, or the language model samples from prompts that contain
         bids. Every auction is then run as several replicas. Each replica has its own draws, the same at every bid.

Where turns are linked, the experiment is a whole session (`simenv.auditing.session_case`): each advertiser has one bid
in it, and clicks and payments are sums over its turns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.auditing import session_case
from simenv.background_loop import gather
from simenv.check.draws import has_drawn
from simenv.ctr.models import CTRModel, Floats
from simenv.errors import InputError, OutcomeError
from simenv.judges.base import Judge, ask_choice, run_judge
from simenv.llm.base import AnyRequest, ScoreRequest, metered
from simenv.mechanism import Lottery, Mechanism, Randomised, lottery_of, mechanism_rng, run_mechanism
from simenv.records import Auction, Click, Outcome, Persona, ShownAd, Suggestion
from simenv.session_play import answering, play_order
from simenv.sessions import SessionStart

Bools = npt.NDArray[np.bool_]

_PROBE_AUCTIONS = 3
_PROBE_BID_SCALE = 1.1
"""Factor on all bids at once: the allocation of most mechanisms stays the same, but a prompt with bids changes."""
_ROUNDING = 1e-9


class AuditCase(NamedTuple):
    """One auction, or session of linked turns, in which every advertiser bids its value."""

    persona: Persona
    auction: Auction
    """Of a session: `session_case.whole_session`."""
    values: Floats
    """Value of every candidate, currency per click, or per view if it bids per view: shape (n,)."""
    clicks_per_unit: Floats
    """Clicks that every advertiser expects of a unit of its bid, 1 for a bid per click: shape (n,)."""
    start: SessionStart | None = None
    """The session; None: a single auction."""

    def at(self, bids: Floats, replica: int | None = None) -> Auction:
        """Returns the auction with other bids, shape (n,). A replica has its own id, and so its own draws."""
        changed = tuple(
            bid if bid.amount == amount else bid.model_copy(update={"amount": float(amount)})
            for bid, amount in zip(self.auction.bids, bids, strict=True)
        )
        name = self.auction.id if replica is None else f"{self.auction.id}~{replica}"
        return self.auction.model_copy(update={"id": name, "bids": changed})

    async def draws(self, mechanism: Mechanism, bids: Floats) -> bool:
        """Runs the mechanism once at other bids, shape (n,): whether it drew from its generator."""
        if self.start is None:
            return await _draws(mechanism, self.at(bids))
        start = session_case.at(self.start, bids.tolist(), [bid.ad.id for bid in self.auction.bids], None)
        answers, turns = answering(mechanism, start), await play_order(mechanism, start, range(start.horizon))
        return any([await _draws(answers, turn.auction) for turn in turns])


class AuditedMechanism(NamedTuple):
    """A mechanism under audit."""

    label: str
    mechanism: Mechanism
    ctr_model: CTRModel
    """The mechanism's CTR model, or the audit's if the mechanism has none."""
    replicas: int
    """Number of replicas of each auction; 0 if the mechanism is measured exactly."""


class BidOutcome(NamedTuple):
    """Clicks and payments of all candidates at one profile of bids.

    Each array has shape (replicas, n), with one row if the mechanism is measured exactly. Clicks and payments are
    expectations per answer; those of the world are nan where the judge abstained. The clicks of an advertiser that bids
    per view are views here and in all that follows: 1 where the ad is shown.
    """

    own_clicks: Floats
    """By the CTR model of the `AuditedMechanism`."""
    own_payments: Floats
    clicks: Floats
    """In the world."""
    payments: Floats
    overcharged: Floats
    """1 if a possible outcome charges an advertiser more than bid x predicted clicks in this outcome, else 0."""


class BidEvaluator:
    """Runs mechanisms at profiles of bids and caches the judge's feedback, so that each text is judged once.

    Args:
        judge: The judge of the world. A verdict without probability counts as the probability 0 or 1.
    """

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._judged: dict[tuple[str, str, tuple[ShownAd, ...], str], dict[str, float]] = {}
        self._chosen: dict[tuple[str, tuple[tuple[str, bool], ...]], dict[int | None, float]] = {}
        self._best: dict[str, float] = {}

    def best_welfare(self, case: AuditCase) -> float:
        """Returns the highest welfare of any answer to this auction so far, currency per answer; of a session the
        highest expected welfare of all its answers."""
        return self._best.get(case.auction.id, 0.0)

    async def play(
        self, subject: AuditedMechanism, case: AuditCase, bids: Floats, replicas: Sequence[int] | None = None
    ) -> BidOutcome:
        """Evaluates one profile of bids, shape (n,), on all replicas or on the given ones."""
        numbers: Sequence[int | None] = [None]
        if subject.replicas:
            numbers = range(subject.replicas) if replicas is None else replicas
        rows = await gather([self._row(subject, case, bids, number) for number in numbers])
        return BidOutcome(*(np.array(column) for column in zip(*rows, strict=True)))

    async def _row(self, subject: AuditedMechanism, case: AuditCase, bids: Floats, replica: int | None) -> list[Floats]:
        """Returns the fields of a `BidOutcome` for one replica, each of shape (n,)."""
        place = {bid.ad.id: i for i, bid in enumerate(case.auction.bids)}
        fields = np.zeros((5, len(place)))
        own_clicks, own_payments, clicks, payments, overcharged = fields
        answers = await _answers(subject, case, bids, replica)
        chances = await self._world_chances(subject, case, answers)
        for (weight, auction, outcome), chance in zip(answers, chances, strict=True):
            shown = [placement.ad_id for placement in outcome.placements]
            answered = auction.answered(outcome)
            predicted = subject.ctr_model.click_probs(answered, outcome.response, shown) if shown else {}
            world = await self._world_click_probs(case, auction, outcome)
            utility = dict.fromkeys(outcome.transfers, 0.0)
            for placement in outcome.placements:
                i, own, true = place[placement.ad_id], predicted[placement.ad_id], world[placement.ad_id]
                bid = auction.bid_of(placement.ad_id)
                own_clicks[i] += weight * bid.units(own)
                own_payments[i] += weight * own * placement.price
                clicks[i] += chance * bid.units(true)
                payments[i] += chance * true * placement.price
                utility[placement.ad_id] = bid.units(own) * bid.amount - own * placement.price
            for ad_id, amount in outcome.transfers.items():
                own_payments[place[ad_id]] += weight * amount
                payments[place[ad_id]] += chance * amount
                utility[ad_id] -= amount
            for ad_id, amount in utility.items():
                i = place[ad_id]
                if weight > 0 and amount < -_ROUNDING * max(1.0, float(bids[i])):
                    overcharged[i] = 1.0
        if case.start is not None or any(outcome.suggestions for *_, outcome in answers):
            self._keep_best(case, clicks)
        return list(fields)

    async def _world_chances(
        self, subject: AuditedMechanism, case: AuditCase, answers: Sequence[tuple[float, Auction, Outcome]]
    ) -> list[float]:
        """Probability of each answer in the world: its weight, with users who choose questions as the judge does.

        A single draw has the choice that the mechanism predicts, in the world too.

        Raises:
            InputError: there are questions, and the judge gives no probabilities of choosing them.
        """
        if subject.replicas:
            return [weight for weight, *_ in answers]
        offered: dict[tuple[str, tuple[Suggestion, ...]], float] = {}
        known: dict[tuple[str, tuple[Suggestion, ...]], dict[int | None, float]] = {}
        for weight, auction, outcome in answers:
            key = auction.id, outcome.suggestions
            offered[key] = offered.get(key, 0.0) + weight
            if outcome.suggestions and key not in known:
                known[key] = await self._choice_probs(case, auction, outcome.suggestions)
        keyed = [((auction.id, outcome.suggestions), weight, outcome) for weight, auction, outcome in answers]
        return [weight if key not in known else offered[key] * known[key][it.chosen] for key, weight, it in keyed]

    async def _choice_probs(
        self, case: AuditCase, auction: Auction, suggestions: tuple[Suggestion, ...]
    ) -> dict[int | None, float]:
        key = auction.id, tuple((it.text, it.ad_id is not None) for it in suggestions)
        if key not in self._chosen:
            probs = (await ask_choice(self._judge, case.persona, auction, suggestions)).probs
            if probs is None:
                raise InputError(
                    f"judge {self._judge.name!r} gives no probabilities of follow-up questions, which an audit needs",
                    hint="ask it for several samples, or take the judge click",
                )
            self._chosen[key] = {**dict(enumerate(probs)), None: max(0.0, 1 - sum(probs))}
        return self._chosen[key]

    async def _world_click_probs(self, case: AuditCase, auction: Auction, outcome: Outcome) -> dict[str, float]:
        """Returns the click probabilities in the world; nan where the judge abstained."""
        key = auction.id, auction.answered(outcome).query.text, auction.shown, outcome.response
        if key not in self._judged:
            markup.verify(outcome, auction)
            feedback = await run_judge(self._judge, case.persona, auction, outcome)
            probs = {click.ad_id: _prob(click) for click in feedback.clicks}
            self._judged[key] = probs
            if case.start is None and not outcome.suggestions:  # else the user chose it, and no bids can
                shown = [bid.units(probs[bid.ad.id]) if bid.ad.id in probs else 0.0 for bid in auction.bids]
                self._keep_best(case, np.array(shown))
        return self._judged[key]

    def _keep_best(self, case: AuditCase, clicks: Floats) -> None:
        """Keeps the highest welfare; of an ad whose bid is per view, its views count as clicks."""
        welfare = float(clicks @ case.values)
        if welfare > self.best_welfare(case):  # False if welfare is nan
            self._best[case.auction.id] = welfare


def _prob(click: Click) -> float:
    if click.click_prob is not None:
        return click.click_prob
    return math.nan if click.clicked is None else float(click.clicked)


async def _lottery(subject: AuditedMechanism, auction: Auction) -> Lottery:
    if subject.replicas:
        return [(1.0, await run_mechanism(subject.mechanism, auction))]
    return await lottery_of(subject.mechanism, auction)


async def _answers(
    subject: AuditedMechanism, case: AuditCase, bids: Floats, replica: int | None
) -> list[tuple[float, Auction, Outcome]]:
    """Every answer at these bids with its probability and its auction."""
    if case.start is None:
        auction = case.at(bids, replica)
        return [(weight, auction, outcome) for weight, outcome in await _lottery(subject, auction)]
    start = session_case.at(case.start, bids.tolist(), [bid.ad.id for bid in case.auction.bids], replica)
    turns = await session_case.played(subject.mechanism, start, replica)
    return [(turn.weight, turn.auction, turn.outcome) for turn in turns]


async def _draws(mechanism: Mechanism, auction: Auction) -> bool:
    rng = mechanism_rng(auction)
    await run_mechanism(mechanism, auction, rng)
    return has_drawn(rng, auction)


async def is_exact(mechanism: Mechanism, cases: Sequence[AuditCase]) -> bool:
    """Returns whether a mechanism is measured exactly; the module docstring defines this.

    A mechanism with a lottery is exact; its lottery is not tested here. Otherwise an auction is run at truthful bids
    and with all bids a tenth higher, and the state of the generator is compared before and after each run. The
    mechanism is sampled if it drew from its generator, or if the requests for sampled texts differ between the runs in
    three auctions. A session is probed in one order of its questions. Lotteries of turns are not joined to one of the
    session, so that a mechanism with a lottery is sampled there.
    """
    cases = [case for case in cases if case.auction.bids][:_PROBE_AUCTIONS]
    if isinstance(mechanism, Randomised):
        if any(case.start is not None for case in cases):
            return False
        try:
            for case in cases[:1]:
                await lottery_of(mechanism, case.auction)
        except OutcomeError:
            raise
        except InputError:  # the lottery is unknown with these options
            return False
        return True
    for case in cases:
        requests = []
        for scale in (1.0, _PROBE_BID_SCALE):
            with metered() as meter:
                if await case.draws(mechanism, scale * case.values):
                    return False
            requests.append(_sampled_requests(meter.requests))
        if requests[0] == requests[1]:
            return True
    return not cases


def _sampled_requests(requests: Sequence[AnyRequest]) -> frozenset[AnyRequest]:
    """Returns the requests with random replies: neither scores nor greedy completions."""
    return frozenset(r for r in requests if not isinstance(r, ScoreRequest) and r.sampling.temperature > 0)
