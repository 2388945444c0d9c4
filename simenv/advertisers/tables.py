"""The advertiser's report for reading: terminal and Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from simenv.advertisers.budgets import QUARTERS, Budget
from simenv.advertisers.lines import ALL, Line, to_csv
from simenv.advertisers.report import AdvertiserReport
from simenv.advertisers.terms import BY_NAME
from simenv.files.atomic import write_bytes_atomically
from simenv.files.blocks import Block, Report

_LISTED = 12
"""Most ads or parts of a mechanism that a table shows: those that spent most."""
_FEW = 5
"""Users below whose number tables leave out intervals: they are wider than the numbers."""
_OF_EACH = ("impressions", "share_of_voice", "clicks", "ctr", "cpc", "cpm", "ecpm", "spend", "value", "surplus", "roi")
_OF_PARTS = ("impressions", "clicks", "ctr", "cpc", "cpm", "ecpm", "spend", "value", "surplus", "roi")
_OF_CONVERSIONS = ("conversions", "cpa", "roas")
_COUNTED = frozenset({"auctions", "impressions", "abstained", "clicks_realised", "conversions_realised"})
"""Terms that are plain counts: a reader needs no interval."""
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
            blocks.append(_part(f"By {said}", lines))
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
            " Where the judge abstained, verdicts are weighted by persona, number of ads and position: right if "
            "it abstains independently of the click among such ads; in brackets: the number if no abstained ad was "
            "clicked, and if all were."
        )
    failed = f" {report.failed} answers failed and count nowhere." if report.failed else ""
    said = ", ".join(report.about)
    head = f"{said[:1].upper()}{said[1:]}. " if said else ""
    return f"{head}± is a 95% interval, clustered by persona. {basis}{failed}"


def _one(report: AdvertiserReport) -> Block:
    """One advertiser: a row per term, a column per mechanism."""
    lines = [line for line in report.lines if line.by == "total"]
    mechanisms = list(dict.fromkeys(line.mechanism for line in lines))
    cells = {(line.metric, line.mechanism): show(line, few=line.personas < _FEW) for line in lines}
    shown = [term for term in BY_NAME.values() if any((term.name, m) in cells for m in mechanisms)]
    rows = [(term.title, term.unit, *(cells.get((term.name, m), "-") for m in mechanisms)) for term in shown]
    ads = ", ".join(f"{ad_id} ({name})" for ad_id, name in report.names.items())
    reached = {m: max(line.personas for line in lines if line.mechanism == m) for m in mechanisms}
    seen = ", ".join(f"{n} under {mechanism}" for mechanism, n in reached.items())
    rough = f" Intervals are rough below 10 users, and left out below {_FEW}." if min(reached.values()) < 10 else ""
    note = f"Ads: {ads}. Users who saw one: {seen}.{rough}"
    return Block("Totals over the run", ("", "unit", *mechanisms), rows, note, texts=2)


def _each(report: AdvertiserReport) -> Block:
    """All advertisers: those that spent most."""
    lines = [line for line in report.lines if line.by == "total"]
    of_ads = [line for line in lines if line.advertiser != ALL]
    names = {line.advertiser: f"{line.advertiser} {_name(report, line.advertiser)}" for line in of_ads}
    columns = _columns(lines, _OF_EACH)
    rows = _rows([line for line in lines if line.advertiser == ALL], columns, lambda line: "all ads")
    rows += _rows(of_ads, columns, lambda line: names[line.advertiser])
    return _listing("Totals over the run, by ad", rows, columns)


def _part(title: str, lines: Sequence[Line]) -> Block:
    columns = _columns(lines, _OF_PARTS)
    return _listing(title, _rows(lines, columns, lambda line: line.of), columns)


def _rows(lines: Sequence[Line], columns: Sequence[str], name: Callable[[Line], str]) -> list[tuple[str, ...]]:
    """A row per mechanism and ad or part, of those that were shown or charged."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line.mechanism, name(line)), []).append(line)
    kept: dict[str, list[tuple[str, ...]]] = {}
    for (mechanism, of), group in groups.items():
        spend = next((line.estimate.value for line in group if line.metric == "spend"), 0.0)
        if group[0].impressions or spend:
            cells = {line.metric: show(line, few=line.personas < _FEW) for line in group}
            kept.setdefault(mechanism, []).append((f"{mechanism}: {of}", *(cells.get(m, "-") for m in columns)))
    return [row for rows in kept.values() for row in rows[:_LISTED]]


def _listing(title: str, rows: Sequence[tuple[str, ...]], columns: Sequence[str]) -> Block:
    header = ("", *(BY_NAME[metric].title for metric in columns))
    note = (
        f"Of each mechanism at most {_LISTED} rows, those that spent most, without intervals where fewer than {_FEW} "
        "users saw an ad. A .csv file has all numbers."
    )
    return Block(title, header, rows, note)


def _without(lines: Sequence[Line]) -> Block:
    mechanisms = list(dict.fromkeys(line.mechanism for line in lines))
    cells = {(line.metric, line.mechanism): show(line, few=line.personas < _FEW) for line in lines}
    rows = [
        (
            metric.replace("others_", "others' ").replace("_", " "),
            unit,
            *(cells.get((metric, m), "-") for m in mechanisms),
        )
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
        for b in _most_spent(report.budgets)
    ]
    note = (
        "Realised payments. A budget is exhausted if 99% of it is spent. Quarters: share of the spending in each "
        "quarter of the auctions in which the ad was a candidate; even pacing gives 0.25."
    )
    header = ("mechanism and ad", "budget", "spent", "share", "exhausted", *quarters)
    return Block("Budgets and pacing", header, rows, note)


def _most_spent(budgets: Iterable[Budget]) -> list[Budget]:
    """The budgets of each mechanism of which most was spent."""
    by_mechanism: dict[str, list[Budget]] = {}
    for budget in sorted(budgets, key=lambda budget: -budget.spent):
        by_mechanism.setdefault(budget.mechanism, []).append(budget)
    return [budget for of_one in by_mechanism.values() for budget in of_one[:_LISTED]]


def show(line: Line, *, few: bool = False) -> str:
    """A number as text, with its interval unless there are few users, and with its bounds where the judge abstained."""
    digits = BY_NAME[line.metric].digits if line.metric in BY_NAME else 3 if line.unit == "share" else 2
    value, margin = line.estimate.value, line.estimate.margin
    text = f"{value:.{digits}f}"
    if not few and not math.isnan(margin) and line.metric not in _COUNTED:
        text += f" ±{margin:.{digits}f}"
    if line.bounds is not None:
        text += f" [{line.bounds[0]:.{digits}f} to {line.bounds[1]:.{digits}f}]"
    return text


def _columns(lines: Iterable[Line], metrics: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics, with conversions where there are any, and with abstentions where they touch the rest."""
    lines = list(lines)
    converted = any(line.metric == "conversions" and line.estimate.value > 0 for line in lines)
    abstained = any(line.abstained for line in lines)
    return (*metrics, *(_OF_CONVERSIONS if converted else ()), *(("abstained",) if abstained else ()))


def _name(report: AdvertiserReport, advertiser: str) -> str:
    return report.names.get(advertiser, "")
