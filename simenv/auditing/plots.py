"""Plots of an audit."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from simenv.auditing.records import Audit, Audited
from simenv.files.atomic import replacing
from simenv.stats import Estimate

REGRETS: dict[str, tuple[str, Callable[[Audited], Estimate]]] = {
    "regret_um_own": ("utility maximiser, own model", lambda m: m.regret_um_own),
    "regret_um_world": ("utility maximiser, world", lambda m: m.regret_um_world),
    "regret_vm_own": ("value maximiser, own model", lambda m: m.regret_vm_own),
    "regret_vm_world": ("value maximiser, world", lambda m: m.regret_vm_world),
}


def write_plots(audit: Audit, folder: Path) -> list[str]:
    """Writes curves.png, regret.png and, if the audit includes play, play.png.

    Returns:
        The file names.
    """
    from matplotlib import rc_context

    with rc_context({"text.parse_math": False}):  # a label with $ is text, not TeX
        pictures = {"curves.png": _curves(audit), "regret.png": _regret(audit)}
        if any(m.play for m in audit.mechanisms.values()):
            pictures["play.png"] = _play(audit)
        for name, figure in pictures.items():
            with replacing(folder / name) as part:
                figure.savefig(part, format="png", dpi=110)
    return list(pictures)


def _curves(audit: Audit) -> Any:
    """Draws one panel per mechanism: mean clicks by own bid, by its model and in the world (figure 4a of the paper)."""
    from matplotlib.figure import Figure

    shown = audit.mechanisms
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(2.6 * across + 0.6, 2.2 * down + 0.4), layout="constrained")
    panels = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).flat
    for (label, m), axes in zip(shown.items(), panels, strict=False):  # `panels` keeps the unused ones
        if m.curve:
            axes.plot(audit.curve_bids, m.curve, label="own model" if m.own_ctr_model else f"{audit.ctr_model} model")
        if m.curve_world:
            axes.plot(audit.curve_bids, m.curve_world, "--", label="world")
        axes.set_title(label, fontsize=9)
        axes.tick_params(labelsize=7)
    for axes in panels:
        axes.set_visible(False)
    if figure.axes[0].lines:  # there are none if all advertisers bid per view
        figure.axes[0].legend(fontsize=7)
    figure.supxlabel("own bid, others truthful", fontsize=9)
    figure.supylabel("expected clicks per answer", fontsize=9)
    return figure


def _regret(audit: Audit) -> Any:
    """Draws one panel per kind of regret, with one point and its interval per mechanism."""
    from matplotlib.figure import Figure

    labels = list(audit.mechanisms)
    figure = Figure(figsize=(9, 1.2 + 0.25 * len(labels)), layout="constrained")
    for axes, (title, of) in zip(figure.subplots(1, len(REGRETS), sharey=True), REGRETS.values(), strict=True):
        for place, m in enumerate(audit.mechanisms.values()):
            regret = of(m)
            if math.isnan(regret.value):
                continue
            if not math.isnan(regret.low):
                axes.plot([regret.low, regret.high], [place, place], color="tab:blue", linewidth=2)
            axes.plot(regret.value, place, "o", color="tab:blue", markersize=4)
        axes.axvline(0, color="grey", linestyle="--", linewidth=0.8)
        axes.set_title(title, fontsize=8)
        axes.tick_params(labelsize=7)
    figure.axes[0].set_yticks(range(len(labels)), labels)
    figure.axes[0].invert_yaxis()
    figure.supxlabel("regret of truthful bidding, share of the value of truthful clicks", fontsize=9)
    return figure


def _play(audit: Audit) -> Any:
    """Draws revenue against efficiency: at truthful bids, and after learning in the same auctions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.5, 4.8), layout="constrained")
    axes = figure.subplots()
    for label, m in audit.mechanisms.items():
        points = [(r.efficiency.value, r.revenue.value) for kind in ("truthful", "learned") if (r := m.play.get(kind))]
        known = [(x, y) for x, y in points if not math.isnan(x) and not math.isnan(y)]
        if not known:
            continue
        line = axes.plot([x for x, _ in known], [y for _, y in known], "-", linewidth=0.8)[0]
        axes.plot(*known[0], "o", color=line.get_color(), markersize=4)
        axes.plot(*known[-1], "x", color=line.get_color(), markersize=5)
        axes.annotate(label, known[-1], fontsize=7, xytext=(3, 2), textcoords="offset points")
    axes.set(xlabel="efficiency", ylabel="revenue per answer", title="truthful (dot) and learned (cross)")
    return figure
