"""The advertiser's report for reading: terminal and Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from simenv.advertisers.budgets import QUARTERS
from simenv.advertisers.lines import ALL, Line, to_csv
from simenv.advertisers.report import AdvertiserReport
from simenv.advertisers.terms import BY_NAME
from simenv.files.atomic import write_bytes_atomically
from simenv.files.blocks import Block, Report

_LISTED = 20
"""Ads that a table of all shows."""
_OF_EACH = ("impressions", "share_of_voice", "clicks", "ctr", "cpc", "cpm", "ecpm", "spend", "value", "surplus", "roi")
_OF_PARTS = ("impressions", "clicks", "ctr", "cpc", "cpm", "ecpm", "spend", "value", "surplus", "roi")
_OF_CONVERSIONS = ("conversions", "cpa", "roas")
_PARTS = {"position": "position", "category": "category of the ad", "topic": "topic of the query"}


def write(report: AdvertiserReport, path: Path) -> None:
    """Writes the report as .csv, else as Markdown.

    Raises:
        CannotWrite: the file cannot be written.
    """
    if path.suffix == ".csv":
        content = to_csv(report.lines, report.names, report.expected, for_spreadsheets=True)
    else:
        content = readable(report).to_markdown()
    write_bytes_atomically(path, content.encode())


def readable(report: AdvertiserReport) -> Report:
    """The report as tables."""
    whole = {line.advertiser for line in report.lines if line.by == "total"}
    everything = ALL in whole
    blocks = [] if everything else [_one(report)]
    if everything:
        blocks.append(_each(report))
    for by, said in _PARTS.items():
        lines = [line for line in report.lines if line.by == by]
        if len({line.of for line in lines}) > (by != "position"):
            blocks.append(_part(f"By {said}", lines, _columns(lines, _OF_PARTS)))
    if without := [line for line in report.lines if line.by == "without"]:
        blocks.append(_without(without))
    if report.budgets:
        blocks.append(_budgets(report))
    (one, *_) = whole
    title = "All advertisers" if everything else f"Advertiser {_name(report, one) or one}"
    return Report(title, caption(report), blocks, report.notes)


def caption(report: AdvertiserReport) -> str:
    """What the numbers are."""
    basis = (
        "Clicks, money and value are expectations over the judge's click probabilities."
        if report.expected
        else "Clicks, money and value are realised."
    )
    missing = {line.mechanism for line in report.lines if line.abstained}
    if missing:
        basis += (
            " Where the judge abstained, clicks are estimated from ads at the same position of answers with as many "
            "ads; in brackets: the value if no abstained ad was clicked, and if all were."
        )
    failed = f" {report.failed} answers failed and count nowhere." if report.failed else ""
    said = ", ".join(report.about)
    head = f"{said[:1].upper()}{said[1:]}. " if said else ""
    return f"{head}± is a 95% interval, clustered by persona. {basis}{failed}"


def _one(report: AdvertiserReport) -> Block:
    """One advertiser: a row per term, a column per mechanism."""
    lines = [line for line in report.lines if line.by == "total"]
    mechanisms = list(dict.fromkeys(line.mechanism for line in lines))
    cells = {(line.metric, line.mechanism): show(line) for line in lines}
    shown = [term for term in BY_NAME.values() if any((term.name, m) in cells for m in mechanisms)]
    rows = [
        (term.title, term.unit, *(cells.get((term.name, m), "-") for m in mechanisms)) for term in shown if term.unit
    ]
    ads = ", ".join(f"{ad_id} ({name})" for ad_id, name in report.names.items())
    return Block("Totals over the run", ("", "unit", *mechanisms), rows, f"Ads: {ads}.", texts=2)


def _each(report: AdvertiserReport) -> Block:
    """All advertisers: those that spent most."""
    rows: dict[tuple[str, str], list[Line]] = {}
    for line in report.lines:
        if line.by == "total":
            rows.setdefault((line.mechanism, line.advertiser), []).append(line)
    metrics = _columns(report.lines, _OF_EACH)
    left: dict[str, int] = {}
    shown = []
    for (mechanism, advertiser), lines in rows.items():
        left[mechanism] = left.get(mechanism, 0) + 1
        if left[mechanism] <= _LISTED + 1:
            said = "all" if advertiser == ALL else f"{advertiser} {_name(report, advertiser)}"
            shown.append((f"{mechanism}: {said}", *_cells(lines, metrics)))
    most = max(left.values()) - 1
    note = f"The {_LISTED} ads that spent most, of {most}; a .csv file has all of them." if most > _LISTED else ""
    header = ("mechanism and ad", *(BY_NAME[metric].title for metric in metrics))
    return Block("Totals over the run, by ad", header, shown, note)


def _part(title: str, lines: Sequence[Line], metrics: Sequence[str]) -> Block:
    rows: dict[str, list[Line]] = {}
    for line in lines:
        rows.setdefault(f"{line.mechanism}: {line.of}", []).append(line)
    header = ("mechanism and part", *(BY_NAME[metric].title for metric in metrics))
    return Block(title, header, [(name, *_cells(group, metrics)) for name, group in rows.items()])


def _without(lines: Sequence[Line]) -> Block:
    mechanisms = list(dict.fromkeys(line.mechanism for line in lines))
    cells = {(line.metric, line.mechanism): show(line) for line in lines}
    rows = [
        (metric.replace("_", " "), unit, *(cells.get((metric, m), "-") for m in mechanisms))
        for metric, unit in dict.fromkeys((line.metric, line.unit) for line in lines)
    ]
    note = (
        "The same auctions with the advertiser minus without it, paired. All: over the platform; others: the other ads."
    )
    return Block("What the advertiser changes", ("", "unit", *mechanisms), rows, note, texts=2)


def _budgets(report: AdvertiserReport) -> Block:
    quarters = tuple(f"quarter {i}" for i in range(1, QUARTERS + 1))
    rows = [
        (
            f"{b.mechanism}: {b.ad_id} {report.names.get(b.ad_id, '')}",
            *(f"{b.budget:g}", f"{b.spent:.2f}"),
            *(f"{b.share:.3f}", f"{b.exhausted} of {b.purses}"),
            *("-" if math.isnan(quarter) else f"{quarter:.2f}" for quarter in b.quarters),
        )
        for b in sorted(report.budgets, key=lambda b: (b.mechanism, -b.spent))
    ]
    note = (
        "Realised payments. A budget is exhausted if 99% of it is spent. Quarters: share of the spending in each "
        "quarter of the auctions in which the ad was a candidate; even pacing gives 0.25."
    )
    header = ("mechanism and ad", "budget", "spent", "share", "exhausted", *quarters)
    return Block("Budgets and pacing", header, rows[:_LISTED], note)


def show(line: Line) -> str:
    """A number as text, with its interval and, where the judge abstained, its bounds."""
    digits = BY_NAME[line.metric].digits if line.metric in BY_NAME else 3 if line.unit == "share" else 2
    value, margin = line.estimate.value, line.estimate.margin
    text = f"{value:.{digits}f}"
    if digits and not math.isnan(margin):
        text += f" ±{margin:.{digits}f}"
    if line.bounds is not None:
        text += f" [{line.bounds[0]:.{digits}f} to {line.bounds[1]:.{digits}f}]"
    return text


def _cells(lines: Iterable[Line], metrics: Sequence[str]) -> list[str]:
    shown = {line.metric: show(line) for line in lines}
    return [shown.get(metric, "-") for metric in metrics]


def _columns(lines: Iterable[Line], metrics: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics, with conversions where there are any, and with abstentions where they touch the rest."""
    lines = list(lines)
    converted = any(line.metric == "conversions" and line.estimate.value > 0 for line in lines)
    abstained = any(line.abstained for line in lines)
    return (*metrics, *(_OF_CONVERSIONS if converted else ()), *(("abstained",) if abstained else ()))


def _name(report: AdvertiserReport, advertiser: str) -> str:
    return report.names.get(advertiser, "")
