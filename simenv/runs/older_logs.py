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


def upgrade_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """A manifest of format 2 in the names of format 3."""
    objective = manifest.get("world", {}).get("objective")
    if isinstance(objective, dict) and "per_fault" in objective:
        objective = {("per_violation" if name == "per_fault" else name): value for name, value in objective.items()}
        objective["penalty"] = "linear"
        return {**manifest, "world": {**manifest["world"], "objective": objective}}
    return manifest
