"""The table of all mechanisms for docs/results.md, from the files in benchmarks/results; `readme_table.py` puts it in.

Money, quality, detectability and calls are those of the runs of `simenv bench`; the revenue in other click worlds is
that of the same answers, judged again by `simenv sensitivity --worlds v1,rare,labels --out FILE`; claims come from the
classes; regret comes from audits, which have auctions of their own.
"""

from __future__ import annotations

import csv

from benchmarks.bench_rows import BENCH, bench, markdown, shown
from benchmarks.mechanisms_table import claims_of, read_audits
from simenv.auditing.report import show

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
        cells, later = bench(run), {} if learned is None else bench(learned)
        other = {name: revenue for file in worlds for name, revenue in _worlds(file).items()}
        rows = {
            name: [
                claims_of("llm_auction" if name == "untrained" else name),
                show(audited[name].regret_um_world, percent=True) if name in audited else "-",
                *(shown(of.get((name, "revenue")), "revenue") for of in (cells, later)),
                *(f"{revenue:.2f}" for revenue in other[name]),
                *(shown(cells.get((name, metric)), metric) for metric in MEASURES),
            ]
            for name, metric in cells
            if metric == "revenue" and name in other
        }
        parts.append(f"{title}:\n\n{markdown(HEADER, rows)}")
    return "\n\n".join(parts)


def _worlds(file: str) -> dict[str, tuple[float, ...]]:
    """Mechanism -> its revenue in the worlds rare and labels."""
    with (BENCH / file).open(encoding="utf-8", newline="") as lines:
        rows = {row["value"]: row for row in csv.DictReader(lines) if row["changed"] == "world"}
    other = ("changed", "value", "rank_correlation", "holds", "open", "reversed")
    names = [name for name in rows["rare"] if name not in other]
    return {name: tuple(float(rows[world][name]) for world in ("rare", "labels")) for name in names}
