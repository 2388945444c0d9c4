"""Tables of a run for the terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from simenv.files.atomic import write_bytes_atomically
from simenv.files.blocks import Block, csv_text, markdown_table, print_table
from simenv.runs.metrics import METRIC_SETS, METRICS
from simenv.runs.summary import Cell, Table
from simenv.stats import Estimate

if TYPE_CHECKING:
    import pandas

_MONEY = ("revenue", "bid_weighted_clicks", "reward", "welfare")
_BEHAVIOUR = ("ctr", "abstained", "ads", "violations", "abstentions")
_ADVERTISERS = ("surplus", "losing", "losing_expected", "transfers")
_CONVERSIONS = ("conversions", "cpa", "roas")
_SESSIONS = ("session_revenue", "session_ads", "stop_turn")
_BOUNDED = ("revenue", "bid_weighted_clicks", "welfare", "ctr")
_TROUBLE = ("errors", "refusals", "empty", "asked_again", "overcharges")
_QUESTIONS = ("question_chosen", "sponsored_chosen")
_COST = ("llm_calls", "tokens")
_QUALITY = ("satisfaction", "quality_loss", "ad_text_share", "factuality", "disclosure", "own_copy")
_GEM = ("flow", "coherence", "transition", "transition_least", "alignment", "has_ad", "injected")
_GEM_GRADES = ("accuracy", "naturalness", "personality", "trust", "notice", "click", "unread")
_BUILT_IN = frozenset([*(metric.name for metric in METRICS), *_ADVERTISERS, *METRIC_SETS["detection"]])
_BOUNDS = "Bounds: ads on which the judge abstained are never clicked, or always"
_TIES = ("noise_floor", "tied")
_WHERE_ABSTAINED = ("abstained", "overlap", "difference_least", "difference_most")
TITLES = {
    "bid_weighted_clicks": "bid x clicks",
    "ctr": "CTR",
    "cpa": "CPA",
    "roas": "ROAS",
    "losing_expected": "losing, expected",
    "asked_again": "judge asked again",
    "llm_calls": "LLM calls",
    "question_chosen": "chosen",
    "sponsored_chosen": "sponsored chosen",
    "quality_loss": "quality loss",
    "ad_text_share": "ad text",
    "own_copy": "own copy",
    **{f"gem_{name}": name.replace("_", " ") for name in (*_GEM, *_GEM_GRADES)},
    "gem_transition": "ad transition",
    "gem_transition_least": "ad transition, least",
    "gem_alignment": "ad alignment",
    "gem_unread": "abstained",
    "session_revenue": "revenue per session",
    "session_ads": "ads per session",
    "stop_turn": "turn of first ad",
}


def write_tables(table: Table, folder: Path) -> None:
    """Writes table.csv (long format) and table.md, each at once.

    Raises:
        CannotWrite: one of them cannot be written.
    """
    write_bytes_atomically(folder / "table.csv", to_csv(table, for_spreadsheets=True).encode())
    write_bytes_atomically(folder / "table.md", to_markdown(table).encode())


def to_csv(table: Table, *, for_spreadsheets: bool = False) -> str:
    """Returns CSV with one row per mechanism and metric. An undefined interval is empty, and so are bounds where the
    judge did not abstain.

    The column `paired` tells whether the difference is paired with the baseline by auction. Where the judge abstained,
    four more columns have the rate, the overlap, and the bounds of the difference. Where ties are marked, two more have
    the noise floor of the difference, and why it is a tie: "no" if it is none, empty without an interval.

    Args:
        table: The table.
        for_spreadsheets: Whether names that begin like a formula get an apostrophe.
    """
    text = csv_text if for_spreadsheets else str
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = ["mechanism", "metric", "unit", "mean", "low", "high", "baseline", "difference", "difference_low"]
    header += ["difference_high", "auctions", "personas", "expected_over_clicks", "paired", "least", "most"]
    more = _WHERE_ABSTAINED if table.abstained else ()
    writer.writerow([*header, *more, *(_TIES if table.ties is not None else ())])
    for cell in table.cells:
        writer.writerow(
            [
                *(text(cell.mechanism), text(cell.metric), text(cell.unit), *_numbers(cell.estimate)),
                *(text(table.baseline), *_numbers(cell.difference), cell.auctions, cell.personas, table.expected),
                *(cell.mechanism not in table.unpaired, *(cell.bounds or ("", ""))),
                *(_about_abstentions(cell) if table.abstained else ()),
                *(_about_ties(cell) if table.ties is not None else ()),
            ]
        )
    return out.getvalue()


def _about_abstentions(cell: Cell) -> list[float | str]:
    numbers = (cell.abstained, cell.overlap, *(cell.difference_bounds or (None, None)))
    return ["" if number is None else number for number in numbers]


def _about_ties(cell: Cell) -> list[float | str]:
    return ["" if cell.floor is None else cell.floor, "" if cell.tied is None else cell.tied or "no"]


def to_frame(table: Table) -> pandas.DataFrame:
    """Returns the rows of table.csv as a pandas DataFrame; an undefined interval is NaN."""
    import pandas

    return pandas.read_csv(io.StringIO(to_csv(table)), keep_default_na=False, na_values=[""])


def to_markdown(table: Table) -> str:
    """Returns Markdown tables of money, behaviour, cost, answer quality (if measured), and differences."""
    parts = [f"**{block.title}**\n\n{markdown_table(block.header, block.rows)}" for block in blocks(table)]
    return "\n\n".join([*parts, caption(table)]) + "\n"


def print_tables(table: Table, console: Console) -> None:
    """Prints the same tables. Where the console is too narrow, a table goes on in another one; no number is cut."""
    for block in blocks(table):
        print_table(block.title, block.header, block.rows, console)
    console.print(Text(caption(table)), style="dim")


def caption(table: Table) -> str:
    """Describes sample sizes, intervals and the kind of numbers."""
    basis = (
        "Money and clicks are expectations over the judge's click probabilities."
        if table.expected
        else "Money and clicks are realised."
    )
    basis += _said_of_abstentions(table) if table.abstained else ""
    basis += _said_of_ties(table) if table.ties is not None else ""
    names = dict.fromkeys(c.mechanism for c in table.cells)
    groups = [[c for c in table.cells if c.mechanism == name] for name in names]
    answers = _range([max(c.auctions for c in cells) for cells in groups])
    personas = _range([max(c.personas for c in cells) for cells in groups])
    few = min(max(c.personas for c in cells) for cells in groups) < 10
    basis += " With fewer than 10 personas intervals are rough." if few else ""
    unpaired = [name for name in names if name in table.unpaired]
    exceptions = f", but for {', '.join(unpaired)}: other auctions, unpaired" if unpaired else ""
    has_errors = any(c.metric == "errors" for c in table.cells)
    failed = " Answers that failed (errors) are left out of all other numbers." if has_errors else ""
    charging = ", ".join(c.mechanism for c in table.cells if c.metric == "overcharges" and c.estimate.value > 0)
    charged = f" {charging} charged more than bids cover, or ads that were not shown (overcharges)." if charging else ""
    about = f"{', '.join(table.about)}. " if table.about else ""
    return (
        about[:1].upper()
        + about[1:]
        + (
            f"{answers} answers per mechanism, {personas} personas; "
            "± is a 95% interval, clustered by persona; "
            f"differences are paired against {table.baseline}{exceptions}. {basis}{failed}{charged}"
        )
    )


def _range(counts: list[int]) -> str:
    least, most = min(counts), max(counts)
    return str(most) if least == most else f"{least} to {most}"


def _said_of_abstentions(table: Table) -> str:
    overlaps = [cell.overlap for cell in table.cells if cell.overlap is not None]
    none = ", ".join(dict.fromkeys(cell.mechanism for cell in table.cells if cell.abstained == 1))
    return (
        " Abstained: share of shown ads without a verdict. Verdicts are weighted by persona, number of ads and "
        "position; that is right if the judge abstains independently of the click among such ads; "
        + ("all shown ads are" if min(overlaps) == 1 else f"{_percent_range(overlaps)} of shown ads are")
        + " like one with a verdict"
        + ("" if min(overlaps) == 1 else ", and the mean of more ads stands for the others")
        + ". The bounds assume nothing."
    ) + (f" No verdict on {none} is known, so its clicks have bounds alone." if none else "")


def _said_of_ties(table: Table) -> str:
    return (
        f" = marks a tie with {table.baseline}: the interval holds 0, or the difference is inside the judge's noise "
        f"floor, by which it moves when the same judge judges the same answers again. {table.ties}"
    )


def _percent_range(shares: list[float]) -> str:
    least, most = f"{min(shares):.0%}", f"{max(shares):.0%}"
    return most if least == most else f"{least} to {most}"


def blocks(table: Table) -> Iterator[Block]:
    """All tables of the metrics that were measured."""
    own = dict.fromkeys(cell.metric for cell in table.cells if cell.metric not in _BUILT_IN)
    yield from _block(table, "Money, currency per answer", _MONEY)
    yield from _block(table, "Behaviour, per answer (CTR: per shown ad)", (*_BEHAVIOUR, *_TROUBLE))
    yield from _block(table, "Sessions of linked turns (turn of the first ad: from 0, if there is one)", _SESSIONS)
    yield from _block(
        table, "Follow-up questions: share of offers in which one is chosen, and a sponsored one", _QUESTIONS
    )
    yield from _block(table, "Cost, per answer", _COST)
    yield from _block(table, "Advertisers: surplus and transfers per answer, share with a loss", _ADVERTISERS)
    title = "Conversions per answer, cost per conversion (CPA), value of conversions per payment (ROAS)"
    yield from _block(table, title, _CONVERSIONS)
    if any(cell.metric == "satisfaction" for cell in table.cells):
        yield from _block(table, "Answer quality, 0 to 1 (factuality, disclosure, own copy: per shown ad)", _QUALITY)
    yield from _block(table, "GEM-Bench's quantities, up to 100", [f"gem_{name}" for name in _GEM])
    if any(cell.metric == "gem_unread" for cell in table.cells):
        title = "GEM-Bench's grades, 0 to 90 (abstained: grades of 6)"
        yield from _block(table, title, [f"gem_{name}" for name in _GEM_GRADES])
    title = "Ads that a frozen classifier finds (detectability: AUC, 0.5 is chance; detected: at 1% false alarms)"
    yield from _block(table, title, METRIC_SETS["detection"])
    yield from _block(table, "Further metrics", own)
    title = f"Difference against {table.baseline}, currency per answer"
    yield from _block(table, title, _MONEY, difference=True)
    yield from _bounds(table, _BOUNDS, lambda cell: cell.bounds)
    yield from _bounds(table, f"Bounds of the difference against {table.baseline}", lambda cell: cell.difference_bounds)


def _block(table: Table, title: str, metrics: Iterable[str], *, difference: bool = False) -> Iterator[Block]:
    """One table of those of the metrics that were measured, none if none was."""
    cells = {(cell.mechanism, cell.metric): cell for cell in table.cells}
    columns = [metric for metric in metrics if any(cell.metric == metric for cell in table.cells)]
    names = dict.fromkeys(name for name, _ in cells if name != table.baseline or not difference)
    if not columns or not names:
        return
    header = ["mechanism", *(TITLES.get(metric, metric) for metric in columns)]
    rows: list[tuple[str, ...]] = []
    for name in names:
        shown = [cells[name, metric] for metric in columns]
        numbers = [cell.difference if difference else cell.estimate for cell in shown]
        texts = [show(it, metric, sign=difference) for it, metric in zip(numbers, columns, strict=True)]
        if difference and table.ties is not None:
            texts = [f"{text} =" if cell.tied else text for text, cell in zip(texts, shown, strict=True)]
        rows.append((name, *texts))
    rates = _rates(table, columns)
    if rates and "abstained" not in columns:
        header += ["abstained", *([f"abstained, {table.baseline}"] if difference else [])]
        rows = [(*row, rates[row[0]], *([rates[table.baseline]] if difference else [])) for row in rows]
    yield Block(title, tuple(header), rows)


def _rates(table: Table, metrics: Iterable[str]) -> dict[str, str]:
    """Mechanism -> share of its shown ads without a verdict, if one of the metrics depends on clicks."""
    rates = [(cell.mechanism, cell.abstained) for cell in table.cells if cell.metric in metrics]
    return {name: f"{rate:.1%}" for name, rate in rates if rate is not None}


def _bounds(table: Table, title: str, bounds: Callable[[Cell], tuple[float, float] | None]) -> Iterator[Block]:
    """The bounds of the mechanisms that have any; no table if none has."""
    columns = [metric for metric in _BOUNDED if any(cell.metric == metric for cell in table.cells)]
    rates, rows = _rates(table, columns), dict[str, list[str]]()
    for cell in table.cells:
        if cell.metric in columns and (between := bounds(cell)) is not None:
            least, most = (show(Estimate(value=bound), cell.metric) for bound in between)
            rows.setdefault(cell.mechanism, ["-"] * len(columns))[columns.index(cell.metric)] = f"{least} to {most}"
    if rows:
        header = ["mechanism", *(TITLES.get(metric, metric) for metric in columns), "abstained"]
        yield Block(title, tuple(header), [(name, *row, rates[name]) for name, row in rows.items()])


def show(estimate: Estimate | None, metric: str, *, sign: bool = False) -> str:
    """Formats an estimate as "12.3 ±1.2"; a dash if it has no value."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    digits = {"ctr": 3, "tokens": 0, "quality_loss": 3}.get(metric, 2)
    value = f"{estimate.value:+.{digits}f}" if sign else f"{estimate.value:.{digits}f}"
    return value if math.isnan(estimate.margin) else f"{value} ±{estimate.margin:.{digits}f}"


def _numbers(estimate: Estimate | None) -> list[str]:
    return ["" if math.isnan(number) else repr(number) for number in (estimate or Estimate()).numbers]
