"""Figures in the look of papers: intervals, colours that colour-blind readers tell apart, the same bytes every time."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from simenv.files.atomic import replacing
from simenv.report.bids import BidBin
from simenv.report.data import Difference, Frontier, Point
from simenv.stats import Estimate

ENDINGS = (".svg", ".pdf", ".png")
LINES = 8
"""Most mechanisms whose lines are told apart in one panel."""
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D00")
"""Of Okabe and Ito, "Color universal design" (2008), with a darker yellow."""
_MARKERS = "osD^vPX*"
_WIDTH = 3.4
"""Inches: the width of a column in most proceedings."""
_STYLE: Any = {
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.0,
    "lines.markersize": 4.5,
    "lines.markeredgewidth": 0.8,
    "text.parse_math": False,  # a label with $ is text, not TeX
    "svg.hashsalt": "simenv",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}
_NO_DATE: Mapping[str, Mapping[str, None]] = {
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
    ".png": {"Software": None},
}


def save(draw: Callable[[], Any], out: Path) -> None:
    """Draws a figure and writes it as .svg, .pdf or .png. The same data give the same bytes.

    Raises:
        CannotWrite: the file cannot be written.
    """
    from matplotlib import rc_context

    with rc_context(_STYLE), replacing(out) as part:
        draw().savefig(part, format=out.suffix[1:], metadata=dict(_NO_DATE[out.suffix]))


def draw_frontier(found: Frontier) -> Any:
    """One metric against another one: a point with two intervals per mechanism, the best ones joined."""
    figure = _figure(_WIDTH, 2.7)
    axes = figure.subplots()
    for i, point in enumerate(found.points):
        colour = _COLOURS[i % len(_COLOURS)]
        for x, y, of in ((True, False, point.x), (False, True, point.y)):
            if not math.isnan(of.low):
                xs, ys = ([of.low, of.high], [point.y.value] * 2) if x else ([point.x.value] * 2, [of.low, of.high])
                axes.plot(xs, ys, color=colour, linewidth=0.6, alpha=0.6, zorder=1 + y)
        fill = colour if point.best else "white"
        marker = _MARKERS[(i + i // len(_COLOURS)) % len(_MARKERS)]  # no two have both alike, up to 64
        axes.plot(point.x.value, point.y.value, marker, color=colour, markerfacecolor=fill, zorder=3)
    best = sorted((p.x.value, p.y.value) for p in found.points if p.best)
    if len(best) > 1:
        axes.plot(*zip(*best, strict=True), color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    axes.set(xlabel=found.x_label, ylabel=found.y_label)
    _label(figure, axes, found.points)
    return figure


def _label(figure: Any, axes: Any, points: Sequence[Point]) -> None:
    """Writes each name beside its point, where it covers no other name and no point if there is such a place."""
    renderer = figure.canvas.get_renderer()
    figure.draw_without_rendering()
    places = [axes.transData.transform((p.x.value, p.y.value)) for p in points]
    inch = figure.dpi / 72
    taken: list[tuple[float, ...]] = [(x - 3 * inch, y - 3 * inch, x + 3 * inch, y + 3 * inch) for x, y in places]
    for i, point in enumerate(points):
        tried: list[tuple[float, int, Any, tuple[float, ...]]] = []
        for dx, dy, align in ((4, 2, "left"), (4, -7, "left"), (-4, 2, "right"), (-4, -7, "right"), (0, 6, "center")):
            text = axes.annotate(
                point.mechanism,
                (point.x.value, point.y.value),
                xytext=(dx, dy),
                textcoords="offset points",
                fontsize=6,
                ha=align,
                color=_COLOURS[i % len(_COLOURS)],
            )
            text.set_in_layout(False)
            box = text.get_window_extent(renderer).extents
            covered = sum(_overlap(box, other) for other in taken) + _outside(box, axes.bbox.extents)
            tried.append((covered, len(tried), text, tuple(box)))
        tried.sort(key=lambda it: it[:2])
        for _, _, text, _ in tried[1:]:
            text.remove()
        taken.append(tried[0][3])


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """The area in which two boxes overlap."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def _outside(box: Sequence[float], frame: Sequence[float]) -> float:
    """The area of a box outside of the axes, to the right or to the left: it would be cut off there."""
    return (max(0.0, box[2] - frame[2]) + max(0.0, frame[0] - box[0])) * (box[3] - box[1])


def draw_differences(found: Sequence[Difference], label: str, baseline: str) -> Any:
    """A metric of each mechanism minus the baseline's: filled where the interval excludes 0, a diamond if unpaired."""
    figure = _figure(_WIDTH, 0.7 + 0.17 * len(found))
    axes = figure.subplots()
    axes.axvline(0, color="0.6", linewidth=0.8, linestyle="--", zorder=0)
    for place, row in enumerate(found):
        low, high = row.estimate.low, row.estimate.high
        sure = not math.isnan(low) and not low <= 0 <= high
        if not math.isnan(low):
            axes.plot([low, high], [place, place], color=_COLOURS[0], linewidth=1.2)
        fill = _COLOURS[0] if sure else "white"
        axes.plot(row.estimate.value, place, "o" if row.paired else "D", color=_COLOURS[0], markerfacecolor=fill)
    axes.set_yticks(range(len(found)), [row.mechanism for row in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel(f"{label}, minus {baseline}")
    return figure


def draw_allocation(found: Mapping[str, Sequence[BidBin]]) -> Any:
    """By bid: how often a candidate is shown, clicks and payment per candidate; a line with its band per mechanism."""
    panels: tuple[tuple[str, Callable[[BidBin], Estimate]], ...] = (
        ("share of candidates shown", lambda bin: bin.shown),
        ("clicks per candidate", lambda bin: bin.clicks),
        ("payment per candidate", lambda bin: bin.payment),
    )
    figure = _figure(2 * _WIDTH, 2.4)
    for axes, (label, of) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for i, (mechanism, bins) in enumerate(found.items()):
            known = [(bin.bid, *of(bin).numbers) for bin in bins if not math.isnan(of(bin).value)]
            if not known:
                continue
            x, y, low, high = zip(*known, strict=True)
            size = 6 - 0.5 * i  # lines that lie on each other are still seen
            axes.plot(x, y, marker=_MARKERS[i], markersize=size, color=_COLOURS[i], label=mechanism)
            axes.fill_between(x, low, high, color=_COLOURS[i], alpha=0.15, linewidth=0)
        axes.set(xlabel="bid, currency per click", ylabel=label)
        axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=LINES // 2 if len(labels) > 6 else 6, frameon=False
    )
    return figure


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # which measures text
    return figure
