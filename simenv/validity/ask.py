"""Runs a judge on cases: concurrently, once per case, with counts of verdicts and cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from simenv.background_loop import gather
from simenv.errors import UnreadableReply
from simenv.judges.base import Judge, ask_judge
from simenv.records import Feedback, Usage
from simenv.validity.cases import Case

_CHUNK = 64
"""Judgements that run concurrently; fixed, because a local model's batches depend on it."""


class Verdict(NamedTuple):
    """A judge's verdict on the target ad of a case."""

    prob: float | None
    """Click probability. If the judge gives none: its verdict as 0 or 1, or the mean of several verdicts. None: the
    judge abstained."""
    clicked: bool | None
    """The first verdict. None: the judge abstained."""
    gave_prob: bool
    """Whether the judge gave the probability itself."""
    misplaced: bool
    """Whether the reply is not one verdict per shown ad, in order: one is on another ad, or one is missing."""


class Tally:
    """Counts of one section of the report."""

    def __init__(self) -> None:
        self.judgements = 0
        self.verdicts = 0
        self.abstained = 0
        self.with_prob = 0
        self.usage = Usage()
        self.seconds = 0.0
        self.disagreements: list[float] = []

    def add(self, verdicts: Sequence[Verdict], feedback: Feedback) -> None:
        """Adds one judgement: its verdicts on all shown ads."""
        self.judgements += 1
        self.verdicts += len(verdicts)
        self.abstained += sum(verdict.clicked is None for verdict in verdicts)
        self.with_prob += sum(verdict.gave_prob for verdict in verdicts)
        self.usage += feedback.usage
        if feedback.disagreement is not None:
            self.disagreements.append(feedback.disagreement)


class CachedJudge:
    """Runs a judge and caches its feedback, so that sections of the report share judgements.

    Args:
        judge: The judge.
        repeats: Judgements per case where a probability is needed and the judge gives none. Each has its own auction
            id; the share of clicks is used as the probability.
        watch: Called with (section, judgements done, judgements planned), for a progress bar.
    """

    def __init__(
        self, judge: Judge, *, repeats: int = 5, watch: Callable[[str, int, int], None] = lambda *progress: None
    ) -> None:
        self.judge = judge
        self.repeats = repeats
        self.tallies: dict[str, Tally] = {}
        self._watch = watch
        self._cache: dict[tuple[str, str, str], Feedback] = {}

    def of(self, judge: Judge) -> CachedJudge:
        """Returns the same for another judge, with shared tallies."""
        other = CachedJudge(judge, repeats=self.repeats, watch=self._watch)
        other.tallies = self.tallies
        return other

    async def ask(self, cases: Sequence[Case], section: str, *, repeat: bool = False) -> list[Verdict]:
        """Returns the judge's verdicts, in the order of the cases.

        Args:
            cases: The cases to judge.
            section: Key of the tally that counts them.
            repeat: Whether to run a judge that gives no probability `repeats` times per case.

        Raises:
            SimenvError: any error of the judge, except UnreadableReply, which counts as an abstention.
        """
        verdicts = await self._once(cases, section)
        if not repeat or self.repeats == 1:
            return verdicts
        unknown = [i for i, verdict in enumerate(verdicts) if not verdict.gave_prob and verdict.clicked is not None]
        more = [cases[i].again(f"repeat-{r}") for i in unknown for r in range(1, self.repeats)]
        further = iter(await self._once(more, section))
        for i in unknown:
            row = [verdicts[i], *(next(further) for _ in range(1, self.repeats))]
            probs = [verdict.prob for verdict in row if verdict.prob is not None]
            misplaced = any(verdict.misplaced for verdict in row)
            verdicts[i] = verdicts[i]._replace(prob=float(np.mean(probs)), misplaced=misplaced)
        return verdicts

    async def _once(self, cases: Sequence[Case], section: str) -> list[Verdict]:
        tally = self.tallies.setdefault(section, Tally())
        new = {key: case for case in cases if (key := _key(case)) not in self._cache}
        planned, todo = tally.judgements + len(new), list(new.items())
        started = time.perf_counter()
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            replies = await gather(self._judge(case) for _, case in chunk)
            for (key, case), feedback in zip(chunk, replies, strict=True):
                self._cache[key] = feedback
                tally.add([_read(case.about(p.ad_id), feedback) for p in case.outcome.placements], feedback)
            self._watch(section, tally.judgements, planned)
        tally.seconds += time.perf_counter() - started
        return [_read(case, self._cache[_key(case)]) for case in cases]

    async def _judge(self, case: Case) -> Feedback:
        try:
            return await ask_judge(self.judge, case.persona, case.auction, case.outcome)
        except UnreadableReply:
            return Feedback()


def _key(case: Case) -> tuple[str, str, str]:
    return case.persona.model_dump_json(), case.auction.model_dump_json(), case.outcome.model_dump_json()


def _read(case: Case, feedback: Feedback) -> Verdict:
    click = next((click for click in feedback.clicks if click.ad_id == case.ad_id), None)
    shown = [placement.ad_id for placement in case.outcome.placements]
    misplaced = bool(feedback.clicks) and [click.ad_id for click in feedback.clicks] != shown
    if click is None or click.clicked is None:
        return Verdict(None, None, False, misplaced)
    prob = float(click.clicked) if click.click_prob is None else click.click_prob
    return Verdict(prob, click.clicked, click.click_prob is not None, misplaced)
