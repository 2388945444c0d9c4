"""Several judges in one: what they agree on can be believed further than what one of them says."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import combinations

from simenv.background_loop import gather
from simenv.errors import InputError
from simenv.judges.base import Judge
from simenv.llm.base import LLM
from simenv.records import Auction, Click, Feedback, Outcome, Persona, Usage
from simenv.seeding import keyed_rng


class JudgeEnsemble:
    """Judges that are asked the same and weigh the same.

    An ad's click probability is the mean over the members that do not abstain: of their probability, or of their
    verdict (0 or 1) where they give none. The click is drawn from that mean, keyed by auction and ad. It abstains if
    all do.

    Args:
        judges: The members; their names must differ.

    Raises:
        InputError: fewer than two, or two of one name.
    """

    def __init__(self, judges: Sequence[Judge]) -> None:
        names = [judge.name for judge in judges]
        if len(names) < 2 or len(set(names)) < len(names):
            raise InputError(f"an ensemble needs two or more different judges, got {', '.join(names) or 'none'}")
        self.name = f"ensemble({', '.join(names)})"
        self.judges = tuple(judges)
        self.llms: tuple[LLM, ...] = tuple(llm for judge in judges for llm in getattr(judge, "llms", ()))

    @property
    def sha256(self) -> str:
        """Of the members' hashes, for manifests."""
        hashes = [f"{judge.name} {getattr(judge, 'sha256', None)}" for judge in self.judges]
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        replies = await gather(judge.judge(persona, auction, outcome) for judge in self.judges)
        clicks, gaps = [], []
        for place, placement in enumerate(outcome.placements):
            chances = [chance_of(reply.clicks[place]) for reply in replies]
            gaps += [abs(a - b) for a, b in combinations(chances, 2) if a is not None and b is not None]
            clicks.append(self._pooled(auction, placement.ad_id, chances))
        satisfied = [reply.satisfaction for reply in replies if reply.satisfaction is not None]
        return Feedback(
            clicks=tuple(clicks),
            satisfaction=sum(satisfied) / len(satisfied) if satisfied else None,
            disagreement=sum(gaps) / len(gaps) if gaps else None,
            usage=sum((reply.usage for reply in replies), start=Usage()),
        )

    def _pooled(self, auction: Auction, ad_id: str, chances: Sequence[float | None]) -> Click:
        said = (f"{chance:.2f}" if chance is not None else "abstains" for chance in chances)
        reason = "; ".join(f"{judge.name} {word}" for judge, word in zip(self.judges, said, strict=True))
        decided = [chance for chance in chances if chance is not None]
        if not decided:
            return Click(ad_id=ad_id, clicked=None, reason=reason)
        chance = sum(decided) / len(decided)
        clicked = bool(keyed_rng("ensemble-click", auction.id, ad_id).random() < chance)
        return Click(ad_id=ad_id, clicked=clicked, click_prob=chance, reason=reason)


def mean_disagreement(feedbacks: Iterable[Feedback]) -> float | None:
    """Of the judgements in which it is known; None if there are none."""
    known = [feedback.disagreement for feedback in feedbacks if feedback.disagreement is not None]
    return sum(known) / len(known) if known else None


def chance_of(click: Click) -> float | None:
    """A verdict's probability, or 0 or 1 where it has none; None for an abstention."""
    if click.clicked is None:
        return None
    return float(click.clicked) if click.click_prob is None else click.click_prob
