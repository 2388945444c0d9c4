"""The table of all mechanisms for docs/results.md, from the files in benchmarks/results; `readme_table.py` puts it in.

Money, quality, detectability and calls are those of the runs of `simenv bench`; the revenue in other click worlds is
that of the same answers, judged again by `simenv sensitivity --worlds v1,rare,labels --out FILE`; claims come from the
classes; regret comes from audits, which have auctions of their own.
"""

from __future__ import annotations

import csv
from pathlib import Path

from benchmarks.mechanisms_table import SHORT, read_audits
from simenv.auditing.records import Audited
from simenv.auditing.report import show as show_audited
from simenv.llm import ScriptedLLM
from simenv.mechanism import make_mechanism
from simenv.runs.tables import show
from simenv.stats import Estimate

BENCH = Path(__file__).parent / "results" / "bench"
RUNS = {
    "Answers whose turns are apart": (
        "embedded_truthful.csv",
        "embedded_learned.csv",
        ("worlds_answers.csv", "worlds_menus.csv"),
    ),
    "Sessions of three linked turns, for each answer": ("embedded_sessions.csv", None, ("worlds_sessions.csv",)),
}
"""Title -> run at truthful bids, run at learned bids if there is one, other worlds."""
MEASURES = ("welfare", "quality_loss", "detectability", "llm_calls")
HEADER = (
    "mechanism",
    "claims",
    "regret",
    "revenue",
    "at learned bids",
    "in world rare",
    "in world labels",
    "welfare",
    "quality loss",
    "detectability",
    "calls",
)


def table() -> str:
    """One table for each kind of run."""
    audited = {name: found for audit in read_audits() for name, found in audit.mechanisms.items()}
    parts = []
    for title, (run, learned, worlds) in RUNS.items():
        cells = _cells(run)
        later = {} if learned is None else _cells(learned)
        revenue = {name: row for file in worlds for name, row in _worlds(file).items()}
        rows = [
            _row(name, audited.get(name), cells, later.get((name, "revenue")), revenue[name])
            for name, metric in cells
            if metric == "revenue" and name in revenue
        ]
        lines = [HEADER, ("---",) * len(HEADER), *rows]
        parts.append("\n".join([f"{title}:", "", *(f"| {' | '.join(line)} |" for line in lines)]))
    return "\n\n".join(parts)


def _row(
    name: str,
    found: Audited | None,
    cells: dict[tuple[str, str], Estimate],
    learned: Estimate | None,
    worlds: tuple[float, ...],
) -> tuple[str, ...]:
    regret = "-" if found is None else show_audited(found.regret_um_world, percent=True)
    money = [show(cells[name, "revenue"], "revenue"), "-" if learned is None else show(learned, "revenue")]
    measured = [show(cells[name, metric], metric) if (name, metric) in cells else "-" for metric in MEASURES]
    return (name, _claims(name), regret, *money, *(f"{number:.2f}" for number in worlds), *measured)


def _claims(name: str) -> str:
    known = "llm_auction" if name == "untrained" else name
    claims = getattr(make_mechanism(known, context={"llm": ScriptedLLM()}), "claims", ())
    return ", ".join(text for claim, text in SHORT.items() if claim in claims) or "-"


def _cells(file: str) -> dict[tuple[str, str], Estimate]:
    with (BENCH / file).open(encoding="utf-8", newline="") as lines:
        return {
            (row["mechanism"], row["metric"]): Estimate(
                **{
                    name: float(row[column] or "nan")
                    for name, column in zip(("value", "low", "high"), ("mean", "low", "high"), strict=True)
                }
            )
            for row in csv.DictReader(lines)
        }


def _worlds(file: str) -> dict[str, tuple[float, ...]]:
    """Mechanism -> its revenue in the worlds rare and labels."""
    with (BENCH / file).open(encoding="utf-8", newline="") as lines:
        rows = {row["value"]: row for row in csv.DictReader(lines) if row["changed"] == "world"}
    other = ("changed", "value", "rank_correlation", "holds", "open", "reversed")
    names = [name for name in rows["rare"] if name not in other]
    return {name: tuple(float(rows[world][name]) for world in ("rare", "labels")) for name in names}
