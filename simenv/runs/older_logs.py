"""Reads what earlier versions wrote: names that have changed since are translated, nothing else."""

from __future__ import annotations

from typing import Any


def upgrade_transition(fields: dict[str, Any]) -> dict[str, Any]:
    """A transition of format 2 in the names of format 3. Fields that are not those of a transition stay as they are."""
    auction, outcome = fields.get("auction"), fields.get("outcome")
    if isinstance(auction, dict) and "session_id" not in auction and isinstance(auction.get("query"), dict):
        query = {name: value for name, value in auction["query"].items() if name != "id"}
        session_id = str(auction.get("id", "")).rpartition(".")[0]
        auction = {**auction, "query": query, "session_id": session_id, "turn": fields.get("turn", 0)}
    if isinstance(outcome, dict) and "faults" in outcome:
        outcome = {("violations" if name == "faults" else name): value for name, value in outcome.items()}
    return {**fields, "auction": auction, "outcome": outcome}


_WEIGHTS = {"unknown_ad": 100.0, "changed_title": 100.0, "broken_markup": 100.0, "repeated_ad": 50.0}
_WEIGHTS_BEFORE = {**_WEIGHTS, "leaked_process": 100.0}
"""The default penalties before a link without a price was a violation: it ended the run, so its weight changes none."""


def upgrade_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of format 2, or of format 3 before its latest kind of violation, in the names of today."""
    objective = manifest.get("world", {}).get("objective")
    if not isinstance(objective, dict):
        return manifest
    if "per_fault" in objective:
        objective = {("per_violation" if name == "per_fault" else name): value for name, value in objective.items()}
        objective["penalty"] = "linear"
    if objective.get("per_violation") == _WEIGHTS_BEFORE:
        objective = {**objective, "per_violation": {**_WEIGHTS, "unpriced_ad": 100.0, "leaked_process": 100.0}}
    return {**manifest, "world": {**manifest["world"], "objective": objective}}
