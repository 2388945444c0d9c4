"""Writes a validity report: tables for the terminal, and a folder with report.md, validity.json and plots."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from simenv.files.blocks import Block, Report
from simenv.stats import Estimate
from simenv.validity.contrasts import KINDS
from simenv.validity.placebos import PLACEBOS
from simenv.validity.plots import write_plots
from simenv.validity.run import Validity

_ATTITUDES_NOTE = """\
A judge LLM reads words, the click model reads numbers; beside each attitude in words stands its number: averse and
tolerant are ad_tolerance 0.1 and 0.9, interested and uninterested are affinity +0.8 and -0.8 for the ad's category,
frugal is price_sensitivity 0.9."""


def write_report(report: Validity, folder: Path) -> None:
    """Writes validity.json, report.md and the plots.

    Raises:
        DataFileError: the folder is not empty.
        CannotWrite: it cannot be made or written.
    """
    report_of(report).write(folder, "validity.json", report, partial(write_plots, report))


def report_of(report: Validity) -> Report:
    """Returns all tables of the report."""
    return Report(f"Validity of {report.judge}", caption(report), blocks(report))


def caption(report: Validity) -> str:
    """Describes judge, scenarios and seed, and how to read the numbers."""
    given = (
        "The judge gives click probabilities."
        if report.probabilities == 1
        else f"{report.probabilities:.0%} of the verdicts came with a click probability; elsewhere contrasts compare "
        f"verdicts (0 or 1), and placebos and attacks the share of clicks in {report.repeats} verdicts, whose own "
        "noise is the row 'nothing: another auction id'."
    )
    return (
        f"{report.judge} on part {report.part}: {report.scenarios} scenarios, seed {report.seed}. {given} In brackets: "
        f"95% intervals. Suite {report.suite_sha256[:12]}, inputs {report.inputs_sha256[:12]}."
    )


def blocks(report: Validity) -> list[Block]:
    """All tables of the report."""
    return [_contrasts(report), _placebos(report), _attacks(report), *_outside(report), *_reliability(report)]


def _contrasts(report: Validity) -> Block:
    rows = [
        (
            KINDS.get(kind, kind),
            show(c.share),
            show(c.gap, sign=True),
            str(c.pairs),
            str(c.ties),
            str(c.abstained),
        )
        for kind, c in report.contrasts.items()
    ]
    header = ("contrast", "ordered rightly", "mean gap", "pairs", "ties", "abstained")
    return Block(
        "Contrasts", header, rows, "A tie counts half, an abstention is left out. " + " ".join(_ATTITUDES_NOTE.split())
    )


def _placebos(report: Validity) -> Block:
    rows = [
        (
            PLACEBOS.get(name, name),
            show(p.change),
            "-" if p.largest is None else f"{p.largest:.3f}",
            str(p.scenarios),
            str(p.abstained),
        )
        for name, p in report.placebos.items()
    ]
    header = ("changed", "mean absolute change", "largest", "scenarios", "abstained")
    return Block("Placebos: must not matter", header, rows)


def _attacks(report: Validity) -> Block:
    rows = [
        (
            kind.replace("_", " "),
            show(a.change, sign=True),
            show(a.absolute),
            show(a.raised),
            str(a.attacks),
            str(a.broken),
            str(a.broken_silently),
        )
        for kind, a in report.attacks.items()
    ]
    header = ("attack", "change", "absolute", "raised > 0.02", "texts", "broken", "broken silently")
    note = (
        "Each text in two places: in the ad's sentence, and in its body. A rise is an attack that paid; a fall is an "
        "ad that the text made worse, as it would for a reader."
    )
    return Block("Hostile ads", header, rows, note)


def _outside(report: Validity) -> list[Block]:
    header = ("relevant against", "AUC", "cosine alone", "queries", "pairs", "abstained")
    rankings = {
        "Webis: ad of another topic": (report.outside or {}).get("other_topic"),
        "Webis: other ad of the same topic": (report.outside or {}).get("same_topic"),
        "labelled file": report.labels,
    }
    rows = [
        (name, show(r.auc), show(r.cosine_auc), str(r.queries), str(r.pairs), str(r.abstained))
        for name, r in rankings.items()
        if r is not None
    ]
    if not rows:
        return []
    note = "The answer is a fixed sentence with the ad's own copy, the same for every pair."
    if report.labels is not None and report.labels.brier is not None:
        note += (
            f" Labelled file: Brier score {report.labels.brier:.3f} at a base rate of {report.labels.base_rate:.3f}."
        )
    return [Block("Outside data", header, rows, note)]


def _reliability(report: Validity) -> list[Block]:
    r = report.reliability
    rows = [
        ("same verdict when asked again", show(r.repeat.same_verdict)),
        ("change in click probability when asked again", show(r.repeat.change)),
        ("abstention rate, hostile ads left out", "-" if r.abstention_rate is None else f"{r.abstention_rate:.3f}"),
    ]
    if r.disagreement is not None:
        rows.append(("mean absolute difference between the judges of the ensemble", f"{r.disagreement:.3f}"))
    if r.agreement is not None:
        spearman = "-" if r.agreement.spearman is None else f"{r.agreement.spearman:.3f}"
        rows += [
            (f"agreement with {r.agreement.judge}: Spearman", spearman),
            (f"agreement with {r.agreement.judge}: mean absolute difference", show(r.agreement.difference)),
        ]
    cost = Block(
        "Cost per 1,000 judgements",
        ("judge", "calls", "prompt tokens", "completion tokens", "US dollars", "seconds"),
        [
            (
                report.judge,
                *("-" if n is None else f"{n:,.0f}" for n in (r.cost.calls, *r.cost.tokens)),
                f"{r.cost.cost_usd:.2f}",
                f"{r.cost.seconds:,.1f}",
            )
        ],
    )
    return [Block("Reliability", ("measure", "value"), rows), cost]


def show(estimate: Estimate, *, sign: bool = False) -> str:
    """Formats an estimate as "0.917 (0.782, 0.971)"; a dash if it has no value."""
    if math.isnan(estimate.value):
        return "-"
    value = f"{estimate.value:+.3f}" if sign else f"{estimate.value:.3f}"
    if math.isnan(estimate.low):
        return value
    return f"{value} ({estimate.low:.3f}, {estimate.high:.3f})"
