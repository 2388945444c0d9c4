"""Tables of a run for the terminal, as CSV and as Markdown."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from simenv.files.atomic import write_bytes_atomically
from simenv.files.blocks import Block, csv_text, markdown_table, print_table
from simenv.runs.metrics import METRICS
from simenv.runs.summary import Cell, Table
from simenv.stats import Estimate

if TYPE_CHECKING:
    import pandas

_MONEY = ("revenue", "bid_weighted_clicks", "reward", "welfare")
_BEHAVIOUR = ("ctr", "ads", "violations", "abstentions")
_ADVERTISERS = ("surplus", "losing", "losing_expected", "transfers")
_CONVERSIONS = ("conversions", "cpa", "roas")
_BOUNDED = ("revenue", "bid_weighted_clicks", "welfare", "ctr")
_TROUBLE = ("abstained", "errors", "refusals", "empty", "asked_again", "overcharges")
_COST = ("llm_calls", "tokens")
_QUALITY = ("satisfaction", "quality_loss", "ad_text_share", "factuality", "disclosure", "own_copy")
_BUILT_IN = frozenset([*(metric.name for metric in METRICS), *_ADVERTISERS])
_BOUNDS = "Bounds: ads on which the judge abstained are never clicked, or always"
TITLES = {
    "bid_weighted_clicks": "bid x clicks",
    "ctr": "CTR",
    "cpa": "CPA",
    "roas": "ROAS",
    "losing_expected": "losing, expected",
    "asked_again": "judge asked again",
    "llm_calls": "LLM calls",
    "quality_loss": "quality loss",
    "ad_text_share": "ad text",
    "own_copy": "own copy",
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

    The column `paired` tells whether the difference is paired with the baseline by auction.

    Args:
        table: The table.
        for_spreadsheets: Whether names that begin like a formula get an apostrophe.
    """
    text = csv_text if for_spreadsheets else str
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    header = ["mechanism", "metric", "unit", "mean", "low", "high", "baseline", "difference", "difference_low"]
    header += ["difference_high", "auctions", "personas", "expected_over_clicks", "paired", "least", "most"]
    writer.writerow(header)
    for cell in table.cells:
        writer.writerow(
            [
                *(text(cell.mechanism), text(cell.metric), text(cell.unit), *_numbers(cell.estimate)),
                *(text(table.baseline), *_numbers(cell.difference), cell.auctions, cell.personas, table.expected),
                *(cell.mechanism not in table.unpaired, *(cell.bounds or ("", ""))),
            ]
        )
    return out.getvalue()


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


def blocks(table: Table) -> list[Block]:
    """The tables: money, behaviour, cost, answer quality (if measured), differences, and bounds (if there are any)."""
    found = []
    for title, metrics, difference in _blocks(table):
        header = ("mechanism", *(TITLES.get(metric, metric) for metric in metrics))
        found.append(Block(title, header, [(name, *cells) for name, cells in _rows(table, metrics, difference)]))
    header, rows = _bounds(table)
    return [*found, Block(_BOUNDS, header, rows)] if rows else found


def caption(table: Table) -> str:
    """Describes sample sizes, intervals and the kind of numbers."""
    basis = (
        "Money and clicks are expectations over the judge's click probabilities."
        if table.expected
        else "Money and clicks are realised."
    )
    if any(c.bounds is not None for c in table.cells):
        basis += (
            " Abstentions are taken as independent of the click, given the ad's position and the number of ads; the "
            "bounds assume nothing."
        )
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


def _blocks(table: Table) -> list[tuple[str, tuple[str, ...], bool]]:
    measured = {cell.metric for cell in table.cells}
    behaviour = (*_BEHAVIOUR, *(metric for metric in _TROUBLE if metric in measured))
    blocks: list[tuple[str, tuple[str, ...], bool]] = [
        ("Money, currency per answer", _MONEY, False),
        ("Behaviour, per answer (CTR: per shown ad)", behaviour, False),
        ("Cost, per answer", _COST, False),
    ]
    if advertisers := tuple(metric for metric in _ADVERTISERS if metric in measured):
        blocks.append(("Advertisers: surplus and transfers per answer, share with a loss", advertisers, False))
    if conversions := tuple(metric for metric in _CONVERSIONS if metric in measured):
        title = "Conversions per answer, cost per conversion (CPA), value of conversions per payment (ROAS)"
        blocks.append((title, conversions, False))
    if "satisfaction" in measured and (quality := tuple(metric for metric in _QUALITY if metric in measured)):
        blocks.append(("Answer quality, 0 to 1 (factuality, disclosure, own copy: per shown ad)", quality, False))
    if own := tuple(dict.fromkeys(c.metric for c in table.cells if c.metric not in _BUILT_IN)):
        blocks.append(("Further metrics", own, False))
    if len({cell.mechanism for cell in table.cells}) > 1:
        blocks.append((f"Difference against {table.baseline}, currency per answer", _MONEY, True))
    return blocks


def _bounds(table: Table) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Header and rows of the bounds where the judge abstained; no rows if it did not."""
    rows: dict[str, list[str]] = {}
    for cell in table.cells:
        if cell.metric in _BOUNDED and cell.bounds is not None:
            least, most = (show(Estimate(value=bound), cell.metric) for bound in cell.bounds)
            rows.setdefault(cell.mechanism, ["-"] * len(_BOUNDED))[_BOUNDED.index(cell.metric)] = f"{least} to {most}"
    header = ("mechanism", *(TITLES.get(metric, metric) for metric in _BOUNDED))
    return header, [(name, *row) for name, row in rows.items()]


def _rows(table: Table, metrics: tuple[str, ...], difference: bool) -> list[tuple[str, list[str]]]:
    cells: dict[str, dict[str, Cell]] = {}
    for cell in table.cells:
        cells.setdefault(cell.mechanism, {})[cell.metric] = cell
    rows = []
    for name, by_metric in cells.items():
        if difference and name == table.baseline:
            continue
        estimates = [by_metric[m].difference if difference else by_metric[m].estimate for m in metrics]
        rows.append((name, [show(e, m, sign=difference) for e, m in zip(estimates, metrics, strict=True)]))
    return rows


def show(estimate: Estimate | None, metric: str, *, sign: bool = False) -> str:
    """Formats an estimate as "12.3 ±1.2"; a dash if it has no value."""
    if estimate is None or math.isnan(estimate.value):
        return "-"
    digits = {"ctr": 3, "tokens": 0, "quality_loss": 3}.get(metric, 2)
    value = f"{estimate.value:+.{digits}f}" if sign else f"{estimate.value:.{digits}f}"
    return value if math.isnan(estimate.margin) else f"{value} ±{estimate.margin:.{digits}f}"


def _numbers(estimate: Estimate | None) -> list[str]:
    return ["" if math.isnan(number) else repr(number) for number in (estimate or Estimate()).numbers]
