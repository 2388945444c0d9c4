"""Writers under the same auction, and `rewrite` at several strengths: what users and advertisers get.

python -m benchmarks.writers [--auctions 24] [--llm embedded] [--runs FOLDER] [--out benchmarks/results/writers.json]

Runs two benches and writes a row for each label; `tables` has them as Markdown. Beside what `simenv bench` measures:
flow is the mean cosine of neighbouring sentences of an answer, links as titles; the ad's flow is that of pairs with an
ad's sentence alone. Faults are answers whose model broke a rule of its writer, so that the text fell back to another.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

import simenv
from simenv.encoder import Encoder, default_encoder
from simenv.links import masked_links
from simenv.markup import LINK, strip_markup
from simenv.records import Transition
from simenv.runs.log import read_transitions
from simenv.stats import clustered_ratio
from simenv.text import sentence_spans

OUT = Path(__file__).parent / "results" / "writers.json"
WRITERS: dict[str, dict[str, Any]] = {
    "gsp, plain": {},
    "gsp, insert": {"writer": "insert"},
    "gsp, insert_smooth": {"writer": "insert_smooth"},
    "gsp, chat": {"writer": "chat"},
    "gem_insert (GI-R)": {},
    "gem_insert, smooth (GIR-R)": {"smooth": True},
    "gem_insert, prompt, smooth (GIR-P)": {"smooth": True, "retrieve": "prompt"},
}
STRENGTHS = (-1.0, 0.0, 0.5, 1.0, 2.0, 4.0, 16.0, 64.0)
SHOWN = {
    "calls": "calls",
    "satisfaction": "satisfaction",
    "quality_loss": "quality loss",
    "clicks": "clicks per answer",
    "own_clicks": "on ads worked in",
    "ad_text": "ad text",
    "flow": "flow",
    "ad_flow": "ad's flow",
    "factuality": "factuality",
    "faults": "faults",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--auctions", type=int, default=24)
    parser.add_argument("--llm", default="embedded")
    parser.add_argument("--runs", type=Path, help="keeps the two runs here, or reads them; by default temporary")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.runs or Path(temporary)
        report: dict[str, Any] = {"llm": given.llm, "auctions": given.auctions}
        named = {label: (label.partition(",")[0].partition(" ")[0], options) for label, options in WRITERS.items()}
        report["writers"] = bench(named, given.auctions, given.llm, folder / "writers")
        slots: dict[str, Any] = {"slots": 1}
        named = {f"strength {rho:g}": ("rewrite", slots | {"strength": rho}) for rho in STRENGTHS}
        named = {"no strength": ("rewrite", slots), **named}
        report["strengths"] = bench(named, given.auctions, given.llm, folder / "strengths")
    given.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for text in tables(report).values():
        print(text, end="\n\n")


def bench(named: dict[str, tuple[str, dict[str, Any]]], auctions: int, llm: str, out: Path) -> dict[str, Any]:
    """Label -> column -> mean and half width of its 95% interval, clustered by persona."""
    settings = [
        f"{label}.{option}={json.dumps(value)}"
        for label, (_, options) in named.items()
        for option, value in options.items()
    ]
    names = {label: name for label, (name, _) in named.items()}
    if not (out / "table.csv").exists():  # else it was finished before
        simenv.bench(names, n=auctions, horizon=2, llm=llm, settings=tuple(settings), out=out)
    rows: dict[str, list[Transition]] = defaultdict(list)
    for transition in read_transitions(out):
        rows[transition.mechanism].append(transition)
    return {label: summary(rows[label], default_encoder()) for label in named}


def summary(transitions: Iterable[Transition], encoder: Encoder) -> dict[str, list[float]]:
    """Column -> mean and half width, over the answers that have a value."""
    kept = list(transitions)
    measures: dict[str, Callable[[Transition], float | None]] = {
        "calls": lambda t: t.outcome.usage.calls,
        "satisfaction": lambda t: t.feedback.satisfaction,
        "quality_loss": lambda t: t.feedback.quality and t.feedback.quality.quality_loss,
        "clicks": lambda t: sum(click.click_prob or 0.0 for click in t.feedback.clicks),
        "own_clicks": own_clicks,
        "ad_text": lambda t: t.feedback.quality and t.feedback.quality.ad_text_share,
        "flow": lambda t: flow(t.outcome.response, encoder),
        "ad_flow": lambda t: flow(t.outcome.response, encoder, ads_only=True),
        "factuality": lambda t: _mean([ad.factuality for ad in t.feedback.quality.ads] if t.feedback.quality else []),
        "faults": fault,
    }
    found = {}
    for name, measure in measures.items():
        pairs = [(value, t.persona_id) for t in kept if (value := measure(t)) is not None]
        if pairs:
            estimate = clustered_ratio([(value, 1.0) for value, _ in pairs], [persona for _, persona in pairs])
            found[name] = [round(estimate.value, 4), round(estimate.margin, 4)]
    return found


def flow(response: str, encoder: Encoder, *, ads_only: bool = False) -> float | None:
    """The mean cosine of neighbouring sentences; None for fewer than two.

    Args:
        response: An answer with ads as links.
        encoder: Embeds the sentences.
        ads_only: Only pairs with a sentence that has a link.
    """
    pieces = [response[a:b].strip() for a, b in sentence_spans(masked_links(response))]
    pieces = [piece for piece in pieces if any(c.isalnum() for c in piece)]
    if len(pieces) < 2:
        return None
    vectors = encoder.encode([strip_markup(piece) for piece in pieces])
    cosines = np.sum(vectors[:-1] * vectors[1:], axis=1)
    chosen = [bool(LINK.search(a + b)) or not ads_only for a, b in pairwise(pieces)]
    return float(cosines[chosen].mean()) if any(chosen) else None


def own_clicks(transition: Transition) -> float | None:
    """Expected clicks on the ads that the model itself worked in; None if the writer does not say which."""
    own = worked_in(transition)
    return None if own is None else sum(c.click_prob or 0.0 for c in transition.feedback.clicks if c.ad_id in own)


def worked_in(transition: Transition) -> list[str] | None:
    """Ids of the ads that the model itself worked into the text, as far as the mechanism tells."""
    details = transition.outcome.details
    own = details.get("woven", details.get("rewritten"))
    return [str(ad_id) for ad_id in own] if isinstance(own, list) else None


def fault(transition: Transition) -> float | None:
    """1 if the writer says that the model broke a rule, 0 if it says that it did not; None if it says nothing."""
    details = transition.outcome.details
    if "smoothed" in details:
        return float(not details["smoothed"])
    own = worked_in(transition)
    return None if own is None else float(len(own) < len(transition.outcome.placements))


def tables(report: dict[str, Any]) -> dict[str, str]:
    """The tables of the parts that a report has, as Markdown."""
    found = {}
    for part, columns in (
        ("writers", ("calls", "quality_loss", "clicks", "flow", "ad_flow", "factuality", "faults")),
        ("strengths", ("satisfaction", "clicks", "own_clicks", "ad_text", "factuality", "faults")),
    ):
        if part not in report:
            continue
        lines = [["", *(SHOWN[column] for column in columns)], ["---"] * (1 + len(columns))]
        lines += [[label, *(_cell(row.get(column)) for column in columns)] for label, row in report[part].items()]
        found[part] = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return found


def _cell(value: list[float] | None) -> str:
    return "-" if value is None else f"{value[0]:.2f} ±{value[1]:.2f}"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


if __name__ == "__main__":
    main()
