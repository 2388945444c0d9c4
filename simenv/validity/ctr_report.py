"""Tables of a CTR model's validity."""

from __future__ import annotations

from simenv.files.blocks import Block
from simenv.stats import wilson
from simenv.validity.contrasts import Contrast
from simenv.validity.ctr_pairs import FALLS, STAYS, CTRValidity
from simenv.validity.placebos import PLACEBOS
from simenv.validity.report import show


def blocks_of(report: CTRValidity) -> list[Block]:
    """All tables."""
    return [_falls(report), _stays(report)]


def _falls(report: CTRValidity) -> Block:
    header = ("must fall when the ad is", "right", "wrong", "ties", "right of no ties", "ties as half")
    rows = [_row(FALLS.get(kind, kind), found) for kind, found in report.falls.items()]
    note = (
        f"{report.scenarios} scenarios of the part {report.part}, one pair each and kind. In {report.in_order} of them "
        "the prediction falls at each of the two steps native, spliced, shouted. In brackets: 95% intervals."
    )
    return Block(f"Pairs in the right order by {report.model}", header, rows, note)


def _row(name: str, found: Contrast) -> tuple[str, ...]:
    decided = found.pairs - found.ties
    of_no_ties = show(wilson(found.right, decided)) if decided else "-"
    return (name, str(found.right), str(decided - found.right), str(found.ties), of_no_ties, show(found.share))


def _stays(report: CTRValidity) -> Block:
    rows = [
        (PLACEBOS[name], show(found.change), "-" if found.largest is None else f"{found.largest:.3f}")
        for name, found in ((name, report.stays[name]) for name in STAYS)
    ]
    note = f"Another brand changes nothing at all in {report.renamed_same} of {report.scenarios} scenarios."
    return Block(f"Must not matter to {report.model}", ("change", "mean absolute change", "largest"), rows, note)
