"""Sponsored questions: offers follow-up questions to a query; the chosen one is answered with the ad that won it.

Source: Bhawalkar, Psomas, Wang (2025), "Sponsored questions and how to auction them" (arXiv 2512.03975). No full text
could be had: the rules here are our reading of the abstract and of second-hand notes. A query is ambiguous; the engine
offers follow-up questions, and the one that the user chooses reveals the intent. With P(s | S) the probability that
question s is chosen from the set S that is offered, and q_i(s) that the ad of i is clicked in its answer:

joint     Chooses the m questions, and the ad of each answer, that maximise W = sum_(s in S) P(s | S) max_i b_i q_i(s).
          Charges VCG: i pays what the others lose by it, divided by its expected clicks X_i = sum over its questions of
          P(s | S) q_i(s), for every click. So nobody pays without a click, nor more than the bid.
modular   Sells questions and ads apart. Behind each question is a second-price ad auction, so an advertiser gains
          max(0, b_i q_i(s) - second(s)) from it, which is what it bids for the question. The m questions with the
          highest bids times weight are offered, and their winners pay the highest bid that lost, with the second price
          of the ad, for every click. It makes no claim.

Joint is truthful and efficient in its own model, in expectation over the user's choice as it predicts it. Modular may
lose any share of welfare (derived by us, a test has it): of one question that two advertisers value at H each and one
that a third values at e, it offers the second, because nobody gains from the first; the ratio H / e has no bound.

Our choices. P is Luce's rule with "none of them": P(s | S) = w_s / (w_0 + sum_(j in S) w_j), with the weights of
`simenv.judges.questions` for the profile in place of single interests. So W is a ratio of two linear functions of the
set: it is at least L if and only if the m largest w_s (max_i b_i q_i(s) - L) sum to at least L w_0 (Dinkelbach 1967).
Who chooses none is answered without ads. Exactly m questions are offered, where so many are known.
The reserve is a cost of each click. Candidates are the ads of the query; q_i(s) is the CTR model's relevance with the
cosine of ad and question. A model that follows formats writes the questions, in one call that shows it no bid; for
others they are those of a pack that are nearest to the query and to one of its ads, by the sum of the two cosines.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from simenv import Writer, outcome
from simenv.ctr.models import CosineCTR, CTRModel, Floats
from simenv.encoder import Encoder, Vectors, default_encoder
from simenv.errors import InputError
from simenv.files.prompts import read_prompt
from simenv.judges.click_worlds import QuestionParams
from simenv.judges.questions import choice_probs, log_weights
from simenv.llm import LLM, Sampling
from simenv.mechanism import Claim, Lottery
from simenv.one_thread import product
from simenv.records import Auction, Outcome, Query, Suggestion
from simenv.users.personas import load_personas
from simenv.users.queries import LLMQueries, load_queries

from .passages import in_context, with_cosines


class Plan(NamedTuple):
    """The questions that are offered, with the ad and the price of each."""

    places: list[int]
    """Places among the candidate questions."""
    winners: list[int | None]
    """Place of the advertiser whose ad each answer shows; None: no ad."""
    prices: list[float]
    """Payment per click above the reserve, in currency; 0 without an ad."""
    probs: Floats
    """P(s | S): shape (offered,)."""
    welfare: float
    """sum P(s | S) b_i q_i(s) of the winners, in currency per query."""


def best_questions(values: Floats, logs: Floats, none: float, offered: int) -> tuple[list[int], float]:
    """The set of questions with the greatest sum of P(s | S) values_s, and this sum.

    Args:
        values: Worth of each question if it is chosen, at least 0: shape (questions,).
        logs: ln w_s: shape (questions,).
        none: ln w_0.
        offered: Number of questions in a set; all, if there are fewer.
    """
    best: list[int] = []
    welfare = -1.0
    weights = np.exp(logs - max(none, float(logs.max(initial=none))))
    while True:
        gains = weights * (values - max(welfare, 0.0))
        places = sorted(range(len(values)), key=lambda s: (-gains[s], -weights[s]))[:offered]
        reached = float(choice_probs(logs[places], none) @ values[places])
        if not reached > welfare:
            return best, max(welfare, 0.0)
        best, welfare = places, reached


def joint(values: Floats, q: Floats, logs: Floats, none: float, offered: int) -> Plan:
    """The joint design: welfare over questions and ads, VCG prices per click.

    Args:
        values: Bid above the reserve of each advertiser, currency per click; those at 0 or below show no ad: (n,).
        q: Click probabilities by question and advertiser: shape (questions, n).
        logs, none, offered: As of `best_questions`.
    """
    worth = q * np.maximum(values, 0.0)
    places, welfare = best_questions(worth.max(1, initial=0.0), logs, none, offered)
    probs, winners = choice_probs(logs[places], none), [_winner(worth[s]) for s in places]
    clicks = np.zeros(len(values))
    for s, prob, winner in zip(places, probs, winners, strict=True):
        if winner is not None:
            clicks[winner] += prob * q[s, winner]
    per_click = {}
    for i in {winner for winner in winners if winner is not None}:
        others = np.where(np.arange(len(values)) == i, 0.0, worth).max(1, initial=0.0)
        loss = best_questions(others, logs, none, offered)[1] - (welfare - values[i] * clicks[i])
        per_click[i] = float(np.clip(loss / clicks[i], 0.0, values[i]))
    return Plan(places, winners, [0.0 if i is None else per_click[i] for i in winners], probs, welfare)


def modular(values: Floats, q: Floats, logs: Floats, none: float, offered: int) -> Plan:
    """The modular design: a second-price auction of questions, then one of ads; arguments as of `joint`."""
    worth = q * np.maximum(values, 0.0)
    ranked = np.sort(np.pad(worth, ((0, 0), (2, 0))), axis=1)
    best, second = ranked[:, -1], ranked[:, -2]
    weights = np.exp(logs - float(logs.max(initial=none)))
    bids = weights * (best - second)
    order = sorted(range(len(bids)), key=lambda s: (-bids[s], -weights[s]))
    places, lost = order[:offered], max((float(bids[s]) for s in order[offered:]), default=0.0)
    winners, prices = [_winner(worth[s]) for s in places], []
    for s, winner in zip(places, winners, strict=True):
        due = 0.0 if winner is None else (second[s] + lost / weights[s]) / q[s, winner]
        prices.append(0.0 if winner is None else float(min(due, values[winner])))
    probs = choice_probs(logs[places], none)
    return Plan(places, winners, prices, probs, float(probs @ best[places]))


def _winner(worth: Floats) -> int | None:
    return int(np.argmax(worth)) if worth.max(initial=0.0) > 0 else None


DESIGNS = {"joint": joint, "modular": modular}


class QuestionCTR:
    """Click probabilities of another model, with the cosines of the ads to the question that is answered.

    Args:
        base: Predicts a click from relevance.
        encoder: For the cosines; the embedded one by default.
    """

    def __init__(self, base: CTRModel, encoder: Encoder | None = None) -> None:
        self.base = base
        self.name = f"questions({base.name})"
        self.position_discount = base.position_discount
        self._encoder = encoder

    def relevance(self, auction: Auction) -> Floats:
        return self.base.relevance(auction)

    def click_probs(self, auction: Auction, response: str, shown: Sequence[str]) -> dict[str, float]:
        return self.base.click_probs(in_context(auction, "", self._encoder), response, shown)

    def by_question(self, auction: Auction, questions: Sequence[str]) -> Floats:
        """q_i(s): shape (questions, n)."""
        encoder = self._encoder or default_encoder()
        vectors = encoder.encode([*questions, *(bid.ad.text for bid in auction.bids)])
        rows = []
        for place, text in enumerate(questions):
            asked = auction.model_copy(update={"query": Query(text=text)})
            rows.append(self.base.relevance(with_cosines(asked, vectors[place], vectors[len(questions) :])))
        return np.array(rows, dtype=np.float64).reshape(len(questions), len(auction.bids))


class SponsoredQuestions:
    """Offers follow-up questions; the one that the user chooses is answered, with the ad that won it.

    Args:
        llm: The Ad-LLM.
        ctr_model: Gives q_i(s) from the cosine of ad and question.
        design: "joint": questions and ads by welfare, VCG prices. "modular": questions, then ads, by second price.
        offered: m, the number of questions offered.
        candidates: Number of questions to choose them from.
        questions: Where these come from. "written": the model writes them, in one call; of a reply without a readable
            question none is offered. "everyday": the queries of the persona pack that are nearest to the query and its
            ads. A pack or file of queries: the nearest of these. "auto": written by a model that follows formats,
            everyday for others.
        encoder: For cosines; the embedded one by default.

    Raises:
        InputError: another design, a number below 1, or fewer candidates than questions offered.
        DataFileError: the file of queries cannot be read.
    """

    name = "sponsored_questions"

    def __init__(
        self,
        llm: LLM,
        ctr_model: CTRModel | None = None,
        design: str = "joint",
        offered: int = 3,
        candidates: int = 8,
        questions: str = "auto",
        encoder: Encoder | None = None,
    ) -> None:
        if design not in DESIGNS:
            raise InputError(f"design must be 'joint' or 'modular', got {design!r}")
        for name, number in (("offered", offered), ("candidates", candidates)):
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise InputError(f"{name} must be a number of questions, 1 or more, got {number!r}")
        if candidates < offered:
            raise InputError(f"candidates must be at least offered, {offered}, got {candidates}")
        in_expectation = {
            Claim.RATIONAL_IN_EXPECTATION,
            Claim.MONOTONE_IN_EXPECTATION,
            Claim.TRUTHFUL_UM_IN_EXPECTATION,
        }
        self.claims = frozenset({Claim.INDIVIDUALLY_RATIONAL} | in_expectation if design == "joint" else ())
        self.ctr_model = QuestionCTR(ctr_model or CosineCTR(), encoder)
        self.design = design
        self.offered = offered
        self.candidates = candidates
        source = questions if questions != "auto" else "written" if llm.follows_formats else "everyday"
        self._pool = None if source == "written" else _pool(source)
        self._pool_vectors: Vectors | None = None
        self._choice = QuestionParams()
        self._encoder = encoder
        self._llm = llm
        self._writer = Writer(llm)

    @property
    def _encoder_now(self) -> Encoder:
        return self._encoder or default_encoder()

    async def offer(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        """The questions, each with its ad, price and predicted probability."""
        questions = await self.questions(auction)
        plan = self.plan(auction, questions)
        suggestions = [
            Suggestion(
                text=questions[place],
                ad_id=None if winner is None else auction.bids[winner].ad.id,
                price=None if winner is None else auction.reserve + price,
                prob=float(prob),
            )
            for place, winner, price, prob in zip(plan.places, plan.winners, plan.prices, plan.probs, strict=True)
        ]
        return Outcome(response="", suggestions=tuple(suggestions))

    async def answer(self, auction: Auction, offer: Outcome, chosen: int | None) -> Outcome:
        """The answer to the chosen question with its ad, or to the query without ads."""
        if chosen is None:
            return outcome(auction, await self._writer.answer(auction), suggestions=offer.suggestions)
        question = offer.suggestions[chosen]
        prices = {} if question.ad_id is None or question.price is None else {question.ad_id: question.price}
        asked = auction.answered(offer.model_copy(update={"chosen": chosen}))
        text = await self._writer.with_ads(asked, [auction.bid_of(ad_id).ad for ad_id in prices])
        return outcome(auction, text, prices, suggestions=offer.suggestions, chosen=chosen)

    async def run(self, auction: Auction, rng: np.random.Generator) -> Outcome:
        """Draws the choice from the predicted probabilities: for callers without a user."""
        offer = await self.offer(auction, rng)
        chances = _chances(offer)
        return await self.answer(auction, offer, list(chances)[int(rng.choice(len(chances), p=list(chances.values())))])

    async def lottery(self, auction: Auction) -> Lottery:
        """The answer to every choice, with its predicted probability."""
        offer = await self.offer(auction, np.random.default_rng(0))
        return [(prob, await self.answer(auction, offer, place)) for place, prob in _chances(offer).items()]

    async def questions(self, auction: Auction) -> list[str]:
        """The candidate questions. They do not depend on the bids."""
        if self._pool is not None:
            known = self._encoder_now.encode([auction.query.text, *(bid.ad.text for bid in auction.bids)])
            if self._pool_vectors is None:
                self._pool_vectors = self._encoder_now.encode(self._pool)
            cosines = product(self._pool_vectors, known.T)
            nearest = np.argsort(-(cosines[:, 0] + cosines[:, 1:].max(1, initial=0.0)), kind="stable")
            texts = [self._pool[place] for place in nearest[: self.candidates + 1]]
            return [text for text in texts if text != auction.query.text][: self.candidates]
        user = read_prompt(__package__ or "mechanisms", "follow_up_questions").format(
            k=self.candidates,
            query=auction.query.text,
            profile=auction.profile or "not known",
            kinds=", ".join(sorted({bid.ad.category for bid in auction.bids})) or "none",
        )
        reply = await self._llm.complete(user, key=(auction.id, "follow-ups"), sampling=Sampling(max_tokens=400))
        return [text for text in LLMQueries.read(reply.text) if text != auction.query.text][: self.candidates]

    def plan(self, auction: Auction, questions: Sequence[str]) -> Plan:
        """Which questions are offered, with which ads, at which prices."""
        q = self.ctr_model.by_question(auction, questions)
        values = np.array([bid.amount - auction.reserve for bid in auction.bids]) * (auction.max_ads > 0)
        known = [auction.profile] if auction.profile else []
        logs = (
            log_weights(self._encoder_now, self._choice, auction.query.text, known, questions)
            if questions
            else np.zeros(0)
        )
        return DESIGNS[self.design](values, q, logs, self._choice.none, self.offered)


def _chances(offer: Outcome) -> dict[int | None, float]:
    """Predicted probability of each choice; None: of none."""
    probs = [float(question.prob or 0.0) for question in offer.suggestions]
    return {**dict(enumerate(probs)), None: max(0.0, 1 - sum(probs))}


def _pool(source: str) -> tuple[str, ...]:
    """The distinct questions of a source."""
    return _everyday() if source == "everyday" else tuple(dict.fromkeys(it.text for it in load_queries(source)))


@cache
def _everyday() -> tuple[str, ...]:
    return tuple(dict.fromkeys(text for persona in load_personas() for text in persona.queries))
