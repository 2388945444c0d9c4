"""A scripted run has the same bytes, whatever surrounds it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

MECHANISMS = "gsp,mosaic,position_auction,token_auction"
SURROUNDINGS = {
    "one thread": {"OMP_NUM_THREADS": "1"},
    "four threads": {"OMP_NUM_THREADS": "4"},
    "threads as they are": {"OMP_NUM_THREADS": None},
    "hash seed": {"PYTHONHASHSEED": "7"},
    "locale": {"LC_ALL": "C", "LANG": None, "PYTHONUTF8": "0", "PYTHONIOENCODING": "utf-8"},
    "time zone": {"TZ": "Pacific/Kiritimati"},
}


def bench(folder: Path, changes: dict[str, str | None], n: int, *options: str) -> bytes:
    folder.mkdir(exist_ok=True)
    env = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    command = [sys.executable, "-m", "simenv", "bench", "--out", str(folder / "run"), "--n", str(n), *options]
    subprocess.run(command, env=env | {"SIMENV_CACHE": str(folder / "cache")}, cwd=folder, check=True)
    return (folder / "run" / "transitions.jsonl").read_bytes()


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.timeout(900)
def test_the_surroundings_do_not_change_a_byte(tmp_path: Path) -> None:
    options = ("--mechanisms", MECHANISMS, "--llm", "scripted", "--chunk", "4", "--bidder", "exp3")
    runs = {name: bench(tmp_path / name, changes, 8, *options) for name, changes in SURROUNDINGS.items()}
    assert {name for name, written in runs.items() if written != runs["one thread"]} == set()
