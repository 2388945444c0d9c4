"""Text that has not been run is not documentation: README's blocks and the examples are executed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Blocks without a language are set-up commands and servers of the reader's own; those of make are what runs this.
BLOCKS = re.findall(r"^```(python|bash)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def run(command: list[str], folder: Path) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.weights
@pytest.mark.parametrize("language", ["python", "bash"])
def test_readme_blocks_run(language: str, tmp_path: Path) -> None:
    blocks = [text for kind, text in BLOCKS if kind == language]
    assert blocks
    for text in blocks:
        shell = [sys.executable, "-c"] if language == "python" else ["bash", "-euo", "pipefail", "-c"]
        assert run([*shell, text], tmp_path).strip()


def test_commands_that_are_not_run_here_are_valid() -> None:
    """Commands that need a server or minutes are parsed: a misspelt or removed option fails."""
    import typer

    from simenv.cli.main import app

    cli = typer.main.get_command(app)
    commands = re.findall(r"^simenv (.+)$|`simenv ([a-z-]+ --.+?)`", README, re.MULTILINE)
    lines = [block or inline for block, inline in commands if not (block or inline).endswith("\\")]
    assert len(lines) >= 3
    for line in lines:
        name, *arguments = shlex.split(line.split("  #")[0])
        cli.commands[name].make_context(name, arguments)


@pytest.mark.weights
@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples_run(example: str, tmp_path: Path) -> None:
    assert run([sys.executable, str(ROOT / "examples" / example)], tmp_path).strip()


def test_readme_names_every_option_of_bench() -> None:
    from simenv.runs.bench import BenchOptions

    for option in ("llm", "judge_llm", "personas", "catalog", "queries", "bidder", "horizon", "chunk"):
        assert option in BenchOptions.model_fields
        assert f"--{option.replace('_', '-')}" in README


def test_readme_tree_names_what_exists() -> None:
    tree = README.split("## Where things are")[1].split("```")[1]
    for name in re.findall(r"[a-z_]+\.py", tree):
        assert list(ROOT.glob(f"**/simenv/{name}")) or (ROOT / "mechanisms" / name).exists(), name
    for folder in re.findall(r"^(?: {2})?([a-z_]+)/", tree, re.MULTILINE):
        assert (ROOT / folder).is_dir() or (ROOT / "simenv" / folder).is_dir(), folder


def test_the_world_imports_no_mechanism() -> None:
    for file in (ROOT / "simenv").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) mechanisms", file.read_text(encoding="utf-8"), re.MULTILINE), file


def test_importing_simenv_loads_no_heavy_library() -> None:
    code = "import simenv, sys; print([m for m in ('torch', 'transformers', 'litellm', 'pandas') if m in sys.modules])"
    assert run([sys.executable, "-c", code], ROOT).strip() == "[]"
