"""Writes the table of docs/speed.md from the newest result of every claim.

python -m benchmarks.speed.table
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import latest

PAGE = Path(__file__).parents[2] / "docs" / "speed.md"
_START, _END = "<!-- table: written by benchmarks/speed/table.py -->", "<!-- end of table -->"
_HEAD = ("what", "measured: median (range)", "ratio of the first two", "aim", "reached")


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


def page() -> str:
    """The text of docs/speed.md with a new table."""
    block = re.compile(f"{re.escape(_START)}.*?{re.escape(_END)}", re.DOTALL)
    text, found = block.subn(lambda _: f"{_START}\n\n{table()}\n\n{_END}", PAGE.read_text(encoding="utf-8"))
    if found != 1:
        raise SystemExit(f"{PAGE} has {found} tables between its marks, needs 1")
    return text


def table() -> str:
    """One row per claim, and below it the sentences that belong to claims."""
    results = latest()
    rows = [_HEAD, ("---",) * len(_HEAD), *(_row(number, result) for number, result in enumerate(results, 1))]
    notes = [f"{number}. {_note(result)}" for number, result in enumerate(results, 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n\n" + "\n".join(notes)


def _note(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    return f"{result['note']} Measured on {result['date']}: {machine['cpu']}, {machine['cores']} cores.".strip()


def _row(number: int, result: Mapping[str, Any]) -> tuple[str, ...]:
    sides = "<br>".join(f"{name}: {_spread(spread)} {result['unit']}" for name, spread in result["sides"].items())
    ratio = _spread(result["ratio"]) if result["ratio"] else ""
    aim = result["aim"]
    wanted = f"{aim['of']} at {aim['at']} {aim['value']:g}" if aim else ""
    return (f"{number}. {result['claim']}", sides, ratio, wanted, {True: "yes", False: "no", None: ""}[result["met"]])


def _spread(spread: Mapping[str, float]) -> str:
    return f"{_number(spread['median'])} ({_number(spread['low'])} to {_number(spread['high'])})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    main()
