"""Judges that do not read the answer: what a judge must be better than."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from simenv.judges.base import Judge
from simenv.records import Auction, Click, Feedback, Outcome, Persona, Record, Transition
from simenv.runs.click_metrics import Revenue
from simenv.runs.judged_again import JudgedRun
from simenv.runs.summary import summarize
from simenv.stats import Estimate
from simenv.validity import contrasts
from simenv.validity.ask import CachedJudge
from simenv.validity.outside import LabelledRanking
from simenv.validity.scenarios import Scenario

RULES: Mapping[str, Callable[[int], bool]] = {
    "always": lambda place: True,
    "never": lambda place: False,
    "first": lambda place: place == 0,
}
"""Constant judge -> whether the ad at this place of the answer is clicked."""


class Baseline(Record):
    """A constant judge, measured as the judge is."""

    contrasts: Estimate
    """Share of the contrasts that it orders rightly; a tie counts half. Interval over scenarios."""
    brier: float | None
    """Its Brier score on the labels; null without labels."""
    same_verdict: float | None
    """Share of the judge's verdicts in the run that it shares; null without a run."""
    rank_correlation: float | None
    """Kendall's tau between its ranking of the run's mechanisms by revenue and the judge's; null without a run, or
    where all mechanisms of one side earn the same."""


class ConstantJudge:
    """Clicks by the place of the ad in the answer alone.

    Args:
        name: One of `RULES`.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    async def judge(self, persona: Persona, auction: Auction, outcome: Outcome) -> Feedback:
        spans = sorted(placement.span for placement in outcome.placements)
        clicks = []
        for placement in outcome.placements:
            clicked = RULES[self.name](spans.index(placement.span))
            clicks.append(Click(ad_id=placement.ad_id, clicked=clicked, click_prob=float(clicked)))
        return Feedback(clicks=tuple(clicks))


async def baselines(
    scenarios: Sequence[Scenario],
    seed: int = 0,
    labels: LabelledRanking | None = None,
    run: JudgedRun | None = None,
    judged: Sequence[Transition] = (),
) -> dict[str, Baseline]:
    """Constant judge -> what it reaches.

    Args:
        scenarios: Those that the judge was asked about.
        seed: Of the draws.
        labels: What the judge reached on labels, one ad an answer.
        run: A run, if the judge has one.
        judged: The run's answers, as the judge judged them.
    """
    return {name: await _baseline(ConstantJudge(name), scenarios, seed, labels, run, judged) for name in RULES}


async def _baseline(
    judge: Judge,
    scenarios: Sequence[Scenario],
    seed: int,
    labels: LabelledRanking | None,
    run: JudgedRun | None,
    judged: Sequence[Transition],
) -> Baseline:
    found = await contrasts.measure(CachedJudge(judge), scenarios, seed)
    brier = None if labels is None else labels.base_rate if judge.name == "never" else 1 - labels.base_rate
    same = tau = None
    if run is not None:
        constant = await run.judged_by(judge, "")
        clicks = [
            (ours.clicked, theirs.clicked)
            for t, by_judge in zip(constant, judged, strict=True)
            for ours, theirs in zip(t.feedback.clicks, by_judge.feedback.clicks, strict=True)
            if theirs.clicked is not None
        ]
        same = sum(ours == theirs for ours, theirs in clicks) / len(clicks) if clicks else None
        tau = _rank_correlation(constant, judged)
    return Baseline(contrasts=found["all"].share, brier=brier, same_verdict=same, rank_correlation=tau)


def _rank_correlation(one: Sequence[Transition], other: Sequence[Transition]) -> float | None:
    from scipy.stats import kendalltau

    revenues = [
        {cell.mechanism: cell.estimate.value for cell in summarize(rows, metrics=[Revenue()]).cells}
        for rows in (one, other)
    ]
    names = list(revenues[0])
    values = [[of[name] for name in names] for of in revenues]
    if any(len(set(side)) < 2 for side in values):
        return None
    tau = float(kendalltau(*values).statistic)
    return None if tau != tau else tau
