"""The judge card: what to know about a judge before its clicks are believed, on one page.

It sums up a validity report, and adds what constant judges reach and, with a run, the judge's noise floor on the
answers of mechanisms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from simenv.abilities import hash_of
from simenv.files.atomic import write_bytes_atomically
from simenv.files.blocks import Block, Report
from simenv.files.folders import ensure_folder
from simenv.judges.base import Judge
from simenv.records import Record
from simenv.runs.judged_again import JudgedRun
from simenv.runs.noise_floor import CARD, NoiseFloor, noise_floor
from simenv.stats import Estimate
from simenv.validity.constant import Baseline, baselines
from simenv.validity.contrasts import KINDS
from simenv.validity.outside import LabelledRanking
from simenv.validity.placebos import PLACEBOS
from simenv.validity.reliability import Cost, Repeat
from simenv.validity.report import show
from simenv.validity.run import Validity
from simenv.validity.scenarios import load_scenarios

CARD_TEXT = "judge_card.md"
AUCTIONS = 200
"""Auctions of a run that are judged again, at most."""


class LabelAgreement(Record):
    """How the labels of a file were predicted."""

    pairs: int
    """Labelled pairs on which the judge decided."""
    auc: Estimate
    """Area under the ROC curve of the click probabilities."""
    cosine_auc: Estimate
    """The same for the encoder's cosine alone."""
    brier: float | None
    """Mean squared difference of click probability and label."""
    base_rate: float
    """Share of label 1."""


class JudgeCard(Record):
    """The card."""

    format: int = 1
    """Of this file."""
    judge: str
    """The judge's name."""
    judge_sha256: str | None
    """Hash of its numbers or prompts; null if it has none."""
    inputs_sha256: str
    """Of the validity report that the card sums up."""
    scenarios: int
    """Number of scenarios of the contrasts and placebos."""
    run: str | None
    """Name of the run's folder; null without a run."""
    labels: LabelAgreement | None
    """Agreement with labels; null: none were given."""
    abstention_rate: float | None
    """Share of the report's verdicts that are abstentions, without hostile ads."""
    repeat: Repeat
    """The suite's cases, asked again with other keys."""
    noise_floor: NoiseFloor | None
    """How far the numbers of the run move when the judge judges its answers again; null without a run."""
    constants: dict[str, Baseline]
    """"always", "never", "first" -> what a judge reaches that does not read the answer."""
    contrasts: dict[str, Estimate]
    """Kind of contrast, and "all" -> share ordered rightly."""
    placebos: dict[str, Estimate]
    """Placebo -> mean absolute change in click probability by a change that must not matter."""
    cost: Cost
    """Per 1,000 judgements of the report."""


async def judge_card(
    judge: Judge,
    report: Validity,
    run: JudgedRun | None = None,
    *,
    watch: Callable[[str, int, int], None] = lambda *progress: None,
) -> JudgeCard:
    """Makes the card of a judge.

    Args:
        judge: The judge.
        report: Its validity report.
        run: A run whose answers it judges again. If another judge judged the run, this one judges them twice.
        watch: Called with (section, judgements done, judgements planned).

    Raises:
        SimenvError: an error of the judge.
    """
    floor, judged = None, []
    if run is not None:

        def progress(done: int, planned: int) -> None:
            watch("noise floor", done, planned)

        judged = run.rows if run.is_by(judge) else await run.judged_by(judge, "", progress)
        floor = noise_floor(judged, await run.judged_by(judge, ".again", progress))
    scenarios = load_scenarios(report.part, report.limit)
    return JudgeCard(
        judge=judge.name,
        judge_sha256=hash_of(judge),
        inputs_sha256=report.inputs_sha256,
        scenarios=report.scenarios,
        run=None if run is None else run.folder.resolve().name,
        labels=_labels(report.labels),
        abstention_rate=report.reliability.abstention_rate,
        repeat=report.reliability.repeat,
        noise_floor=floor,
        constants=await baselines(scenarios, report.seed, report.labels, run, judged),
        contrasts={kind: contrast.share for kind, contrast in report.contrasts.items()},
        placebos={name: placebo.change for name, placebo in report.placebos.items()},
        cost=report.reliability.cost,
    )


def write_card(card: JudgeCard, answers: dict[str, int], folder: Path) -> None:
    """Writes judge_card.json and judge_card.md; those that are there are replaced.

    Args:
        card: The card.
        answers: Mechanism -> number of its answers in the run; empty without a run.
        folder: The run's folder, or another one.

    Raises:
        CannotWrite: the folder cannot be made or written.
    """
    ensure_folder(folder)
    write_bytes_atomically(folder / CARD, (card.model_dump_json(indent=2) + "\n").encode())
    write_bytes_atomically(folder / CARD_TEXT, report_of_card(card, answers).to_markdown().encode())


def report_of_card(card: JudgeCard, answers: dict[str, int]) -> Report:
    """The card as tables; arguments as in `write_card`."""
    blocks = [_summary(card, answers), _constants(card)]
    if card.noise_floor is not None:
        blocks.append(_floors(card.noise_floor, answers))
    caption = (
        f"{card.judge}, {card.scenarios} scenarios of the contrast suite"
        + (f", run {card.run}" if card.run is not None else "")
        + f". In brackets: 95% intervals. Report {card.inputs_sha256[:12]}."
    )
    return Report(f"Judge card of {card.judge}", caption, blocks)


def _summary(card: JudgeCard, answers: dict[str, int]) -> Block:
    kinds = {kind: share for kind, share in card.contrasts.items() if kind != "all" and not math.isnan(share.value)}
    placebos = {name: change for name, change in card.placebos.items() if not math.isnan(change.value)}
    rows = [
        ("agreement with labels", _said_of_labels(card.labels)),
        ("abstention rate", "-" if card.abstention_rate is None else f"{card.abstention_rate:.1%}"),
        ("contrasts ordered rightly", show(card.contrasts["all"])),
    ]
    if kinds:
        worst = min(kinds, key=lambda kind: kinds[kind].value)
        rows.append((f"worst contrast: {KINDS.get(worst, worst)}", show(kinds[worst])))
    if placebos:
        worst = max(placebos, key=lambda name: placebos[name].value)
        rows.append((f"placebo that moves it most: {PLACEBOS.get(worst, worst)}", show(placebos[worst])))
    if card.noise_floor is not None:
        widest = max(_of_pairs(card.noise_floor, "revenue", answers), default=(math.nan, "-"))
        rows.append(("noise floor of a difference in revenue, see below", _number(widest[0])))
    rows += [
        ("asked again with other keys: same verdict", show(card.repeat.same_verdict)),
        ("asked again with other keys: change in click probability", show(card.repeat.change)),
        ("calls per 1,000 judgements", f"{card.cost.calls:,.0f}"),
        ("tokens per 1,000 judgements: prompts, completions", ", ".join(map(_count, card.cost.tokens))),
        ("US dollars per 1,000 judgements", f"{card.cost.cost_usd:.2f}"),
        ("seconds per 1,000 judgements", f"{card.cost.seconds:,.1f}"),
    ]
    return Block("Judge card", ("measure", "value"), rows)


def _said_of_labels(labels: LabelAgreement | None) -> str:
    if labels is None:
        return "none"
    brier = "" if labels.brier is None else f", Brier {labels.brier:.3f} at a base rate of {labels.base_rate:.3f}"
    return f"AUC {show(labels.auc)}, cosine alone {show(labels.cosine_auc)}{brier}, {labels.pairs} pairs"


def _constants(card: JudgeCard) -> Block:
    names = {"always": "always clicks", "never": "never clicks", "first": "clicks the first ad only"}
    brier = None if card.labels is None else card.labels.brier
    rows = [(card.judge, show(card.contrasts["all"]), _number(brier), "-", "-")]
    for name, baseline in card.constants.items():
        same = "-" if baseline.same_verdict is None else f"{baseline.same_verdict:.1%}"
        tau = "-" if baseline.rank_correlation is None else f"{baseline.rank_correlation:+.2f}"
        rows.append((names[name], show(baseline.contrasts), _number(baseline.brier), same, tau))
    header = ("judge", "contrasts", "Brier on labels", "same verdict in the run", "ranking of the run")
    note = (
        "Constant judges do not read the answer. Ranking: Kendall's tau with the judge's ranking of the run's "
        "mechanisms by revenue; where it is near 1, the number of ads and their prices decide, not the judge."
    )
    return Block("Constant judges", header, rows, note)


def _floors(floor: NoiseFloor, answers: dict[str, int]) -> Block:
    """The largest floors of the run's own number of answers."""
    rows = []
    for metric, moves in floor.moves.items():
        of_one = [floor.floor(metric, name, name, answers.get(name, 0)) for name in moves]
        value = max((at for at in of_one if at is not None), default=math.nan)
        widest, pair = max(_of_pairs(floor, metric, answers), default=(math.nan, "-"))
        rows.append((metric, _number(value), _number(widest), pair if widest else "-"))
    same = "" if floor.same_verdict is None else f" Same verdict: {floor.same_verdict:.1%} of {floor.ads} ads."
    kind = "expectations over click probabilities" if floor.expected else "of realised clicks"
    note = (
        f"The answers to {floor.auctions} auctions of the run, judged again with other keys. A value, and a paired "
        "difference of two mechanisms, moves by at most this much in 95% of repetitions, at the run's number of "
        f"answers. The largest of all mechanisms and of all pairs; numbers are {kind}.{same} Abstentions: "
        f"{floor.abstained[0]:.1%}, then {floor.abstained[1]:.1%} of shown ads."
    )
    header = ("metric", "noise floor of a value", "of a difference", "of which two")
    return Block("Noise floor", header, rows, note)


def _of_pairs(floor: NoiseFloor, metric: str, answers: dict[str, int]) -> Iterator[tuple[float, str]]:
    """Noise floor of the difference, and which it is of, for each two mechanisms."""
    moves = floor.moves.get(metric, {})
    for one, other in ((one, other) for one, others in moves.items() for other in others if one != other):
        at = floor.floor(metric, one, other, min(answers.get(one, 0), answers.get(other, 0)))
        if at is not None:
            yield at, f"{one}, {other}"


def _labels(labels: LabelledRanking | None) -> LabelAgreement | None:
    if labels is None:
        return None
    return LabelAgreement(
        pairs=labels.pairs,
        auc=labels.auc,
        cosine_auc=labels.cosine_auc,
        brier=labels.brier,
        base_rate=labels.base_rate,
    )


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"


def _count(tokens: float | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,.0f}"
