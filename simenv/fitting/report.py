"""What `simenv fit-world` says of a fitted world."""

from __future__ import annotations

from pathlib import Path

from simenv.files.blocks import Block, Report
from simenv.fitting.fit import UNTOLD, FittedWorld


def report_of(fitted: FittedWorld) -> Report:
    """The tables of a fit: numbers, prediction of users held out, calibration."""
    held_out = fitted.held_out
    numbers = [
        (n.name, f"{n.prior:.3g}", f"{n.value:.3g}", f"{n.low:.3g} to {n.high:.3g}", f"{n.share:.2f}")
        for n in fitted.numbers
    ]
    scores = [
        ("fitted", f"{held_out.fitted:.4f}", ""),
        (f"world {fitted.prior}", f"{held_out.prior:.4f}", _interval(held_out.over_prior.numbers)),
        ("constant", f"{held_out.constant:.4f}", _interval(held_out.over_constant.numbers)),
    ]
    bins = [(f"{b.x:.4f}", f"{b.y:.4f}", str(b.n)) for b in held_out.calibration]
    blocks = [
        Block(
            f"Numbers of world {fitted.params.world}",
            ("number", fitted.prior, "fitted", "95% interval", "of the prior's"),
            numbers,
            _cannot_tell(fitted),
        ),
        Block(
            f"Log-likelihood per impression: {held_out.users} users held out, {held_out.impressions} impressions",
            ("prediction", "nats", "fitted is better by"),
            scores,
        ),
        Block("Calibration on users held out, by tenths of the prediction", ("predicted", "clicked", "ads"), bins),
    ]
    caption = (
        f"{fitted.clicks} clicks on {fitted.impressions} ads shown to {fitted.users} users of {fitted.log}"
        f"{f'; {fitted.left_out} ads without a verdict or a place are left out' if fitted.left_out else ''}; "
        f"SHA-256 of the world {fitted.params.sha256[:12]}"
    )
    return Report(f"World {fitted.params.world}", caption, blocks)


def _cannot_tell(fitted: FittedWorld) -> str:
    if not fitted.untold:
        return "The log tells all fitted numbers."
    return (
        f"The log cannot tell {', '.join(fitted.untold)}: the interval is at least {UNTOLD:.0%} as wide as the prior's."
    )


def _interval(numbers: tuple[float, float, float]) -> str:
    value, low, high = numbers
    return f"{value:.4f} ({low:.4f} to {high:.4f})"


def plots(fitted: FittedWorld, folder: Path) -> list[str]:
    """Draws the calibration curve, and returns the file's name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4, 4), layout="constrained")
    axes = figure.subplots()
    bins = fitted.held_out.calibration
    most = max(max(b.x, b.y) for b in bins) * 1.05
    axes.plot([0, most], [0, most], color="0.7", linewidth=1)
    axes.plot([b.x for b in bins], [b.y for b in bins], marker="o", markersize=4)
    axes.set(xlabel="predicted click rate", ylabel="click rate", xlim=(0, most), ylim=(0, most))
    figure.savefig(folder / "calibration.svg")
    return ["calibration.svg"]
