"""Asks a judge: concurrently, each case once, and counts what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from simenv.background_loop import gather
from simenv.errors import UnreadableReply
from simenv.judges.base import Judge
from simenv.records import Feedback, Usage
from simenv.validity.cases import Case

_CHUNK = 64
"""Judgements that run together; fixed, because a local model's batches depend on it."""


class Answer(NamedTuple):
    """What a judge says of the ad in question."""

    chance: float | None
    """Click probability; where the judge gives none, its verdict as 0 or 1, or the mean of several. None: it
    abstained."""
    clicked: bool | None
    """The (first) verdict. None: it abstained."""
    known: bool
    """The judge gave the probability itself."""
    misplaced: bool
    """The reply is not one verdict per shown ad, in order: a verdict on another ad, or one that is missing."""


class Tally:
    """What was asked in one section of the report."""

    def __init__(self) -> None:
        self.judgements = 0
        self.verdicts = 0
        self.abstained = 0
        self.known = 0
        self.usage = Usage()
        self.seconds = 0.0
        self.disagreements: list[float] = []

    def add(self, answers: Sequence[Answer], feedback: Feedback) -> None:
        """Adds one judgement: its answer on every shown ad."""
        self.judgements += 1
        self.verdicts += len(answers)
        self.abstained += sum(answer.clicked is None for answer in answers)
        self.known += sum(answer.known for answer in answers)
        self.usage += feedback.usage
        if feedback.disagreement is not None:
            self.disagreements.append(feedback.disagreement)


class Asker:
    """A judge with a memory: the same question is asked once, whichever section needs it.

    Args:
        judge: Who is asked.
        repeats: How often a judge that gives no probability is asked where one is needed, under auction ids of its
            own each; the share of clicks stands for the probability.
        watch: Called with (section, judgements done, judgements planned), for a progress bar.
    """

    def __init__(
        self, judge: Judge, *, repeats: int = 5, watch: Callable[[str, int, int], None] = lambda *progress: None
    ) -> None:
        self.judge = judge
        self.repeats = repeats
        self.tallies: dict[str, Tally] = {}
        self._watch = watch
        self._known: dict[tuple[str, str, str], Feedback] = {}

    def of(self, judge: Judge) -> Asker:
        """The same for another judge, counted together."""
        other = Asker(judge, repeats=self.repeats, watch=self._watch)
        other.tallies = self.tallies
        return other

    async def ask(self, cases: Sequence[Case], section: str, *, repeat: bool = False) -> list[Answer]:
        """The judge's answers, in the order of the cases.

        Args:
            cases: What is asked.
            section: What it is counted under.
            repeat: Ask a judge that gives no probability `repeats` times.

        Raises:
            SimenvError: whatever the judge raised, but for UnreadableReply, which is an abstention.
        """
        answers = await self._once(cases, section)
        if not repeat or self.repeats == 1:
            return answers
        unknown = [i for i, answer in enumerate(answers) if not answer.known and answer.clicked is not None]
        more = [cases[i].again(f"repeat-{r}") for i in unknown for r in range(1, self.repeats)]
        further = iter(await self._once(more, section))
        for i in unknown:
            row = [answers[i], *(next(further) for _ in range(1, self.repeats))]
            chances = [answer.chance for answer in row if answer.chance is not None]
            misplaced = any(answer.misplaced for answer in row)
            answers[i] = answers[i]._replace(chance=float(np.mean(chances)), misplaced=misplaced)
        return answers

    async def _once(self, cases: Sequence[Case], section: str) -> list[Answer]:
        tally = self.tallies.setdefault(section, Tally())
        new = {key: case for case in cases if (key := _key(case)) not in self._known}
        planned, todo = tally.judgements + len(new), list(new.items())
        started = time.perf_counter()
        for start in range(0, len(todo), _CHUNK):
            chunk = todo[start : start + _CHUNK]
            replies = await gather(self._judge(case) for _, case in chunk)
            for (key, case), feedback in zip(chunk, replies, strict=True):
                self._known[key] = feedback
                tally.add([_read(case.about(p.ad_id), feedback) for p in case.outcome.placements], feedback)
            self._watch(section, tally.judgements, planned)
        tally.seconds += time.perf_counter() - started
        return [_read(case, self._known[_key(case)]) for case in cases]

    async def _judge(self, case: Case) -> Feedback:
        try:
            return await self.judge.judge(case.persona, case.auction, case.outcome)
        except UnreadableReply:
            return Feedback()


def _key(case: Case) -> tuple[str, str, str]:
    return case.persona.model_dump_json(), case.auction.model_dump_json(), case.outcome.model_dump_json()


def _read(case: Case, feedback: Feedback) -> Answer:
    click = next((click for click in feedback.clicks if click.ad_id == case.ad_id), None)
    shown = [placement.ad_id for placement in case.outcome.placements]
    misplaced = bool(feedback.clicks) and [click.ad_id for click in feedback.clicks] != shown
    if click is None or click.clicked is None:
        return Answer(None, None, False, misplaced)
    chance = float(click.clicked) if click.click_prob is None else click.click_prob
    return Answer(chance, click.clicked, click.click_prob is not None, misplaced)
