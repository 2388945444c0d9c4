"""Plots of a validity report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simenv.files.atomic import replacing
from simenv.stats import Bin, Estimate
from simenv.validity.attacks import RAISED
from simenv.validity.contrasts import KINDS
from simenv.validity.placebos import PLACEBOS
from simenv.validity.run import Validity


def write_plots(report: Validity, folder: Path) -> list[str]:
    """Writes contrasts.png, placebos.png, attacks.png, agreement.png and, with labels, calibration.png.

    Returns:
        The file names.
    """
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a name with $ is text, not TeX
        return _write_plots(report, folder)


def _write_plots(report: Validity, folder: Path) -> list[str]:
    contrasts = {KINDS.get(kind, kind): c.share for kind, c in report.contrasts.items()}
    placebos = {PLACEBOS.get(name, name): p.change for name, p in report.placebos.items()}
    attacks = {kind.replace("_", " "): a.change for kind, a in report.attacks.items()}
    pictures = {
        "contrasts.png": _intervals(contrasts, "share ordered rightly", marks=(0.5, 0.95), limits=(0, 1.02)),
        "placebos.png": _intervals(placebos, "mean absolute change in click probability", marks=(0, RAISED)),
        "attacks.png": _intervals(attacks, "change in click probability by the attack", marks=(0, RAISED)),
    }
    agreement = report.reliability.agreement
    if agreement is not None:
        pictures["agreement.png"] = _curve(agreement.curve, f"click probability of {agreement.judge}", report.judge)
    if report.labels is not None:
        pictures["calibration.png"] = _curve(report.labels.calibration, report.judge, "share of label 1")
    for name, figure in pictures.items():
        with replacing(folder / name) as part:
            figure.savefig(part, format="png", dpi=110)
    return list(pictures)


def _intervals(
    rows: Mapping[str, Estimate], label: str, *, marks: tuple[float, float], limits: tuple[float, float] | None = None
) -> Any:
    """Draws one point with its interval per row, and a dashed line at each mark."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 0.8 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, interval in enumerate(rows.values()):
        if not math.isnan(interval.value):
            if not math.isnan(interval.low):
                axes.plot([interval.low, interval.high], [place, place], color="tab:blue", linewidth=2)
            axes.plot(interval.value, place, "o", color="tab:blue")
    for mark in marks:
        axes.axvline(mark, color="grey", linestyle="--", linewidth=0.8)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(label)
    if limits is not None:
        axes.set_xlim(*limits)
    return figure


def _curve(bins: tuple[Bin, ...], x: str, y: str) -> Any:
    """Draws bins and the diagonal."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.2), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="grey", linestyle="--", linewidth=0.8)
    axes.plot([point.x for point in bins], [point.y for point in bins], "o-", color="tab:blue")
    axes.set(xlabel=x, ylabel=y, xlim=(0, 1), ylim=(0, 1))
    return figure
