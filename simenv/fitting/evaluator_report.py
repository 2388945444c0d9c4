"""Tables of a fitted click-intent evaluator: the map, and predictions of held-out readings."""

from __future__ import annotations

from simenv.files.blocks import Block
from simenv.fitting.evaluator import FittedEvaluator, Part


def blocks_of(fitted: FittedEvaluator) -> list[Block]:
    """All tables."""
    return [_map(fitted), *(_part(part) for part in fitted.parts)]


def _map(fitted: FittedEvaluator) -> Block:
    knots = fitted.evaluator.file.map.knots
    rows = [(f"{knot.score:+.2f}", f"{knot.probability:.3f}", f"{knot.rows:.0f}") for knot in knots]
    counts = fitted.readings
    note = (
        f"The head learned from {counts['head']} readings, the map from {counts['map']} of other personas; linear "
        f"between its points, constant outside. Each further place keeps {fitted.evaluator.position_discount:.2f} of "
        "the clicks."
    )
    return Block("Map from scores to click probabilities", ("score", "click probability", "readings"), rows, note)


def _part(part: Part) -> Block:
    header = ("model", "log loss", "AUC", "calibration error", "rank correlation with intent")
    rows = [
        (
            row.model,
            f"{row.log_loss:.3f}",
            f"{row.auc:.3f}",
            f"{row.calibration_error:.3f}",
            f"{part.correlation[row.model]:.3f}" if part.correlation else "-",
        )
        for row in part.quality
    ]
    note = "" if rows else "They have no clicks, or only clicks: nothing can be measured. Run more auctions."
    return Block(f"Held-out {part.name}: {part.rows} readings, {part.clicks} clicks", header, rows, note)
