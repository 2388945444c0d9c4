"""Human-readable report of an audit: terminal tables, report.md and plots. Also writes audit.json."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

from simenv.auditing.distort import DISTORTIONS
from simenv.auditing.plots import write_plots
from simenv.auditing.records import Audit, Audited
from simenv.files.blocks import Block, Report
from simenv.stats import Estimate


def write_report(audit: Audit, folder: Path) -> None:
    """Writes audit.json, report.md and the plots.

    Raises:
        DataFileError: the folder is not empty.
        CannotWrite: it cannot be made or written.
    """
    report_of(audit).write(folder, "audit.json", audit, partial(write_plots, audit))


def report_of(audit: Audit) -> Report:
    """Returns all tables of the report."""
    cut = [f"Cut short by the limit on calls: {part}." for part in audit.cut_short]
    return Report("Audit", caption(audit), blocks(audit), cut)


def caption(audit: Audit) -> str:
    """Describes the size and cost of the audit."""
    o = audit.options
    what = (
        "auctions" if audit.turns is None else f"sessions of {audit.turns} linked turns (every figure is of a session)"
    )
    return (
        f"{audit.auctions} {what}, seed {o.seed}; {o.advertisers} advertisers of each swept over {o.bids} bids "
        f"around its value and {o.curve_bids} from 0 to 100, the others truthful. "
        f"Answers by {audit.ad_llm or 'a model'}, "
        f"clicks by {audit.judge}, predictions {audit.ctr_model}. {audit.llm_calls} language model calls. "
        "± is half of a 95% interval, clustered by persona."
    )


def blocks(audit: Audit) -> list[Block]:
    """Returns all tables of the report."""
    tables = [_claims(audit), _regrets(audit), _curves(audit), _money(audit)]
    if any(m.wrong_ctr for m in audit.mechanisms.values()):
        tables.append(_wrong(audit))
    return tables


def _claims(audit: Audit) -> Block:
    rows = [
        (label if place == 0 else "", claim, verdict.verdict, verdict.why)
        for label, m in audit.mechanisms.items()
        for place, (claim, verdict) in enumerate(m.verdicts.items())
    ]
    note = "In the mechanism's own model of clicks, at the bids that were tried. A passed claim may still be false."
    return Block("Claims", ("mechanism", "claim", "verdict", "what was, or would have been, seen"), rows, note, texts=4)


def _regrets(audit: Audit) -> Block:
    rows = [
        (
            label,
            m.measured if not m.replicas else f"{m.measured} x{m.replicas}",
            *(show(i, percent=True) for i in (m.regret_um_own, m.regret_um_world, m.regret_vm_own, m.regret_vm_world)),
            *(show(i, percent=True) for i in (m.ir_violations, m.ir_violations_world, m.roi_violations)),
        )
        for label, m in audit.mechanisms.items()
    ]
    header = ("mechanism", "measured", "UM own", "UM world", "VM own", "VM world", "IR own", "IR world", "ROI missed")
    note = (
        "Regret of truthful bidding as a share of the value of truthful clicks: of utility maximisers (UM) and of "
        f"value maximisers with target ROI {audit.options.target_roi:g} (VM), in the mechanism's own model of clicks "
        "and in the world. IR: truthful advertisers that lose in expectation. A sampled regret is conservative: it may "
        "be below 0, and it is too low with few replicas."
    )
    return Block("Incentives", header, rows, note)


def _curves(audit: Audit) -> Block:
    rows = [
        (
            label,
            show(m.monotonicity_violations, percent=True),
            show(m.monotonicity_violations_world, percent=True),
            f"{m.largest_fall:.3f}",
            f"{m.largest_fall_world:.3f}",
            f"{m.largest_jump:.3f}",
            f"{m.largest_jump_world:.3f}",
            show(m.slope, digits=5),
            show(m.revenue),
            show(m.efficiency),
        )
        for label, m in audit.mechanisms.items()
    ]
    header = (
        "mechanism",
        "falls own",
        "falls world",
        "largest fall",
        "in world",
        "largest jump",
        "in world",
        "slope",
        "revenue",
        "efficiency",
    )
    note = (
        "Expected clicks by own bid: share of falling steps of the curve, its largest fall and its largest rise in one "
        "step. Revenue and efficiency are of truthful bids in all auctions."
    )
    return Block("Allocation curves", header, rows, note)


def _money(audit: Audit) -> Block:
    rows = []
    for label, m in audit.mechanisms.items():
        played = [show(i) for kind in ("truthful", "learned", "budgets") for i in _reached(m, kind)]
        rows.append(
            (
                label,
                *played,
                show(m.collusion_own, percent=True),
                show(m.collusion_world, percent=True),
            )
        )
    header = (
        "mechanism",
        "truthful revenue",
        "efficiency",
        "learned revenue",
        "efficiency",
        "bid share",
        "budgets revenue",
        "efficiency",
        "bid share",
        "collusion own",
        "in world",
    )
    note = (
        f"Revenue per answer in the {min(audit.options.play, audit.auctions)} auctions that were played. Efficiency: "
        "welfare over that of the best answer to the same auction in this audit. Learned: multiplicative "
        "weights. Budgets: the same, with a budget of half the truthful payments. Collusion: joint gain of "
        "the two advertisers with the largest predicted value, as a share of the value of their clicks."
    )
    return Block("Play", header, rows, note)


def _reached(m: Audited, kind: str) -> tuple[Estimate, ...]:
    if kind not in m.play:
        return (Estimate(),) * (2 if kind == "truthful" else 3)
    reach = m.play[kind]
    return (reach.revenue, reach.efficiency, *([] if kind == "truthful" else [reach.bid_share]))


def _wrong(audit: Audit) -> Block:
    rows = [
        (
            label if kind == "as_is" else "",
            kind.replace("_", " "),
            show(d.revenue),
            show(d.welfare),
            show(d.regret_um_world, percent=True),
        )
        for label, m in audit.mechanisms.items()
        for kind, d in m.wrong_ctr.items()
    ]
    header = ("mechanism", "predictions", "revenue", "welfare", "UM regret in world")
    return Block("Wrong predictions of clicks", header, rows, "; ".join(f"{k}: {v}" for k, v in DISTORTIONS.items()))


def show(i: Estimate, *, percent: bool = False, digits: int = 2) -> str:
    """Formats a value with half the width of its interval; "-" if it is undefined."""
    if math.isnan(i.value):
        return "-"
    scale, unit, digits = (100, "%", 1) if percent else (1, "", digits)
    value = f"{i.value * scale:.{digits}f}{unit}".replace("-0.0%", "0.0%")
    return value if math.isnan(i.margin) else f"{value} ±{i.margin * scale:.{digits}f}"
