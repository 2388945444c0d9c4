"""What the options of a benchmark came to: facts that a resumed run and every worker must share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simenv.abilities import hash_of
from simenv.ctr.models import own_ctr_model
from simenv.encoder import default_encoder
from simenv.files.packs import pack_versions
from simenv.mechanism import Mechanism
from simenv.runs.build import Parts, Plan
from simenv.runs.folder import records_hash
from simenv.runs.rollout import observers


def data_hashes(checked: Plan) -> dict[str, str]:
    """The SHA-256 of the records of every data pack of a run."""
    hashes = {"catalog": records_hash(checked.catalog), "personas": records_hash(checked.personas)}
    return hashes if checked.queries is None else {**hashes, "queries": checked.queries.hash}


def facts_of(checked: Plan, parts: Parts, hashes: Mapping[str, str]) -> dict[str, Any]:
    """The parts that were built, by name and hash."""
    world = parts.world
    objects = {label: it for label, it in checked.mechanisms.items() if isinstance(it, Mechanism)}
    return {
        "ad_llm": parts.ad_llm.name,
        "llm_arithmetic": {llm.name: llm.arithmetic for llm in parts.llms if llm.arithmetic is not None},
        "judge": world.judge.name,
        "judge_sha256": hash_of(world.judge),
        "self_judged": parts.warning is not None,
        "quality": world.quality.name if world.quality is not None else None,
        "quality_sha256": hash_of(world.quality),
        "packs": pack_versions(hashes),
        "observers": observers(world, parts.mechanisms),
        "bidder_sha256": hash_of(world.bidder),
        "query_source": world.queries.name,
        "encoder": default_encoder().name,
        "encoder_runtime": default_encoder().runtime,
        "objective": world.objective.facts(),
        "ctr_models": {
            label: model.name if (model := own_ctr_model(mechanism)) is not None else None
            for label, mechanism in parts.mechanisms.items()
        },
        **({"turns": "linked"} if world.linked else {}),
        "objects": {label: f"{type(it).__module__}:{type(it).__qualname__}" for label, it in objects.items()},
    }
