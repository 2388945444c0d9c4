"""Ceilings of a run: where it stops, what it keeps, and that it goes on to the same bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import simenv
from simenv.background_loop import run_sync
from simenv.cli import main as cli
from simenv.errors import CeilingReached, InputError
from simenv.llm import LLM, Completion, Request, ScriptedLLM
from simenv.llm.base import metered
from simenv.llm.cassette import Cassette, CassetteLLM
from simenv.llm.hosted import HostedLLM
from simenv.records import Usage
from simenv.runs.ceilings import SPENT, Spending, refuse_unpriced
from simenv.runs.options import BenchOptions, check_ranges

QUICK: dict[str, Any] = {"llm": "scripted", "n": 8, "horizon": 2, "quality": "none", "chunk": 2}
FEW = ["--llm", "scripted", "--n", "8", "--horizon", "2", "--quality", "none", "--chunk", "2"]


class FakePriced(ScriptedLLM):
    """Each reply costs half a dollar."""

    async def _generate(self, request: Request) -> Completion:
        reply = await super()._generate(request)
        return reply.model_copy(update={"usage": Usage(calls=1, cost_usd=0.5)})


def asked(llm: LLM, spending: Spending, *keys: int) -> None:
    async def ask() -> None:
        with metered(spending):
            for key in keys:
                await llm.complete("Which boots?", key=("a", key))

    run_sync(ask)


def test_calls_and_cost_count_what_memory_and_cassettes_do_not_have(tmp_path: Path) -> None:
    cassette = Cassette(tmp_path / "tape.jsonl", "record")
    spending = Spending(tmp_path, BenchOptions())
    asked(CassetteLLM(cassette, FakePriced()), spending, 0, 0, 1)
    assert (spending.calls, spending.cost_usd) == (2, 1.0)
    asked(CassetteLLM(cassette, FakePriced()), spending, 0, 1, 2)
    assert (spending.calls, spending.cost_usd) == (3, 1.5), "two of three come from the cassette"
    assert spending.stopped() is None, "there is no ceiling"


def test_ceilings_count_over_all_parts_of_a_run(tmp_path: Path) -> None:
    now = 100.0

    def begin(**options: float) -> Spending:
        return Spending(tmp_path, BenchOptions.model_validate(options), clock=lambda: now)

    spending = begin(max_cost=2.0, max_hours=2)
    asked(FakePriced(), spending, 0, 1)
    now += 3600
    spending.save()
    asked(FakePriced(), spending, 2)
    assert spending.stopped() is None
    spending.save()
    (tmp_path / SPENT).write_bytes((tmp_path / SPENT).read_bytes() + b'{"calls": 1')  # killed while it wrote
    spending = begin(max_cost=2.0, max_hours=2)
    assert (spending.calls, spending.cost_usd, spending.seconds) == (3, 1.5, 3600.0)
    asked(FakePriced(), spending, 3)
    assert spending.stopped() == ("max_cost", "max_cost=2 is reached: 2 dollars were spent")
    now += 3600
    assert begin(max_cost=9.0, max_hours=1).stopped() == ("max_hours", "max_hours=1 is reached: 1 hours were used")
    assert begin(max_calls=3).stopped() == ("max_calls", "max_calls=3 is reached: 3 calls were made")
    assert [row["calls"] for row in map(json.loads, (tmp_path / SPENT).read_bytes().splitlines())] == [2, 1]


def test_a_model_without_a_price_refuses_a_ceiling_of_the_cost(tmp_path: Path) -> None:
    refuse_unpriced([ScriptedLLM(), HostedLLM("openai/gpt-4o-mini")])
    own = HostedLLM("openai/my-model", api_base="http://127.0.0.1:9/v1")
    for llm in (own, CassetteLLM(Cassette(tmp_path / "tape.jsonl", "record"), own)):
        with pytest.raises(InputError, match=r"^max_cost: LiteLLM lists no price for openai/my-model, .*max_calls or"):
            refuse_unpriced([llm])


@pytest.mark.parametrize(("name", "value"), [("max_calls", 0), ("max_cost", 0.0), ("max_hours", -1.0)])
def test_a_ceiling_of_nothing_is_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"^{name} must be "):
        check_ranges(BenchOptions.model_validate({name: value}))


@pytest.mark.weights
def test_a_run_stops_at_a_ceiling_and_goes_on_to_the_same_bytes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = simenv.bench("organic", out=tmp_path / "whole", **QUICK)
    assert whole.stopped is None
    out = str(tmp_path / "run")
    with pytest.raises(SystemExit, match=r"^3$"):
        cli.main(["bench", "--mechanisms", "organic", "--out", out, "--max-calls", "5", *FEW])
    said = "max_calls=5 is reached: 5 calls were made, 4 of 8 auctions are finished"
    shown = capsys.readouterr()
    err = [line for line in shown.err.splitlines() if not line.startswith("answers ")]
    assert err == [f"simenv: {said}", f"go on with: simenv bench --resume --out {out} --max-calls HIGHER"]
    assert f"stopped: {said}" in (tmp_path / "run" / "table.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text(encoding="utf-8"))["finished"] is None
    again = simenv.bench("organic", out=out, resume=True, max_calls=5, **QUICK)
    assert again.stopped is not None
    assert (again.stopped.ceiling, len(again.records)) == ("max_calls", 4), "nothing is asked any more"
    last = simenv.bench("organic", out=out, resume=True, max_calls=1000, **QUICK)
    assert last.stopped is None
    for name in ("transitions.jsonl", "chunks.jsonl", "sessions.jsonl", "table.csv", "table.md"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


@pytest.mark.weights
def test_a_ceiling_before_the_first_chunk_is_an_error(tmp_path: Path) -> None:
    said = r"^max_calls=1 is reached: 1 calls were made before the first chunk was finished \(a smaller chunk"
    with pytest.raises(CeilingReached, match=said):
        simenv.bench("organic", out=tmp_path / "run", max_calls=1, **QUICK)
