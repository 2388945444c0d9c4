"""Writes the result tables of README.md and docs/results.md between their marks, from the files in benchmarks/results.

python -m benchmarks.readme_table

The source of the tables of all mechanisms is written by
`simenv compare RUN RUN --out benchmarks/results/bench/embedded_truthful.csv`.
"""

from __future__ import annotations

import csv
import re
import sys
from pathlib import Path

from benchmarks import field_table, validity_table
from benchmarks.bench_rows import bench, markdown, shown
from simenv.runs.tables import TITLES

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAPER = RESULTS / "paper"
README = ROOT / "README.md"
TABLES = ROOT / "docs" / "results.md"
COLUMNS = ("revenue", "welfare", "ctr", "ads", "quality_loss", "llm_calls", "tokens")
SHORT = ("organic", "prompted", "gsp", "vcg", "llm_auction")
"""The rows of README."""


def main() -> None:
    for path in (README, TABLES):
        path.write_text(page(path), encoding="utf-8")


def page(path: Path) -> str:
    """The text of README.md or docs/results.md with new tables."""
    text = path.read_text(encoding="utf-8")
    if path == README:
        return put(text, "table", everything(SHORT))
    text = put(text, "field", field_table.table())
    text = put(text, "table", everything())
    text = put(text, "learned", learned())
    text = put(text, "validity", validity_table.table(validity_table.read([])))
    return put(text, "paper", paper(8, 16))


def put(text: str, name: str, block: str) -> str:
    """Replaces the block of `text` between the marks of this name."""
    start, end = f"<!-- {name}: written by benchmarks/readme_table.py -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(start)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        sys.exit(f"no block {name!r} in the page")
    return pattern.sub(lambda _: f"{start}\n{block}\n{end}", text)


def everything(only: tuple[str, ...] = ()) -> str:
    """A table with the most important columns, of all mechanisms or of those in `only`."""
    rows: dict[str, list[str]] = {}
    cells = bench("embedded_truthful.csv")
    for mechanism, metric in cells:
        if metric == COLUMNS[0] and (not only or mechanism in only):
            answers = "{auctions} ({personas})".format(**cells[mechanism, metric])
            rows[mechanism] = [answers, *(shown(cells[mechanism, column], column) for column in COLUMNS)]
    heads = ["mechanism", "answers (personas)", *(TITLES.get(column, column) for column in COLUMNS)]
    return f"{markdown(heads, rows)}\n\n{CAPTION}"


CAPTION = (
    "Per answer; money in currency. ± is half of a 95% interval, clustered by persona. Money and clicks are "
    "expectations over the judge's click probabilities."
)


def learned() -> str:
    """Revenue and welfare at truthful bids and at bids learned in an audit, from two runs on the same auctions."""
    runs = [bench("embedded_truthful.csv"), bench("embedded_learned.csv")]
    rows = {
        mechanism: [shown(run[mechanism, metric], metric) for metric in ("revenue", "welfare") for run in runs]
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


if __name__ == "__main__":
    main()
