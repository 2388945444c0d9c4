"""Damaged rows in every kind of file that is read: only simenv's own errors may come out, each one line.

    python benchmarks/fuzz_inputs.py --rows 10000

A valid file of each kind is written; then one row of it is damaged (bytes changed, removed or doubled, values swapped
for others of another type) and the file is read. What loads without an error counts as read.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from simenv.bench import BenchOptions, run_bench
from simenv.errors import SimenvError
from simenv.llm.cassette import Cassette
from simenv.market.catalog import load_catalog
from simenv.seeding import keyed_rng
from simenv.store import read_transitions
from simenv.users.personas import load_personas
from simenv.users.queries import load_queries

ODD: tuple[Any, ...] = (None, "", -1, 1e308, [], {}, "@[x]@", "\ud800", True, [[[]]], "null", 10**30, "\u2028")


def damage(line: bytes, rng: np.random.Generator) -> bytes:
    """One damaged copy of a line."""
    if rng.random() < 0.5 and line.startswith(b"{"):
        row = json.loads(line)
        row[str(rng.choice(list(row)))] = ODD[int(rng.integers(len(ODD)))]
        return json.dumps(row).encode()
    at, length = int(rng.integers(len(line))), int(rng.integers(1, 20))
    noise = rng.integers(0, 256, length, dtype=np.uint8).tobytes()
    middle = (noise, b"", line[at : at + length] * 2)[int(rng.integers(3))]
    return line[:at] + middle + line[at + length :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tape = folder / "tape.jsonl"
        options = BenchOptions(mechanisms=("gsp",), n=10, llm="scripted", record=str(tape))
        run_bench(options, folder / "run", Console(quiet=True), Console(quiet=True))
        packs = Path(__file__).parent.parent
        sources: dict[str, tuple[Path, Callable[[Path], Any]]] = {
            "catalog": (packs / "ad_catalogs" / "everyday.jsonl", load_catalog),
            "personas": (packs / "personas" / "everyday.jsonl", load_personas),
            "queries": (folder / "queries.csv", load_queries),
            "cassette": (tape, lambda path: Cassette(path, "replay")),
            "transitions": (folder / "run" / "transitions.jsonl", lambda path: list(read_transitions(path))),
        }
        (folder / "queries.csv").write_text("text,topic\n" + 'where to go,"travel, cheap"\n' * 10)
        for kind, (source, read) in sources.items():
            lines = source.read_bytes().splitlines()[:10]
            counts: Counter[str] = Counter()
            target = folder / f"damaged{source.suffix}"
            for i in range(rows // len(sources)):
                rng = keyed_rng("fuzz", kind, i)
                place = int(rng.integers(len(lines)))
                target.write_bytes(b"\n".join([*lines[:place], damage(lines[place], rng), *lines[place + 1 :], b""]))
                try:
                    read(target)
                    counts["read"] += 1
                except SimenvError as error:
                    counts["refused in one line" if "\n" not in str(error) else "REFUSED IN SEVERAL LINES"] += 1
                except Exception as error:
                    counts[f"TRACEBACK {type(error).__name__}"] += 1
            print(kind, dict(counts))


if __name__ == "__main__":
    main()
