"""Writes the result table of README's first screen from a run.

simenv bench --mechanisms organic,prompted,fixed_slots,gsp,best_of_n --n 120 --seed 0 --out runs/readme
python benchmarks/readme_table.py runs/readme
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from simenv.metrics import Table, summarize
from simenv.report import TITLES, caption, show
from simenv.store import read_transitions

README = Path(__file__).parent.parent / "README.md"
START = "<!-- table: written by benchmarks/readme_table.py -->"
END = "<!-- end of table -->"
COLUMNS = ("revenue", "bid_weighted_clicks", "welfare", "ctr", "ads", "llm_calls", "tokens")


def compact(table: Table) -> str:
    """One table of the columns that a first look needs."""
    rows: dict[str, list[str]] = {}
    for column in COLUMNS:
        for cell in table.cells:
            if cell.metric == column:
                rows.setdefault(cell.mechanism, []).append(show(cell.estimate, column))
    header = ["mechanism", *(TITLES.get(column, column) for column in COLUMNS)]
    lines = [header, ["---"] * len(header), *([name, *cells] for name, cells in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    table = summarize(read_transitions(sys.argv[1]))
    text = README.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    block = f"{START}\n{compact(table)}\n\n{caption(table)}\n{END}"
    README.write_text(pattern.sub(lambda _: block, text), encoding="utf-8")


if __name__ == "__main__":
    main()
