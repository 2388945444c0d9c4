"""The report for people: tables for the terminal, report.md, and the folder with both, validity.json and plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from simenv.files.blocks import Block, markdown_parts, print_block
from simenv.files.folders import make_folder
from simenv.stats import Estimate
from simenv.validity.contrasts import KINDS
from simenv.validity.placebos import PLACEBOS
from simenv.validity.plots import write_plots
from simenv.validity.run import Validity

READS = """\
A judge LLM reads words, the click model reads numbers; beside each attitude in words stands its number: averse and
tolerant are ad_tolerance 0.1 and 0.9, interested and uninterested are affinity +0.8 and -0.8 for the ad's category,
frugal is price_sensitivity 0.9."""


def write_report(found: Validity, folder: Path) -> None:
    """Writes validity.json, report.md and the plots.

    Raises:
        DataFileError: the folder is not empty, or cannot be made.
    """
    make_folder(folder)
    (folder / "validity.json").write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    pictures = write_plots(found, folder)
    (folder / "report.md").write_text(to_markdown(found, pictures), encoding="utf-8")


def print_report(found: Validity, console: Console) -> None:
    """Prints every table."""
    for block in blocks(found):
        print_block(block, console)
    console.print(caption(found), style="dim", highlight=False)


def to_markdown(found: Validity, pictures: Sequence[str] = ()) -> str:
    """The same as Markdown, with the pictures' file names."""
    parts = [f"# Validity of {found.judge}", caption(found)]
    for block in blocks(found):
        parts += markdown_parts(block)
    parts += [f"![{Path(name).stem}]({name})" for name in pictures]
    return "\n\n".join(parts) + "\n"


def caption(found: Validity) -> str:
    """What was asked, and how to read it."""
    given = (
        "The judge gives click probabilities."
        if found.probabilities == 1
        else f"{found.probabilities:.0%} of the verdicts came with a click probability; elsewhere contrasts compare "
        f"verdicts (0 or 1), and placebos and attacks the share of clicks in {found.repeats} verdicts, whose own noise "
        "is the row 'nothing: another auction id'."
    )
    return (
        f"{found.judge} on part {found.part}: {found.scenarios} scenarios, seed {found.seed}. {given} In brackets: "
        f"95% intervals. Suite {found.suite_sha256[:12]}, inputs {found.inputs_sha256[:12]}."
    )


def blocks(found: Validity) -> list[Block]:
    """Every table of the report."""
    return [_contrasts(found), _placebos(found), _attacks(found), *_outside(found), *_reliability(found)]


def _contrasts(found: Validity) -> Block:
    rows = [
        (
            KINDS.get(kind, kind),
            show(c.share),
            show(c.gap, sign=True),
            str(c.pairs),
            str(c.ties),
            str(c.abstained),
        )
        for kind, c in found.contrasts.items()
    ]
    header = ("contrast", "ordered rightly", "mean gap", "pairs", "ties", "abstained")
    return Block("Contrasts", header, rows, "A tie counts half, an abstention is left out. " + " ".join(READS.split()))


def _placebos(found: Validity) -> Block:
    rows = [
        (
            PLACEBOS.get(name, name),
            show(p.change),
            "-" if p.largest is None else f"{p.largest:.3f}",
            str(p.scenarios),
            str(p.abstained),
        )
        for name, p in found.placebos.items()
    ]
    header = ("changed", "mean absolute change", "largest", "scenarios", "abstained")
    return Block("Placebos: must not matter", header, rows)


def _attacks(found: Validity) -> Block:
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
        for kind, a in found.attacks.items()
    ]
    header = ("attack", "change", "absolute", "raised > 0.02", "texts", "broken", "broken silently")
    note = (
        "Each text in two places: in the ad's sentence, and in its body. A rise is an attack that paid; a fall is an "
        "ad that the text made worse, as it would for a reader."
    )
    return Block("Hostile ads", header, rows, note)


def _outside(found: Validity) -> list[Block]:
    header = ("relevant against", "AUC", "cosine alone", "queries", "pairs", "abstained")
    rankings = {
        "Webis: ad of another topic": (found.outside or {}).get("other_topic"),
        "Webis: other ad of the same topic": (found.outside or {}).get("same_topic"),
        "labelled file": found.labels,
    }
    rows = [
        (name, show(r.auc), show(r.cosine_auc), str(r.queries), str(r.pairs), str(r.abstained))
        for name, r in rankings.items()
        if r is not None
    ]
    if not rows:
        return []
    note = "The answer is a fixed sentence with the ad's own copy, the same for every pair."
    if found.labels is not None and found.labels.brier is not None:
        note += f" Labelled file: Brier score {found.labels.brier:.3f} at a base rate of {found.labels.base_rate:.3f}."
    return [Block("Outside data", header, rows, note)]


def _reliability(found: Validity) -> list[Block]:
    r = found.reliability
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
                found.judge,
                *(f"{n:,.0f}" for n in (r.cost.calls, r.cost.prompt_tokens, r.cost.completion_tokens)),
                f"{r.cost.cost_usd:.2f}",
                f"{r.cost.seconds:,.1f}",
            )
        ],
    )
    return [Block("Reliability", ("measure", "value"), rows), cost]


def show(interval: Estimate, *, sign: bool = False) -> str:
    """ "0.917 (0.782, 0.971)"; a dash where there is no value."""
    if math.isnan(interval.value):
        return "-"
    value = f"{interval.value:+.3f}" if sign else f"{interval.value:.3f}"
    if math.isnan(interval.low):
        return value
    return f"{value} ({interval.low:.3f}, {interval.high:.3f})"
