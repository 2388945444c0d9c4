"""An ensemble of judges: the mean of several judges, and a measure of their disagreement."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import combinations

from simenv.abilities import AsksModels, hash_of
from simenv.background_loop import gather
from simenv.errors import InputError
from simenv.judges.base import Judge, Remembers, ask_choice, run_judge
from simenv.judges.questions import drawn
from simenv.llm.base import LLM
from simenv.records import Auction, Choice, Click, Feedback, Outcome, Persona, Suggestion, Usage
from simenv.seeding import keyed_rng


class JudgeEnsemble:
    """Sends the same answer to all members and gives them equal weight.

    An ad's click probability is the mean over the members that do not abstain: of their probability, or of their
    verdict (0 or 1) where they give none. The click is drawn with that mean, keyed by auction and ad. The ensemble
    abstains if all members abstain.

    Args:
        judges: The members; their names must differ.

    Raises:
        InputError: fewer than two members, or two members with the same name.
    """

    def __init__(self, judges: Sequence[Judge]) -> None:
        names = [judge.name for judge in judges]
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"an ensemble needs two or more different judges, got {', '.join(names) or 'none'}")
        self.name = f"ensemble({', '.join(names)})"
        self.judges = tuple(judges)
        self.llms: tuple[LLM, ...] = tuple(
            llm for judge in judges if isinstance(judge, AsksModels) for llm in judge.llms
        )

    @property
    def remembers(self) -> bool:
        """Whether the users of one of the members remember ads."""
        return any(isinstance(judge, Remembers) and judge.remembers for judge in self.judges)

    @property
    def sha256(self) -> str:
        """Hash of the members' hashes, for manifests."""
        hashes = [f"{judge.name} {hash_of(judge)}" for judge in self.judges]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        replies = await gather(run_judge(judge, persona, auction, outcome) for judge in self.judges)
        clicks, gaps = [], []
        for place, placement in enumerate(outcome.placements):
            probs = [prob_or_verdict(reply.clicks[place]) for reply in replies]
            gaps += [abs(a - b) for a, b in combinations(probs, 2) if a is not None and b is not None]
            clicks.append(self._pooled(auction, placement.ad_id, probs))
        satisfied = [reply.satisfaction for reply in replies if reply.satisfaction is not None]
        return Feedback(
            clicks=tuple(clicks),
            satisfaction=sum(satisfied) / len(satisfied) if satisfied else None,
            disagreement=sum(gaps) / len(gaps) if gaps else None,
            usage=sum((reply.usage for reply in replies), start=Usage()),
            asked_again=sum(reply.asked_again for reply in replies),
        )

    async def choose(self, persona: Persona, auction: Auction, questions: Sequence[Suggestion]) -> Choice:
        """A draw with the mean of the members' probabilities, or of their choices as 0 or 1."""
        choices = await gather(ask_choice(judge, persona, auction, questions) for judge in self.judges)
        read = [choice for choice in choices if not choice.abstained]
        if not read:
            return Choice(reason="every member abstains", abstained=True)
        rows = [
            choice.probs or tuple(float(place == choice.place) for place in range(len(questions))) for choice in read
        ]
        probs = tuple(sum(column) / len(rows) for column in zip(*rows, strict=True))
        return Choice(place=drawn(auction, questions, probs), probs=probs)

    def _pooled(self, auction: Auction, ad_id: str, probs: Sequence[float | None]) -> Click:
        votes = (f"{prob:.2f}" if prob is not None else "abstains" for prob in probs)
        reason = "; ".join(f"{judge.name} {vote}" for judge, vote in zip(self.judges, votes, strict=True))
        decided = [prob for prob in probs if prob is not None]
        if not decided:
            return Click(ad_id=ad_id, clicked=None, reason=reason)
        prob = sum(decided) / len(decided)
        clicked = bool(keyed_rng("ensemble-click", auction.id, ad_id).random() < prob)
        return Click(ad_id=ad_id, clicked=clicked, click_prob=prob, reason=reason)


def prob_or_verdict(click: Click) -> float | None:
    """The click probability, or the verdict as 0 or 1 where there is none; None for an abstention."""
    if click.clicked is None:
        return None
    return float(click.clicked) if click.click_prob is None else click.click_prob
