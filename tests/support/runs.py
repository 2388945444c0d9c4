"""Runs of the scripted model: their transitions, and a folder with the files that an export reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.llm import ScriptedLLM
from simenv.mechanism import Mechanism
from simenv.records import Transition
from simenv.runs.rollout import Finished, rollout
from simenv.testing import FakeEncoder
from simenv.world import World


def transitions(world: World, *names: str, n: int = 12) -> list[Transition]:
    context = {"llm": ScriptedLLM(), "encoder": FakeEncoder()}
    mechanisms: dict[str, Mechanism] = {name: make_mechanism(name, context=context) for name in names}
    chunks: list[Finished] = []

    async def go() -> None:
        await rollout(world, mechanisms, n=n, seed=1, on_chunk=chunks.append)

    run_sync(go)
    return [row for chunk in chunks for row in chunk.transitions]


def save(folder: Path, rows: Sequence[Transition]) -> Path:
    """Writes the files of a run's folder that an export reads."""
    folder.mkdir()
    (folder / "transitions.jsonl").write_text("".join(f"{t.model_dump_json()}\n" for t in rows), encoding="utf-8")
    manifest = {
        "options": {
            "mechanisms": list(dict.fromkeys(row.mechanism for row in rows)),
            "n": 12,
            "seed": 1,
            "catalog": "/home/someone/ads.csv",
        },
        "world": {"ad_llm": "scripted", "judge": "click-model-v0"},
        "data_sha256": {"catalog": "abc"},
        "packages": {"simenv-ads": "0.1.0"},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder
