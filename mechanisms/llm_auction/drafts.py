"""Answers for training at link level: an ad's own copy stands in for the sentence that the writer would write.

What is trained is which links are chosen. Writing every sampled answer out would cost a hundred times the training
itself on a CPU; whether a policy trained on drafts holds up on written answers is what `benchmarks/paper.py` measures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from simenv import markup
from simenv.objective import Objective
from simenv.portal import run_sync
from simenv.records import Auction, Click, Outcome, Persona
from simenv.users.click_model import ClickModel
from simenv.users.judge import Judge
from simenv.world import World

from .policy import cell
from .reward_model import PCTR, Impression
from .slim import Choice, Offer, offer

Floats = npt.NDArray[np.float64]


class Episode(NamedTuple):
    """One auction, its user, and what the policy is asked."""

    persona: Persona
    auction: Auction
    offer: Offer


def episodes(world: World, n: int, seed: int) -> list[Episode]:
    """Auctions 0..n-1 of the run `seed`."""

    async def draw() -> list[Episode]:
        made = []
        for number in range(-(-n // world.horizon)):
            session = await world.session(seed, number)
            auctions = [world.auction(session, turn) for turn in range(world.horizon)]
            made += [Episode(session.persona, auction, offer(auction)) for auction in auctions]
        return made[:n]

    return run_sync(draw)


def draft(episode: Episode, choice: Choice) -> Outcome:
    """The answer that shows these ads in the advertisers' own words, first price."""
    bids = [episode.offer.bids[i] for i in choice]
    text = " ".join(f"{bid.ad.link}: {bid.ad.body or bid.ad.advertiser}" for bid in bids)
    return markup.outcome(episode.auction, text, {bid.ad.id: bid.amount for bid in bids})


def impressions(episode: Episode, choice: Choice, clicks: Sequence[Click] = ()) -> list[Impression]:
    """What the pCTR model sees of a draft."""
    ads = [episode.offer.bids[i].ad for i in choice]
    clicked = {click.ad_id: click.clicked for click in clicks}
    return [
        Impression(
            user=episode.auction.profile,
            ad=ad.id,
            query=episode.auction.query.text,
            sentence=ad.text,
            others=tuple(other.text for other in ads if other.id != ad.id),
            rank=rank,
            clicked=None if (seen := clicked.get(ad.id)) is None else float(seen),
        )
        for rank, ad in enumerate(ads)
    ]


def judged(judge: Judge, pairs: Sequence[tuple[Episode, Choice]]) -> list[tuple[Click, ...]]:
    """The judge's verdicts on drafts, asked for together."""
    import asyncio

    async def ask() -> list[tuple[Click, ...]]:
        asked = (judge.judge(e.persona, e.auction, draft(e, choice)) for e, choice in pairs)
        return [feedback.clicks for feedback in await asyncio.gather(*asked)]

    return run_sync(ask)


def rewards(pctr: PCTR, episode: Episode, choices: Sequence[Choice], objective: Objective) -> Floats:
    """R of drafts in the reward model's predictions (LLM-Auction, eq. 5), in currency: shape (choices,)."""
    rows = [impressions(episode, choice) for choice in choices]
    predicted = iter(pctr.predict([row for part in rows for row in part]).tolist())
    return np.array([objective.reward(episode.auction, {row.ad: next(predicted) for row in part}) for part in rows])


def true_rewards(judge: Judge, episode: Episode, choices: Sequence[Choice], objective: Objective) -> Floats:
    """R of drafts by the judge's own clicks, in expectation where it knows its probabilities: the Oracle of Table 2."""
    if isinstance(judge, ClickModel):  # the same figures without drawing clicks
        probs = [judge.probabilities(episode.persona, episode.auction, draft(episode, c)) for c in choices]
    else:
        verdicts = judged(judge, [(episode, choice) for choice in choices])
        probs = [{c.ad_id: _chance(c) for c in clicks} for clicks in verdicts]
    return np.array([objective.reward(episode.auction, chances) for chances in probs])


def _chance(click: Click) -> float:
    return click.click_prob if click.click_prob is not None else float(bool(click.clicked))


def reward_matrix(judge: Judge, episode: Episode, objective: Objective) -> Floats:
    """R of every choice, laid out as `AdaptedLLM.log_probs`: shape (n + 1, n + 1), -inf where it is no choice."""
    n = len(episode.offer.bids)
    choices = episode.offer.choices()
    table = np.full((n + 1, n + 1), -np.inf)
    for choice, reward in zip(choices, true_rewards(judge, episode, choices, objective), strict=True):
        table[cell(choice, n)] = reward
    return table
