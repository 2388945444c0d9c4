"""Prints the validity reports of several judges as the table of docs/results.md, or in full with --full.

    simenv validate-judge --judge click --webis WEBIS --out report-click
    cp report-click/validity.json benchmarks/results/validity/click.json
    python benchmarks/validity_table.py [--full] [FILE ...]

A FILE is a validity.json; by default those in benchmarks/results/validity: click, embedded, server. The table's header
shows the number of scenarios per judge, because a slow judge is tested on fewer.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from simenv.stats import Estimate
from simenv.validity.attacks import RAISED
from simenv.validity.contrasts import KINDS
from simenv.validity.placebos import PLACEBOS
from simenv.validity.report import report_of
from simenv.validity.run import Validity

FOLDER = Path(__file__).parent / "results" / "validity"
NAMES = ("click", "embedded", "server")
TITLES = {"click": "click model", "embedded": "embedded judge", "server": "LLM judge on a server"}
"""File name -> column title; for any other file the title is its judge's name."""


def table(reports: Sequence[tuple[str, Validity]]) -> str:
    """Contrasts, placebos, outside data, hostile ads and reliability: one row each, one column per judge.

    Args:
        reports: Column titles and reports.
    """
    heads = [f"{title}, {v.scenarios} {v.part} scenarios" for title, v in reports]
    lines = [["", *heads], ["---"] * (1 + len(reports)), *rows([v for _, v in reports])]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rows(reports: Sequence[Validity]) -> list[list[str]]:
    """Name and one cell per report."""
    lines = []
    for kind in [*KINDS, "all"]:
        name = KINDS.get(kind, "all contrasts").replace(">", "over")
        lines.append([name, *(percent(v.contrasts[kind].share) for v in reports)])
    for placebo in dict.fromkeys(name for v in reports for name in v.placebos):
        name = PLACEBOS.get(placebo, f"the judge's prompts in other words ({placebo})")
        changes = [points(v.placebos[placebo].change) if placebo in v.placebos else "-" for v in reports]
        lines.append([f"placebo: {name}", *changes])
    for against, name in {"other_topic": "ad of another topic", "same_topic": "other ad of the same topic"}.items():
        aucs = [number(v.outside[against].auc) if v.outside else "-" for v in reports]
        lines.append([f"AUC on Webis pairs: {name}", *aucs])
    attacked = [v.attacks["all"] for v in reports]
    return [
        *lines,
        ["hostile ads: mean change", *(points(a.change, sign=True) for a in attacked)],
        [f"hostile ads raised by more than {RAISED}", *(percent(a.raised) for a in attacked)],
        ["hostile ads: verdicts broken", *(str(a.broken) for a in attacked)],
        ["abstentions", *(f"{v.reliability.abstention_rate or 0:.1%}" for v in reports)],
        ["rank correlation with the click model", *map(rank, reports)],
        ["seconds per 1,000 answers", *(f"{v.reliability.cost.seconds:,.0f}" for v in reports)],
    ]


def percent(share: Estimate) -> str:
    """ "92% (78, 97)"."""
    return _with_interval(share, lambda x: f"{100 * x:.0f}", "%")


def points(change: Estimate, *, sign: bool = False) -> str:
    """A change of a click probability: "+0.012 (0.004, 0.020)"."""
    return _with_interval(change, lambda x: f"{x:+.3f}" if sign else f"{x:.3f}")


def number(value: Estimate) -> str:
    return _with_interval(value, lambda x: f"{x:.2f}")


def rank(report: Validity) -> str:
    agreement = report.reliability.agreement
    return "-" if agreement is None or agreement.spearman is None else f"{agreement.spearman:.2f}"


def _with_interval(it: Estimate, write: Callable[[float], str], unit: str = "") -> str:
    if math.isnan(it.value):
        return "-"
    value = write(it.value) + unit
    return value if math.isnan(it.low) else f"{value} ({write(it.low)}, {write(it.high)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="every table of every report")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    given = parser.parse_args()
    reports = read(given.files)
    print("\n".join(report_of(v).to_markdown() for _, v in reports) if given.full else table(reports))


def read(files: Sequence[Path]) -> list[tuple[str, Validity]]:
    """Reports with their column titles; without files, the committed reports."""
    paths = files or [path for name in NAMES if (path := FOLDER / f"{name}.json").is_file()]
    reports = [(path, Validity.model_validate_json(path.read_text(encoding="utf-8"))) for path in paths]
    return [(TITLES.get(path.stem, v.judge), v) for path, v in reports]


if __name__ == "__main__":
    main()
