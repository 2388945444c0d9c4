"""The world: personas, market, judge and objective. Environments, runs and audits build it here.

A session belongs to one persona; its turns are auctions. Every draw is keyed by the auction's id, so two mechanisms
that answer the same auction get the same values, bids and user. In a world of linked turns (`simenv.sessions`) values
and bids are drawn once for a session, and are keyed by its id.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from simenv import markup
from simenv.abilities import Prepares
from simenv.charges import refuse_overcharges
from simenv.choosing import answer_with_user
from simenv.conversions import Conversions
from simenv.deadlines import check_timeout, time_limit
from simenv.encoder import Encoder, know
from simenv.errors import InputError, LLMRefused, PlugInFailed, SimenvError, UnknownName
from simenv.importing import reason
from simenv.judges.base import Judge, Remembers, run_judge
from simenv.llm.base import Meter, metered
from simenv.market.bidders import Bidder, BidRequest, ShadedBidder
from simenv.market.retrieval import Retriever
from simenv.market.units import CLICKS_PER_VIEW, check_view_bids, unit_of
from simenv.market.values import UniformValues, ValueDistribution
from simenv.mechanism import Mechanism, Suggests, mechanism_name, run_mechanism
from simenv.objective import Objective
from simenv.quality.embedded import QualityMeasure
from simenv.records import Ad, Auction, Bid, Failure, Feedback, Outcome, Persona, Query, Transition, Unit, Usage
from simenv.seeding import keyed_rng
from simenv.sessions import TURNS, SessionMechanism, SessionStart
from simenv.settlement import settle
from simenv.users.queries import FrozenQueries, QuerySource, Question, deal_personas

T = TypeVar("T")

_MEMORY = 1024
"""Auctions whose candidates and values are kept: more than a run has under way at once."""


class Session(NamedTuple):
    """A session: one persona with its queries."""

    id: str
    persona: Persona
    questions: list[Question]


class World:
    """Personas, market, judge and objective.

    Args:
        catalog: The ads.
        personas: The users.
        encoder: Text encoder of the retrieval.
        queries: Source of the sessions' queries.
        judge: Decides clicks.
        bidder: Turns values into bids.
        values: Draws the advertisers' values per click.
        objective: The platform's reward.
        candidates: Ads per auction, by retrieval.
        max_ads: Number of ads without penalty.
        reserve: Reserve price, currency per click.
        horizon: Queries per session; the paper has five.
        quality: Measures answer quality; None: quality is not measured.
        ad_free: The mechanism "organic", whose answer without ads is the reference of the quality loss.
        answer_timeout: Seconds that a mechanism has for each answer, and a judge for each verdict; None: no limit. It
            is wall time, in which other answers may run at once. Code that waits is cancelled; code that never awaits
            cannot be ended, so its thread is left behind (`simenv.background_loop.run_sync`).
        strict: Whether charges that no bid covers (`simenv.charges`) are errors; otherwise transitions list them.
        conversions: The stage after the click; None: users do nothing after it.
        turns: How the turns of a session relate (`simenv.sessions`): "apart", "linked", or "auto": linked if the judge
            remembers ads.
        view_bids: Share of the advertisers who bid, and value an ad, per view instead of per click: drawn by the ad's
            id, so that an ad bids for the same unit in every auction.
        clicks_per_view: Clicks that such an advertiser expects of a view: its value per view is this times the value
            per click that `values` draws.

    Raises:
        InputError: a pack is empty, ids are duplicate, or a number is out of range.
    """

    def __init__(
        self,
        *,
        catalog: Sequence[Ad],
        personas: Sequence[Persona],
        encoder: Encoder,
        queries: QuerySource,
        judge: Judge,
        bidder: Bidder | None = None,
        values: ValueDistribution | None = None,
        objective: Objective | None = None,
        candidates: int = 8,
        max_ads: int = 2,
        reserve: float = 0.0,
        horizon: int = 5,
        quality: QualityMeasure | None = None,
        ad_free: Mechanism | None = None,
        answer_timeout: float | None = None,
        strict: bool = False,
        conversions: Conversions | None = None,
        turns: str = "auto",
        view_bids: float = 0.0,
        clicks_per_view: float = CLICKS_PER_VIEW,
    ) -> None:
        if not personas:
            raise InputError("there are no personas")
        check_view_bids(view_bids, clicks_per_view)
        for name, number, least in (("horizon", horizon, 1), ("max_ads", max_ads, 0), ("reserve", reserve, 0)):
            if not number >= least:
                raise InputError(f"{name} must be at least {least}, got {number}")
        check_timeout(answer_timeout)
        if turns not in TURNS:
            raise UnknownName("way to relate turns", turns, TURNS)
        self.linked = turns == "linked" or (turns == "auto" and isinstance(judge, Remembers) and judge.remembers)
        """Whether the turns of a session are linked."""
        self.personas = tuple(personas)
        self.retriever = Retriever(catalog, encoder, candidates)
        self.queries = queries
        self.judge = judge
        self.bidder = bidder or ShadedBidder()
        self.values = values or UniformValues()
        self.objective = objective or Objective()
        self.max_ads = max_ads
        self.reserve = reserve
        self.horizon = horizon
        self.quality = quality
        self.ad_free = ad_free
        self.answer_timeout = answer_timeout
        self.strict = strict
        self.conversions = conversions
        self.view_bids = view_bids
        self.clicks_per_view = clicks_per_view
        self._prepared = False
        self._known_candidates: dict[str, list[tuple[Ad, float]]] = {}
        self._known_values: dict[str, tuple[tuple[Ad, ...], dict[str, float]]] = {}

    def prepare(self, watch: Callable[[int, int], None] = lambda done, total: None) -> None:
        """Computes what is computed once: the catalog's vectors and the judge's cues. Otherwise the first answer does.

        Args:
            watch: Called while a new catalog is encoded, with the number of ads that are done and of all.
        """
        self.retriever.prepare(watch)
        if not self._prepared and isinstance(self.judge, Prepares):
            self.judge.prepare()
        self._prepared = True

    async def session(self, seed: int, number: int, persona_id: str | None = None, *, encoded: bool = True) -> Session:
        """Session `number` of the run `seed`: its persona in turn (or the one named) and its queries.

        Args:
            seed, number, persona_id: Which session.
            encoded: Whether the queries' vectors are computed now, all at once; not where another process answers.

        Raises:
            InputError: the persona does not exist, or there are too few frozen queries.
            UnreadableReply: the User-LLM did not write enough queries.
        """
        if persona_id is None:
            persona = deal_personas(self.personas, seed, number)
        else:
            persona = next((p for p in self.personas if p.id == persona_id), self.personas[0])
            if persona.id != persona_id:
                known = ", ".join(p.id for p in self.personas[:8])
                raise InputError(f"unknown persona {persona_id!r}: the pack has {len(self.personas)}, such as {known}")
        questions = await self.queries.session(persona, self.horizon, seed, number)
        session = Session(f"{seed}.{number}.{persona.id}", persona, questions)
        possible = self._possible(session) if self.linked else questions
        if self.linked:
            order = keyed_rng("question order", session.id).permutation(len(possible))
            session = session._replace(questions=[possible[i] for i in order[: self.horizon]])
        if encoded:
            await know(self.retriever.encoder, [question.text for question in possible])
        return session

    def auction(self, session: Session, turn: int, bidder: Bidder | None = None) -> Auction:
        """The auction of one turn: candidates by retrieval, bids from private values.

        Where turns are linked it knows nothing of the turns before: `simenv.conversation.Conversation` does.

        Args:
            session, turn: Session and turn of the auction.
            bidder: The bidder; the world's bidder by default.

        Raises:
            InputError: a bid is negative or not finite.
        """
        bidder = bidder or self.bidder
        if self.linked:
            start, asked = self.start(session, bidder), session.questions[: turn + 1]
            return start.auction(start.numbers(question.text for question in asked))
        auction_id = f"{session.id}.{turn}"
        candidates = self._candidates(session.questions[turn].text)
        values = self._values(auction_id, auction_id, tuple(ad for ad, _ in candidates))
        amounts = {
            ad.id: self._bid(bidder, BidRequest(auction_id, session.id, turn, ad, values[ad.id]))
            for ad, _ in candidates
        }
        return self._auction(session, session.questions[turn], auction_id, turn, amounts)

    def start(self, session: Session, bidder: Bidder | None = None) -> SessionStart:
        """A session of linked turns before its first one: its possible questions, and the bids for all of it.

        Args:
            session: The session.
            bidder: The bidder; the world's bidder by default. It bids once per ad.

        Raises:
            InputError: a bid is negative or not finite.
        """
        bidder = bidder or self.bidder
        questions = sorted(self._possible(session))
        ads = {ad.id: ad for question in questions for ad, _ in self._candidates(question.text)}
        values = self._values(session.id, session.id, tuple(ads.values()))
        turns = len(session.questions)
        amounts = {
            ad.id: self._bid(bidder, BidRequest(session.id, session.id, 0, ad, values[ad.id], turns=turns))
            for ad in ads.values()
        }
        auctions = (
            self._auction(session, question, f"{session.id}.q{number}", 0, amounts, horizon=turns)
            for number, question in enumerate(questions)
        )
        return SessionStart(id=session.id, auctions=tuple(auctions))

    def _bid(self, bidder: Bidder, request: BidRequest) -> float:
        unit, clicks = self.unit_of(request.ad), self.clicks_per_unit(request.ad)
        return _amount(bidder, request._replace(unit=unit, clicks=clicks))

    def _possible(self, session: Session) -> list[Question]:
        """The questions that a session of linked turns may have: all of the persona's frozen ones, or the session's."""
        if not isinstance(self.queries, FrozenQueries):
            return session.questions
        frozen = [Question(text) for text in session.persona.queries]
        return frozen if set(session.questions) <= set(frozen) else session.questions

    def _auction(
        self,
        session: Session,
        question: Question,
        auction_id: str,
        turn: int,
        amounts: Mapping[str, float],
        horizon: int | None = None,
    ) -> Auction:
        return Auction(
            id=auction_id,
            session_id=session.id,
            turn=turn,
            horizon=horizon,
            query=Query(text=question.text, topic=question.topic),
            profile=session.persona.profile,
            bids=tuple(
                Bid(ad=ad, amount=amounts[ad.id], relevance=relevance, unit=self.unit_of(ad))
                for ad, relevance in self._candidates(question.text)
            ),
            max_ads=self.max_ads,
            reserve=self.reserve,
        )

    async def step(
        self,
        session: Session,
        turn: int,
        action: Mechanism | Outcome,
        *,
        index: int = 0,
        name: str | None = None,
        auction: Auction | None = None,
    ) -> Transition:
        """Runs the mechanism (or uses the outcome), judges clicks, measures quality, and computes payments and rewards.

        Args:
            session, turn: Session and turn of the auction.
            action: The mechanism, or the outcome.
            index: Position in the run, for the transition.
            name: The mechanism's name in the transition; its own name by default.
            auction: The auction; built if it is not given.

        Raises:
            InputError: a session mechanism where turns are apart.
            OutcomeError: the outcome breaks the rules of its auction.
            MechanismFailed: the mechanism's own code raised, or it is late.
            PlugInFailed: the judge's own code raised, its clicks are not of the ads that the answer shows, or it is
                late.
        """
        if isinstance(action, SessionMechanism) and not self.linked:
            raise InputError(
                f"{mechanism_name(action)} commits to bids for a session, and the turns of this world are apart",
                hint='make it with turns="linked"',
            )
        auction = auction or self.auction(session, turn)
        if self.answer_timeout is not None:
            self.prepare()
        with time_limit(self.answer_timeout):
            return await self._step(session, turn, action, index, name, auction)

    async def _step(
        self, session: Session, turn: int, action: Mechanism | Outcome, index: int, name: str | None, auction: Auction
    ) -> Transition:
        # Before the mechanism, so that a local model gets the same batches as without quality measures. After a choice,
        # the reference is the answer to the question that was chosen.
        asks = isinstance(action, Suggests) or (isinstance(action, Outcome) and action.chosen is not None)
        if not asks:
            plain, plain_meter = await self._answer_without_ads(auction)
        choice, choice_usage = None, Usage()
        with metered() as mechanism_meter:
            if isinstance(action, Outcome):
                name, outcome = name or "outcome", action
            elif isinstance(action, Suggests):
                name = name or mechanism_name(action)
                outcome, choice, choice_usage = await answer_with_user(action, auction, self.judge, session.persona)
            else:
                name, outcome = name or mechanism_name(action), await run_mechanism(action, auction)
        self.verify(outcome, auction, name)
        feedback = await run_judge(self.judge, session.persona, auction, outcome)
        if choice is not None:
            feedback = feedback.model_copy(update={"choice": choice, "usage": feedback.usage + choice_usage})
        if self.quality is not None:
            answered = auction.answered(outcome)
            if asks:
                plain, plain_meter = await self._answer_without_ads(answered)
            measured = await self.quality.measure(session.persona, answered, outcome, plain)
            extra = Usage() if set(plain_meter.requests) <= set(mechanism_meter.requests) else plain_meter.usage
            feedback = _with_quality(feedback, measured, extra)
        values = self._values_in(auction)
        if self.conversions is not None:
            per_click = {bid.ad.id: values[bid.ad.id] / self.clicks_per_unit(bid.ad) for bid in auction.bids}
            feedback = self.conversions.after(session.persona, auction, feedback, per_click)
        return settle(
            auction,
            outcome,
            feedback,
            values,
            self.objective,
            index=index,
            mechanism=name,
            persona_id=session.persona.id,
            turn=turn,
        )

    def verify(self, outcome: Outcome, auction: Auction, name: str = "outcome") -> None:
        """Raises OutcomeError if the outcome breaks the rules of its auction; in a strict world if it overcharges too.

        Args:
            outcome, auction: What is checked.
            name: The mechanism that the error names.
        """
        markup.verify(outcome, auction)
        if self.strict:
            refuse_overcharges(auction, outcome, name)

    def failed(
        self, session: Session, turn: int, error: Failure, *, index: int, name: str, auction: Auction
    ) -> Transition:
        """The row of an answer that failed: it has the auction and the values, and neither outcome nor clicks."""
        return Transition(
            index=index,
            mechanism=name,
            persona_id=session.persona.id,
            turn=turn,
            auction=auction,
            outcome=Outcome(response=""),
            feedback=Feedback(),
            values=self._values_in(auction),
            payments={},
            expected_payments=None,
            reward=None,
            expected_reward=None,
            error=error,
        )

    def unit_of(self, ad: Ad) -> Unit:
        """What the ad's advertiser bids for."""
        return unit_of(ad, self.view_bids)

    def value_of(self, auction_id: str, ad: Ad) -> float:
        """The private value of the ad's advertiser in an auction: currency per click, or per view if it bids per view.

        Raises:
            InputError: the distribution gives a number that is negative or not finite.
        """
        value = self.values.value(auction_id, ad)
        if not 0 <= value < math.inf:
            name = self.values.name
            raise InputError(f"values {name!r} give {value} for {ad.id}: expected a finite number, at least 0")
        return value * self.clicks_per_unit(ad)

    def clicks_per_unit(self, ad: Ad) -> float:
        """Clicks that the ad's advertiser expects of a unit of its bid: 1 if it bids per click."""
        return self.clicks_per_view if self.unit_of(ad) == "view" else 1.0

    def without(self, ads: Iterable[str]) -> World:
        """Returns the same world without the ads of these ids: in their place the next ones become candidates.

        Users, queries, values and draws of all other ads are the same.
        """
        other = copy.copy(self)
        other.retriever = self.retriever.without(ads)
        other._known_candidates, other._known_values = {}, {}
        return other

    def _candidates(self, query: str) -> list[tuple[Ad, float]]:
        """What retrieval gives for a query, looked up once for all mechanisms that answer it."""
        known = self._known_candidates.get(query)
        if known is None:
            known = self.retriever.top(query)
            _remember(self._known_candidates, query, known)
        return known

    def _values_in(self, auction: Auction) -> dict[str, float]:
        """The values of an auction's candidates by id."""
        key = auction.session_id if self.linked else auction.id
        return self._values(auction.id, key, tuple(bid.ad for bid in auction.bids))

    def _values(self, auction_id: str, key: str, ads: tuple[Ad, ...]) -> dict[str, float]:
        """The values of these ads by id, drawn by key once for all mechanisms that answer the auction."""
        known = self._known_values.get(auction_id)
        if known is None or known[0] != ads:
            known = ads, {ad.id: self.value_of(key, ad) for ad in ads}
            _remember(self._known_values, auction_id, known)
        return known[1]

    async def _answer_without_ads(self, auction: Auction) -> tuple[str | None, Meter]:
        """Returns the answer without ads, if quality needs it, and the meter of its requests.

        The answer is None if the model refuses or a cassette has no record of it: an unknown quality of one answer must
        not end a run.
        """
        with metered() as meter:
            if self.quality is None or self.ad_free is None:
                return None, meter
            try:
                return (await run_mechanism(self.ad_free, auction)).response, meter
            except LLMRefused:
                return None, meter


def _remember(known: dict[str, T], key: str, item: T) -> None:
    if len(known) >= _MEMORY:
        known.clear()
    known[key] = item


def _with_quality(feedback: Feedback, measured: Feedback, extra: Usage) -> Feedback:
    """Adds the quality measure's results to the judge's feedback; `extra` is the usage of the ad-free answer."""
    quality = measured.quality and measured.quality.model_copy(update={"usage": measured.quality.usage + extra})
    satisfaction = feedback.satisfaction if measured.satisfaction is None else measured.satisfaction
    return feedback.model_copy(update={"satisfaction": satisfaction, "quality": quality})


def _amount(bidder: Bidder, request: BidRequest) -> float:
    try:
        amount = float(bidder.bid(request))
    except SimenvError:
        raise
    except Exception as error:
        raise PlugInFailed(f"bidder {bidder.name!r} raised {reason(error)} for {request.ad.id}") from error
    if not 0 <= amount < math.inf:
        got = f"bidder {bidder.name!r} bids {amount} for {request.ad.id}"
        raise InputError(f"{got}: expected a finite number, at least 0")
    return amount
