"""Examples run, the tree in the documentation names what exists, and simenv stays light."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.pages import run, text_of
from tests.support.paths import ROOT
from tests.support.processes import simenv


@pytest.mark.weights
@pytest.mark.parametrize("example", sorted(path.name for path in (ROOT / "examples").glob("*.py")))
def test_examples_run(example: str, tmp_path: Path) -> None:
    ended = simenv([str(ROOT / "examples" / example)], tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out.strip()


def test_the_tree_names_what_exists() -> None:
    tree = text_of("docs/development.md").split("## Where things are")[1].split("```")[1]
    files = re.findall(r"[a-z_]+\.py", tree)
    folders = re.findall(r"^(?: {2})?([a-z_]+)/", tree, re.MULTILINE)
    assert len(files) >= 8
    assert len(folders) >= 15
    for name in files:
        assert list(ROOT.glob(f"simenv/{name}")) or (ROOT / "mechanisms" / name).exists(), name
    for folder in folders:
        assert (ROOT / folder).is_dir() or (ROOT / "simenv" / folder).is_dir(), folder
    for package in (path.parent.name for path in (ROOT / "simenv").glob("*/__init__.py")):
        assert f"  {package}/" in tree, package


def test_the_world_imports_no_mechanism() -> None:
    for file in (ROOT / "simenv").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) mechanisms", file.read_text(encoding="utf-8"), re.MULTILINE), file


def test_importing_simenv_loads_no_heavy_library() -> None:
    code = "import simenv, sys; print([m for m in ('torch', 'transformers', 'litellm', 'pandas') if m in sys.modules])"
    assert run([sys.executable, "-c", code], ROOT).strip() == "[]"
