"""Rows of result files: those of table.csv in benchmarks/results/bench as Markdown tables, and any as CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simenv.runs.tables import show
from simenv.stats import Estimate

BENCH = Path(__file__).parent / "results" / "bench"


def bench(file: str) -> dict[tuple[str, str], dict[str, str]]:
    """(mechanism, metric) -> row of a table.csv."""
    with (BENCH / file).open(encoding="utf-8", newline="") as lines:
        return {(row["mechanism"], row["metric"]): row for row in csv.DictReader(lines)}


def shown(row: Mapping[str, str] | None, metric: str) -> str:
    """The number of a row with its interval; "-" if there is no row."""
    if row is None:
        return "-"
    value, low, high = (float(row[name] or "nan") for name in ("mean", "low", "high"))
    return show(Estimate(value=value, low=low, high=high), metric)


def markdown(header: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A Markdown table; the first column has the rows' names."""
    lines = [header, ["---"] * len(header), *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def write_rows(rows: Sequence[Mapping[str, Any]], out: Path) -> None:
    """Writes rows as CSV."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
