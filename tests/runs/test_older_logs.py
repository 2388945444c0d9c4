"""What the earlier format wrote is still read: run logs, manifests, cassettes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from simenv.background_loop import run_sync
from simenv.errors import DataFileError
from simenv.llm import ScriptedLLM
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.mechanism import make_mechanism
from simenv.objective import Objective
from simenv.records import Transition
from simenv.runs.folder import read_manifest, read_transitions
from simenv.runs.rollout import Finished, rollout
from simenv.testing import small_world


@pytest.fixture(scope="module")
def log() -> list[Transition]:
    rows: list[Transition] = []

    def keep(finished: Finished) -> None:
        rows.extend(finished.transitions)

    mechanisms = {"gsp": make_mechanism("gsp", context={"llm": ScriptedLLM()})}
    run_sync(lambda: rollout(small_world(), mechanisms, n=5, seed=0, on_chunk=keep))
    return rows


def in_format_2(transition: Transition) -> dict[str, Any]:
    """The transition as format 2 had it."""
    fields: dict[str, Any] = transition.model_dump(mode="json")
    auction = fields["auction"]
    del auction["session_id"], auction["turn"]
    auction["query"] = {"id": auction["id"], **auction["query"]}
    fields["outcome"]["faults"] = fields["outcome"].pop("violations")
    return fields


def test_a_log_of_format_2_is_read(log: list[Transition], tmp_path: Path) -> None:
    lines = "".join(f"{json.dumps(in_format_2(t))}\n" for t in log)
    (tmp_path / "transitions.jsonl").write_text(lines, encoding="utf-8")
    assert list(read_transitions(tmp_path)) == log
    assert {t.auction.turn for t in log} == {0, 1, 2}, "sessions of three turns, so that ids are told apart"


def test_a_line_of_neither_format_is_refused(log: list[Transition], tmp_path: Path) -> None:
    fields = in_format_2(log[0])
    fields["outcome"]["blunders"] = []
    (tmp_path / "transitions.jsonl").write_text(json.dumps(fields) + "\n", encoding="utf-8")
    with pytest.raises(DataFileError, match=r"transitions.jsonl:1: not a transition: .*blunders"):
        list(read_transitions(tmp_path))


def test_the_objective_of_a_manifest_of_format_2_is_read(tmp_path: Path) -> None:
    objective = {"penalty_weight": 1.0, "per_extra_ad": 50.0, "per_fault": {"unknown_ad": 100.0}}
    manifest = {"format": 2, "options": {}, "world": {"judge": "click-model-v1", "objective": objective}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    world = read_manifest(tmp_path)["world"]
    assert world["judge"] == "click-model-v1"
    assert world["objective"] == {
        "penalty_weight": 1.0,
        "penalty": "linear",
        "per_extra_ad": 50.0,
        "per_violation": {"unknown_ad": 100.0},
    }


def test_the_penalties_of_before_are_those_of_today(tmp_path: Path) -> None:
    """A link without a price used to end the run: a run of before is comparable."""
    today = Objective().facts()
    before = {kind: weight for kind, weight in today["per_violation"].items() if kind != "unpriced_ad"}
    manifest = {"format": 3, "options": {}, "world": {"objective": {**today, "per_violation": before}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert read_manifest(tmp_path)["world"]["objective"] == today


def test_a_cassette_of_before_is_replayed(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    recorded = CassetteLLM(Cassette(tape, "record"), ScriptedLLM(["Hello there."], follows_formats=True))
    run_sync(lambda: recorded.complete("Hi", key=("k", 0)))
    tape.write_text(tape.read_text().replace('"follows_formats"', '"capable"'))
    replayed = CassetteLLM(Cassette(tape, "replay"), name="scripted")
    assert replayed.follows_formats
    assert run_sync(lambda: replayed.complete("Hi", key=("k", 0))).text == "Hello there."
