"""Rows of the table.csv files in benchmarks/results/bench, and Markdown tables of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

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
