"""Writes the result tables of README.md between their marks, from a run and from the files in benchmarks/results.

simenv bench --mechanisms organic,prompted,gsp,llm_auction --n 32 --horizon 2 --seed 0 --out runs/readme
python -m benchmarks.readme_table [runs/readme ...]

With several runs, only the auctions that all mechanisms answered are used. Without a run the first table is unchanged.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from benchmarks import validity_table
from simenv.records import Transition
from simenv.runs.folder import read_transitions
from simenv.runs.summary import Table, summarize
from simenv.runs.tables import TITLES, caption, show

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAPER = RESULTS / "paper"
COLUMNS = ("revenue", "welfare", "ctr", "ads", "quality_loss", "llm_calls", "tokens")


def main() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    if len(sys.argv) > 1:
        table = summarize(common([t for run in sys.argv[1:] for t in read_transitions(run)]))
        text = put(text, "table", f"{compact(table)}\n\n{caption(table)}")
    text = put(text, "validity", validity_table.table(validity_table.read([])))
    text = put(text, "learned", learned())
    text = put(text, "paper", paper(8, 16))
    (ROOT / "README.md").write_text(text, encoding="utf-8")


def common(rows: list[Transition]) -> list[Transition]:
    """The transitions of auctions that all mechanisms answered."""
    answered: dict[str, set[str]] = {}
    for row in rows:
        answered.setdefault(row.mechanism, set()).add(row.auction.id)
    shared = set.intersection(*answered.values())
    return [row for row in rows if row.auction.id in shared]


def put(text: str, name: str, block: str) -> str:
    """Replaces the block of `text` between the marks of this name."""
    start, end = f"<!-- {name}: written by benchmarks/readme_table.py -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        sys.exit(f"README.md has no block {name!r}")
    return pattern.sub(lambda _: f"{start}\n{block}\n{end}", text)


def compact(table: Table) -> str:
    """One table with the most important columns."""
    rows: dict[str, list[str]] = {}
    for column in COLUMNS:
        for cell in table.cells:
            if cell.metric == column:
                rows.setdefault(cell.mechanism, []).append(show(cell.estimate, column))
    return markdown(["mechanism", *(TITLES.get(column, column) for column in COLUMNS)], rows)


def learned() -> str:
    """Revenue and welfare at truthful bids and at bids learned in an audit, from two runs on the same auctions."""
    runs = []
    for name in ("embedded_truthful.csv", "embedded_learned.csv"):
        with (RESULTS / "bench" / name).open(encoding="utf-8", newline="") as file:
            runs.append({(row["mechanism"], row["metric"]): row for row in csv.DictReader(file)})
    rows = {
        mechanism: [
            f"{float(row['mean']):.2f} ±{(float(row['high']) - float(row['low'])) / 2:.2f}"
            for metric in ("revenue", "welfare")
            for run in runs
            if (row := run[mechanism, metric])
        ]
        for mechanism, metric in runs[1]
        if metric == "revenue"
    }
    heads = [f"{metric}, {bids} bids" for metric in ("revenue", "welfare") for bids in ("truthful", "learned")]
    return markdown(["mechanism", *heads], rows)


def paper(*candidates: int) -> str:
    """Shares of the optimum from the results of `paper_exact.py`, for each number of candidates."""
    rows: dict[str, list[str]] = {}
    for n in candidates:
        with (PAPER / f"exact_{n}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                share, low, high = (100 * float(row[name]) for name in ("share", "low", "high"))
                cells = rows.setdefault(row["mechanism"], [row["choices"]])
                cells += [f"{share:.1f} ({low:.1f}, {high:.1f})", f"{float(row['gap']):+.2f}"]
    heads = [head for n in candidates for head in (f"% of optimum, n = {n}", "less llm_auction")]
    return markdown(["mechanism", "answers written", *heads], rows)


def markdown(header: list[str], rows: dict[str, list[str]]) -> str:
    lines = [header, ["---"] * len(header), *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
