"""What a run does not load: packages that take longer to import than the run itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support import processes

HEAVY = (
    "accelerate",
    "aiohttp",
    "datasets",
    "duckdb",
    "gguf",
    "httpx",
    "litellm",
    "matplotlib",
    "openai",
    "pandas",
    "pyarrow",
    "ray",
    "scipy.optimize",
    "scipy.stats",
    "sklearn",
    "torch",
    "transformers",
)
SCRIPT = """
import json, sys
from pathlib import Path
from simenv.cli.main import main

names, *sys.argv[1:] = sys.argv[1:]
try:
    main()
finally:
    Path("loaded.json").write_text(json.dumps([name for name in names.split(",") if name in sys.modules]))
"""


@pytest.mark.weights
def test_a_scripted_run_loads_no_heavy_package(tmp_path: Path, files: list[str]) -> None:
    """Nor do the processes that this one is forked from: they have the modules of a run, loaded in the same way."""
    (tmp_path / "script.py").write_text(SCRIPT)
    run = ["bench", "--mechanisms", "gsp", "--llm", "scripted", "--n", "2", "--horizon", "1", *files]
    personas = tmp_path / "personas.jsonl"
    lines = personas.read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) | {"queries": ["Which boots for wet trails?"]} for line in lines]
    personas.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ended = processes.simenv(
        [str(tmp_path / "script.py"), ",".join(HEAVY), *run, "--out", str(tmp_path / "run")], tmp_path
    )
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "loaded.json").read_text()) == []
