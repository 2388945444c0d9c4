"""Measures a claim about speed: all sides in turns in one run, several times, so that a busy machine slows all alike.

A result is one line of `results.jsonl`: every number that was measured, their medians and ranges, and the machine, the
versions and the commit that they belong to. `python -m benchmarks.speed.table` writes the table of docs/speed.md.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from simenv.processor import processor_name

RESULTS = Path(__file__).with_name("results.jsonl")
_PACKAGES = ("numpy", "torch", "transformers", "onnxruntime", "pydantic", "openai", "aiohttp", "ray", "duckdb")


@dataclass(frozen=True)
class Aim:
    """What a claim should reach: a bound of the ratio of the first two sides, or of the first side's own number."""

    value: float
    of: Literal["ratio", "number"] = "ratio"
    at: Literal["least", "most"] = "least"

    def met_by(self, number: float) -> bool:
        """Whether the number reaches the aim."""
        return number >= self.value if self.at == "least" else number <= self.value


def compare(
    claim: str,
    unit: str,
    sides: Mapping[str, Callable[[], float]],
    *,
    aim: Aim | None = None,
    rounds: int = 5,
    note: str = "",
    results: Path = RESULTS,
) -> dict[str, Any]:
    """Measures every side once per round, appends the result to a file and prints it.

    Rounds begin with another side in turn, so that no side always runs on a warmer machine.

    Args:
        claim: What is measured, in words; a later result with the same claim replaces this one in the table.
        unit: Unit of the numbers, for instance "auctions/s" or "MB".
        sides: Name -> a function that runs the side once and returns its number. With two or more, a ratio is the
            first side's number divided by the second's in the same round.
        aim: What should be reached.
        rounds: Rounds that are counted.
        note: A sentence for the table: what falls short, or what the sides are.
        results: The file.

    Returns:
        The result, as it is written.

    Raises:
        ValueError: no sides, fewer than one round, or an aim for a ratio with one side.
    """
    if not sides or rounds < 1:
        raise ValueError(f"needs at least one side and one round, got {len(sides)} and {rounds}")
    if aim is not None and aim.of == "ratio" and len(sides) < 2:
        raise ValueError("a ratio needs two sides, got 1")
    names = list(sides)
    measured: dict[str, list[float]] = {name: [] for name in names}
    before = os.getloadavg()[0]
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            measured[name].append(float(sides[name]()))
    ratios = [a / b for a, b in zip(*(measured[name] for name in names[:2]), strict=True)] if len(names) > 1 else []
    result: dict[str, Any] = {
        "claim": claim,
        "unit": unit,
        "sides": {name: _spread(values) for name, values in measured.items()},
        "ratio": _spread(ratios) if ratios else None,
        "aim": None if aim is None else {"value": aim.value, "of": aim.of, "at": aim.at},
        "met": None,
        "note": note,
        "machine": {"cpu": processor_name(), "cores": os.cpu_count(), "load_before": round(before, 2)},
        "versions": {"python": platform.python_version(), **_versions()},
        "commit": _commit(),
        "date": datetime.date.today().isoformat(),
    }
    if aim is not None:
        result["met"] = aim.met_by((result["ratio"] if aim.of == "ratio" else result["sides"][names[0]])["median"])
    with results.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    print(json.dumps({key: result[key] for key in ("claim", "unit", "sides", "ratio", "aim", "met")}, indent=1))
    return result


def latest(results: Path = RESULTS) -> list[dict[str, Any]]:
    """The newest result of every claim, in the order in which the claims were first measured."""
    newest: dict[str, dict[str, Any]] = {}
    for line in results.read_text(encoding="utf-8").splitlines():
        result = json.loads(line)
        newest[result["claim"]] = result
    return list(newest.values())


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "all": [float(f"{value:.6g}") for value in values],
    }


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str:
    """The commit that ran, with "+" where files differ from it."""
    root = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False).stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", ":/", f":(exclude,top)benchmarks/speed/{RESULTS.name}"
    )
    return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
