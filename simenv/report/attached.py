"""What may stand in the report beside runs: learning curves, judge cards, and the reports of validations and audits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from simenv.auditing.records import Audit
from simenv.auditing.report import report_of as audit_report
from simenv.errors import DataFileError
from simenv.files.blocks import Report
from simenv.files.limits import read_bytes
from simenv.files.rows import read_rows
from simenv.records import Record
from simenv.runs.log import LOG, LeftOut, read_transitions
from simenv.runs.noise_floor import CARD
from simenv.validity.card import JudgeCard, report_of_card
from simenv.validity.report import report_of as validity_report
from simenv.validity.run import Validity

R = TypeVar("R", bound=Record)
_X = ("step", "update", "epoch")
"""Columns that count, the finest first."""


class Curve(NamedTuple):
    """One number over steps."""

    metric: str
    x: str
    """What is counted."""
    series: Mapping[str, Sequence[tuple[float, float]]]
    """Part, such as "train" or "held out" -> (step, number). One part without a name if the file tells none apart."""


class Attached(NamedTuple):
    """A report of another command, with the curves that can be drawn of it."""

    report: Report
    curves: Sequence[Curve] = ()


def learning_curves(path: str | Path) -> list[Curve]:
    """Reads the learning curves of a training.

    Args:
        path: The folder of a trained adapter, with its curve.csv; or such a table.

    Raises:
        DataFileError: the folder holds none, the table cannot be read, or no column counts steps.
    """
    file = Path(path) / "curve.csv" if Path(path).is_dir() else Path(path)
    rows = [row.fields for row in read_rows(file)]
    names = list(dict.fromkeys(name for row in rows for name in row))
    x = next((name for name in _X if name in names), None)
    if x is None:
        raise DataFileError(f"{file}: no column {', '.join(_X[:-1])} or {_X[-1]}: its columns are {', '.join(names)}")
    curves = []
    for name in names:
        if name in (*_X, "part"):
            continue
        series: dict[str, list[tuple[float, float]]] = {}
        for row in rows:
            at, value = _number(row.get(x)), _number(row.get(name))
            if at is not None and value is not None:
                series.setdefault(str(row.get("part") or "").replace("_", " "), []).append((at, value))
        if series:
            curves.append(Curve(name.replace("_", " "), x, series))
    return curves


def read_validity(path: str | Path) -> Attached:
    """Reads the report of `simenv validate-judge`.

    Args:
        path: Its folder, or its validity.json.

    Raises:
        DataFileError: it cannot be read, or is not such a report.
    """
    return Attached(validity_report(_read(path, "validity.json", Validity)))


def read_card(folder: Path, left_out: LeftOut | None) -> Attached:
    """Reads the judge card of a folder.

    Args:
        folder: The folder of a run or of a report of `simenv validate-judge`, with its judge_card.json.
        left_out: Called with what is left out of the run's log, if it is damaged; None: that is an error.

    Raises:
        DataFileError: it cannot be read, or is not such a card.
    """
    is_run = (folder / LOG).is_file()
    read = read_transitions(folder, left_out=left_out) if is_run else ()
    answers = Counter(t.mechanism for t in read if t.error is None)
    return Attached(report_of_card(_read(folder, CARD, JudgeCard), dict(answers)))


def read_audit(path: str | Path) -> Attached:
    """Reads the report of `simenv audit`, with the allocation curves of its mechanisms.

    Args:
        path: Its folder, or its audit.json.

    Raises:
        DataFileError: it cannot be read, or is not such a report.
    """
    audit = _read(path, "audit.json", Audit)
    curves = []
    for name, of in (("clicks in the world", "curve_world"), ("clicks in the mechanism's own model", "curve")):
        series = {
            label: list(zip(audit.curve_bids, getattr(audited, of), strict=False))
            for label, audited in audit.mechanisms.items()
        }
        curves.append(Curve(name, "bid", series))
    return Attached(audit_report(audit), curves)


def _read(path: str | Path, name: str, kind: type[R]) -> R:
    file = Path(path) / name if Path(path).is_dir() else Path(path)
    try:
        return kind.model_validate_json(read_bytes(file))
    except ValidationError as error:
        first = error.errors()[0]
        said = " ".join([*map(str, first["loc"]), first["msg"]])
        raise DataFileError(f"{file}: not the {name} that this version writes: {said}") from None


def _number(cell: object) -> float | None:
    try:
        number = float(str(cell))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
