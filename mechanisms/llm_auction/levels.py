"""The policy interface of IRPO: draw responses, build their outcomes for a judge, and give their log-probabilities.

Links      a response is a choice of links. Its answer is a draft that uses the ads' own copy in place of written
           sentences. On a CPU, writing every sampled answer would cost a hundred times as much as the training.
           `benchmarks/paper.py` measures a policy trained on drafts with written answers.
Answers    a response is a whole answer, written in one call with the paper's prompt, for capable models.
Pages      a response is a whole answer in the written format (`written.py`), for small models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch

from simenv import markup
from simenv.background_loop import gather, run_sync
from simenv.ctr.models import CTRModel
from simenv.judges.base import Judge, run_judge
from simenv.judges.click_model import ClickModel
from simenv.llm import LLM, Prompt, Sampling
from simenv.objective import Objective
from simenv.records import Auction, Click, Outcome, Persona
from simenv.seeding import keyed_rng
from simenv.world import World
from simenv.writer.choices import one_call_prompt

from . import sampling, written
from .policy import AdaptedLLM, cell
from .served import AdapterServer
from .slim import Choice, Offer, Score, offer

Floats = npt.NDArray[np.float64]
Response = Any
"""A `Choice` or a text, depending on the level."""


class Episode(NamedTuple):
    """One auction, its user, and the offer that the policy chooses from at link level."""

    persona: Persona
    auction: Auction
    offer: Offer
    plain: bool = False
    """Whether its question is known to have no commercial intent."""


class Drawn(NamedTuple):
    """A sampled response and its log-probability."""

    response: Response
    logp: float


class Group(NamedTuple):
    """The distinct sampled responses to one auction."""

    responses: list[Response]
    ref_logps: list[float]
    rewards: list[float]

    def only(self, places: Sequence[int]) -> Group:
        """Some of the responses."""
        return Group(*([column[i] for i in places] for column in self))


class Seen(NamedTuple):
    """An answer that a user sees in phase 1."""

    episode: Episode
    outcome: Outcome
    logged: frozenset[str]
    """Ids of the ads whose clicks are logged."""


class Level(Protocol):
    """A kind of response: see the module docstring."""

    def respond(self, auctions: Sequence[Episode], count: int, key: str, *, scored: bool = True) -> list[list[Drawn]]:
        """`count` independent responses to each auction; the draw is keyed by the auction and `key`.

        Without `scored`, log-probabilities may be nan where they cost a pass of their own.
        """
        ...

    def deployed(self, auctions: Sequence[Episode], key: str, *, scored: bool = True) -> list[list[Drawn]]:
        """A response to each auction, sampled as the mechanism samples its own; [] where it is blank.

        Without `scored`, log-probabilities may be nan where they cost a pass of their own.
        """
        return self.respond(auctions, 1, key, scored=scored)

    def of(self, episode: Episode) -> Level:
        """The level of an auction's responses: this one, unless auctions differ in it."""
        return self

    def outcome(self, episode: Episode, response: Response) -> Outcome:
        """The outcome for the judge, at first price."""
        ...

    def logps(self, batch: Sequence[tuple[Episode, Sequence[Response]]]) -> list[torch.Tensor]:
        """Log-probabilities of responses, differentiable: one tensor of shape (responses,) per auction."""
        ...

    def choices(self, logps: torch.Tensor, group: Group) -> list[tuple[torch.Tensor, Group]]:
        """The choices that the responses to an auction are made of, each with the log-probabilities of its options.

        The loss of an auction is the mean of theirs. Here it is a single choice, among the responses.
        """
        return [(logps, group)]

    def seen(self, auctions: Sequence[Episode], count: int) -> list[Seen]:
        """What users see in phase 1: `count` answers of each auction."""
        drawn = self.respond(auctions, count, "clicks", scored=False)
        pairs = zip(auctions, drawn, strict=True)
        return [whole(episode, self.outcome(episode, one.response)) for episode, answers in pairs for one in answers]


def whole(episode: Episode, outcome: Outcome) -> Seen:
    """An answer all of whose ads are logged."""
    return Seen(episode, outcome, frozenset(placement.ad_id for placement in outcome.placements))


def episodes(
    world: World,
    n: int,
    seed: int,
    *,
    show_score: bool = True,
    score: Score = "retriever",
    ctr: CTRModel | None = None,
    places: int | None = None,
) -> list[Episode]:
    """Auctions 0..n-1 of the run `seed`. `show_score`, `score`, `ctr`, `places`: see `offer`."""

    async def draw() -> list[Episode]:
        drawn = []
        for number in range(-(-n // world.horizon)):
            session = await world.session(seed, number)
            auctions = [world.auction(session, turn) for turn in range(world.horizon)]
            drawn += [
                Episode(
                    session.persona,
                    auction,
                    offer(auction, show_score=show_score, score=score, ctr=ctr, places=places),
                )
                for auction in auctions
            ]
        return drawn[:n]

    return run_sync(draw)


class Links(Level):
    """Responses are choices of links; their distribution is exact.

    Args:
        policy: The model with its adapter.
        batch: Auctions per forward pass without gradients.
    """

    def __init__(self, policy: AdaptedLLM, batch: int = 8) -> None:
        self.policy = policy
        self._batch = batch

    @torch.no_grad()
    def distributions(self, auctions: Sequence[Episode]) -> list[torch.Tensor]:
        """The policy's exact distribution in every auction: see `AdaptedLLM.log_probs`."""
        offers = [episode.offer for episode in auctions]
        tables: dict[int, torch.Tensor] = {}
        by_length = sorted(
            range(len(offers)), key=lambda i: len(offers[i].prompt.user)
        )  # padding costs as much time as text
        for start in range(0, len(offers), self._batch):
            places = by_length[start : start + self._batch]
            tables |= zip(places, self.policy.log_probs([offers[i] for i in places]), strict=True)
        return [tables[i] for i in range(len(offers))]

    def respond(self, auctions: Sequence[Episode], count: int, key: str, *, scored: bool = True) -> list[list[Drawn]]:
        tables = self.distributions(auctions)
        return [sample(logs, count, e.auction.id, key) for e, logs in zip(auctions, tables, strict=True)]

    def outcome(self, episode: Episode, response: Choice) -> Outcome:
        bids = [episode.offer.bids[i] for i in response]
        text = " ".join(f"{bid.ad.link}: {bid.ad.body or bid.ad.advertiser}" for bid in bids)
        return markup.outcome(episode.auction, text, {bid.ad.id: bid.amount for bid in bids})

    def logps(self, batch: Sequence[tuple[Episode, Sequence[Choice]]]) -> list[torch.Tensor]:
        tables = self.policy.log_probs([episode.offer for episode, _ in batch])
        return [
            torch.stack([table[cell(choice, len(table) - 1)] for choice in choices])
            for table, (_, choices) in zip(tables, batch, strict=True)
        ]

    def true_rewards(self, judge: ClickModel, episode: Episode, objective: Objective) -> Floats:
        """Expected R of every choice in the layout of `AdaptedLLM.log_probs`: shape (n + 1, n + 1), -inf if invalid."""
        n = len(episode.offer.bids)
        table = np.full((n + 1, n + 1), -np.inf)
        for choice in episode.offer.choices():
            shown = self.outcome(episode, choice)
            probs = judge.probabilities(episode.persona, episode.auction, shown)
            table[cell(choice, n)] = objective.reward(episode.auction, probs, shown.violations)
        return table


def sample(log_probs: torch.Tensor, count: int, *key: str | int) -> list[Drawn]:
    """`count` independent choices from an exact distribution."""
    probs = log_probs.double().exp().flatten().numpy()
    width = log_probs.shape[1]
    drawn = keyed_rng("irpo sample", *key).choice(probs.size, size=count, p=probs / probs.sum())
    pairs = [divmod(int(place), width) for place in drawn]
    return [Drawn(tuple(i for i in pair if i < width - 1), float(log_probs[pair])) for pair in pairs]


class Answers(Level):
    """Responses are whole answers in one call.

    Args:
        policy: The model with its adapter.
        tokens: Maximum number of tokens of an answer.
        server: Samples them; None: the policy does.
    """

    SAMPLING = Sampling()  # the paper's: T 0.7, top-p 0.8, top-k 20

    def __init__(self, policy: AdaptedLLM, tokens: int = 400, server: AdapterServer | None = None) -> None:
        self.policy = policy
        self._server = server
        self._sampling = self.SAMPLING.model_copy(update={"max_tokens": tokens})

    def respond(self, auctions: Sequence[Episode], count: int, key: str, *, scored: bool = True) -> list[list[Drawn]]:
        llm: LLM = self.policy if self._server is None else self._server.llm()

        async def write() -> list[list[str]]:
            if self._server is None:
                return [await gather(self._write(llm, e, j, key) for j in range(count)) for e in auctions]
            return await gather([gather([self._write(llm, e, j, key) for j in range(count)]) for e in auctions])

        drawn = []
        for episode, texts in zip(auctions, run_sync(write), strict=True):
            with torch.no_grad():
                (logps,) = self.logps([(episode, texts)])
            drawn.append([Drawn(text, logp) for text, logp in zip(texts, logps.tolist(), strict=True)])
        return drawn

    async def _write(self, llm: LLM, episode: Episode, j: int, key: str) -> str:
        draw = (episode.auction.id, "llm-auction", key, j)
        return (await llm.complete(_paper_prompt(episode), key=draw, sampling=self._sampling)).text.strip()

    def outcome(self, episode: Episode, response: str) -> Outcome:
        return markup.outcome(episode.auction, response, {bid.ad.id: bid.amount for bid in episode.auction.bids})

    def logps(self, batch: Sequence[tuple[Episode, Sequence[str]]]) -> list[torch.Tensor]:
        return [self.policy.text_logps(_paper_prompt(episode), texts) for episode, texts in batch]


def _paper_prompt(episode: Episode) -> Prompt:
    return one_call_prompt(episode.auction, episode.auction.bids, show_bids=True)


class Pages(Level):
    """Responses are whole answers in the written format.

    Args:
        policy: The model with its adapter.
        temperature: Of the sampled answers.
        profile: Whether prompts show the user's profile.
        ads_at_end: Whether the sentences with ads are moved to the end, for experiments.
    """

    _SCORED = 8
    """Auctions whose responses share a pass on a GPU."""

    def __init__(
        self, policy: AdaptedLLM, *, temperature: float = 1.0, profile: bool = True, ads_at_end: bool = False
    ) -> None:
        self.policy = policy
        self.sampling = written.SAMPLING.model_copy(update={"temperature": temperature, "top_p": 0.95, "top_k": 50})
        self._profile = profile
        self.ads_at_end = ads_at_end

    def page(self, episode: Episode) -> written.Page:
        """What the policy is asked."""
        return written.page(episode.auction, shown=episode.offer.digits, profile=self._profile)

    def respond(self, auctions: Sequence[Episode], count: int, key: str, *, scored: bool = True) -> list[list[Drawn]]:
        return self._respond(auctions, count, key, self.sampling, scored=scored)

    def deployed(self, auctions: Sequence[Episode], key: str, *, scored: bool = True) -> list[list[Drawn]]:
        return self._respond(auctions, 1, key, written.SAMPLING, scored=scored)

    def _respond(
        self, auctions: Sequence[Episode], count: int, key: str, how: Sampling, *, scored: bool
    ) -> list[list[Drawn]]:
        pages = [self.page(episode) for episode in auctions]
        named = [(episode.auction.id, asked) for episode, asked in zip(auctions, pages, strict=True)]
        drawn = sampling.sample(self.policy, named, count, how, key)
        different = [list(dict.fromkeys(text for text in texts if text.text.strip())) for texts in drawn]
        logps = self.logps_of_drawn(list(zip(pages, different, strict=True)), scored=scored)
        known = [dict(zip(*one, strict=True)) for one in zip(different, logps, strict=True)]
        pairs = zip(drawn, known, strict=True)
        return [[Drawn(text, one[text]) for text in texts if text in one] for texts, one in pairs]

    def logps_of_drawn(
        self, asked: Sequence[tuple[written.Page, Sequence[written.Written]]], *, scored: bool
    ) -> list[list[float]]:
        """The log-probabilities of the texts of each page, which may have none; nan if they are not `scored`."""
        known = [[math.nan] * len(texts) for _, texts in asked]
        some = [i for i, (_, texts) in enumerate(asked) if texts and scored]
        for start in range(0, len(some), self._SCORED):
            part = some[start : start + self._SCORED]
            with torch.no_grad():
                logps = self.policy.written_logps_of([asked[i] for i in part])
            for i, row in zip(part, logps, strict=True):
                known[i] = row.tolist()
        return known

    def outcome(self, episode: Episode, response: written.Written) -> Outcome:
        """The outcome for the judge, at first price. A text that does not answer earns nothing: it shows no ad."""
        text = written.read(episode.auction, response)
        if not written.answers(episode.auction, text):
            text = ""
        if self.ads_at_end:
            text = written.ads_at_end(episode.auction, text)
        return markup.outcome(episode.auction, text, {bid.ad.id: bid.amount for bid in episode.auction.bids})

    def logps(self, batch: Sequence[tuple[Episode, Sequence[written.Written]]]) -> list[torch.Tensor]:
        return self.policy.written_logps_of([(self.page(episode), texts) for episode, texts in batch])


def judge_clicks(judge: Judge, shown: Sequence[tuple[Episode, Outcome]]) -> list[tuple[Click, ...]]:
    """The judge's verdicts on all outcomes, requested concurrently."""

    async def run() -> list[tuple[Click, ...]]:
        feedback = await gather(run_judge(judge, e.persona, e.auction, outcome) for e, outcome in shown)
        return [verdict.clicks for verdict in feedback]

    return run_sync(run)
