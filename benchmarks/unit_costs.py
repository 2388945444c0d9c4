"""What one auction costs, measured, and from it the plan for 10^9 auctions in docs/scale.md.

    python -m benchmarks.unit_costs             # measures, writes benchmarks/results/unit_costs.json and the tables
    python -m benchmarks.unit_costs --tables    # writes the tables again, from the file

The auction is one of gsp with eight candidates. With scripted answers and the click model: CPU seconds of this process,
and bytes on disk. With a capable model on a server, which writes queries and answers and judges: calls, and the prompt
tokens of their requests, counted by the embedded model's tokenizer. The server is a FAKE one whose replies are
invented, so the tokens of replies are an assumption, as prices and rates are.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from transformers import AutoTokenizer

import simenv
from simenv.datasets.export import export_run
from simenv.llm.weights import embedded_path
from simenv.runs.machine import machine_of
from simenv.testing.fake_openai import FakeOpenAI
from simenv.testing.fake_roles import FakeRoles

RESULT = Path(__file__).parent / "results" / "unit_costs.json"
PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
AUCTIONS = 10**9
SCRIPTED: dict[str, Any] = {"llm": "scripted", "quality": "none", "chunk": 15}
ASSUMED = {
    "USD a core-hour": 0.04,
    "USD a GPU-hour": 2.50,
    "USD a GB and month": 0.023,
    "tokens of replies an auction": 400,
    "prompt tokens a second and GPU, of a model of 8 billion parameters": 20_000,
    "tokens of replies a second and GPU, of the same model": 5_000,
    "calls a second that one core sends": 500,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="write the tables from the file")
    parser.add_argument("--n", type=int, default=600, help="scripted auctions")
    chosen = parser.parse_args()
    if not chosen.tables:
        RESULT.write_text(json.dumps(measured(chosen.n), indent=2) + "\n", encoding="utf-8")
    PAGE.write_text(page(json.loads(RESULT.read_text(encoding="utf-8"))), encoding="utf-8")


def measured(n: int) -> dict[str, Any]:
    """Everything that is measured, per auction."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SIMENV_CACHE"] = str(folder / "cache")  # no text is known
        simenv.bench("organic", out=folder / "warm", n=1, **SCRIPTED)  # loads the encoder and encodes the catalog
        new, known = (seconds(lambda it=it: simenv.bench("gsp", out=folder / it, n=n, **SCRIPTED)) for it in "ab")
        run = folder / "a"
        log = (run / "transitions.jsonl").read_bytes()
        export_run(run, folder / "clicks.parquet")
        for i in range(2):
            simenv.bench("gsp", out=folder / str(i), n=n, shard=(i, 2), **SCRIPTED)
        merging = seconds(lambda: simenv.merge([folder / "0", folder / "1"], folder / "merged"))
        calls, tokens = asked(folder)
        return {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine_of([])["cpu"],
            "auctions": n,
            "CPU seconds, texts new": new / n,
            "CPU seconds, texts known": known / n,
            "CPU seconds, merge and tables": merging / n,
            "bytes, transitions.jsonl": len(log) / n,
            "bytes, the same with Zstandard": len(pa.compress(log, codec="zstd", asbytes=True)) / n,
            "bytes, sessions.jsonl": (run / "sessions.jsonl").stat().st_size / n,
            "bytes, clicks as Parquet": (folder / "clicks.parquet").stat().st_size / n,
            "calls to a server": calls,
            "prompt tokens to a server": tokens,
        }


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def asked(folder: Path, n: int = 30) -> tuple[float, float]:
    """Calls and prompt tokens an auction where a model on a server writes queries and answers, and judges."""
    tape = folder / "tape.jsonl"
    with FakeOpenAI(FakeRoles()) as server:
        options: dict[str, Any] = {"llm": "openai/fake", "api_base": server.url, "record": str(tape)}
        simenv.bench("gsp", out=folder / "server", n=n, horizon=3, quality="none", **options)
    tokenizer = AutoTokenizer.from_pretrained(embedded_path())
    prompts = [json.loads(line)["request"]["prompt"] for line in tape.read_text(encoding="utf-8").splitlines()]
    tokens = sum(len(tokenizer.encode(f"{prompt.get('system') or ''}\n{prompt['user']}")) for prompt in prompts)
    return len(prompts) / n, tokens / n


def page(costs: Mapping[str, Any]) -> str:
    """The text of docs/scale.md with new tables."""
    text = PAGE.read_text(encoding="utf-8")
    for name, rows in (("costs", unit_rows(costs)), ("assumed", assumed_rows()), ("plan", plan_rows(costs))):
        start, end = f"<!-- {name}: written by benchmarks/unit_costs.py -->", f"<!-- end of {name} -->"
        block = f"{start}\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows) + f"\n\n{end}"
        text, found = re.subn(f"{re.escape(start)}.*?{re.escape(end)}", lambda _, b=block: b, text, flags=re.DOTALL)
        if found != 1:
            raise SystemExit(f"{PAGE} has {found} tables {name!r} between marks, needs 1")
    return text


def unit_rows(costs: Mapping[str, Any]) -> list[tuple[str, ...]]:
    about = f"measured on {costs['date']}, {costs['machine']}, {costs['auctions']} auctions"
    numbers = [
        (name, f"{value:,.0f}" if value >= 100 else f"{value:.3g}")
        for name, value in costs.items()
        if isinstance(value, float)
    ]
    return [(f"of one auction ({about})", ""), ("---", "---"), *numbers]


def assumed_rows() -> list[tuple[str, ...]]:
    return [("assumed", ""), ("---", "---"), *((name, f"{value:,}") for name, value in ASSUMED.items())]


def plan_rows(costs: Mapping[str, Any]) -> list[tuple[str, ...]]:
    core, gpu, gb, replies, prompt_rate, reply_rate, calls_rate = ASSUMED.values()

    def cpu(name: str) -> tuple[float, float]:
        hours = costs[name] * AUCTIONS / 3600
        return hours, hours * core

    def disk(name: str) -> tuple[float, float]:
        size = costs[name] * AUCTIONS / 1e9
        return size / 1000, size * gb

    known, new, merging = (cpu(f"CPU seconds, {it}") for it in ("texts known", "texts new", "merge and tables"))
    log, packed, clicks = (
        disk(f"bytes, {it}") for it in ("transitions.jsonl", "the same with Zstandard", "clicks as Parquet")
    )
    tokens = costs["prompt tokens to a server"]
    gpus = AUCTIONS * (tokens / prompt_rate + replies / reply_rate) / 3600
    sending = costs["calls to a server"] * AUCTIONS / calls_rate / 3600
    return [
        ("for 10^9 auctions", "amount", "USD"),
        ("---", "---", "---"),
        ("scripted answers, click model, texts known", f"{known[0]:,.0f} core-hours", f"{known[1]:,.0f}"),
        ("the same, every text new to the encoder", f"{new[0]:,.0f} core-hours", f"{new[1]:,.0f}"),
        ("one merge with tables", f"{merging[0]:,.0f} core-hours", f"{merging[1]:,.0f}"),
        ("calls to a server", f"{costs['calls to a server'] * AUCTIONS:.2g}", ""),
        ("sending them", f"{sending:,.0f} core-hours", f"{sending * core:,.0f}"),
        ("answering them", f"{gpus:,.0f} GPU-hours", f"{gpus * gpu:,.0f}"),
        ("log as JSONL", f"{log[0]:.2g} TB", f"{log[1]:,.0f} a month"),
        ("log as JSONL, compressed with Zstandard", f"{packed[0]:.2g} TB", f"{packed[1]:,.0f} a month"),
        ("clicks as Parquet", f"{clicks[0]:.2g} TB", f"{clicks[1]:,.0f} a month"),
    ]


if __name__ == "__main__":
    main()
