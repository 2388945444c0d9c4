"""Imports keep to the layers of pyproject.toml and go in no circle, those inside functions included."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]


def test_the_contracts_of_pyproject_are_kept() -> None:
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_no_module_imports_a_package_that_it_is_in() -> None:
    """The contracts compare modules of one folder; a folder and what is in it could still form a circle."""
    graph = grimp.build_graph("simenv", "mechanisms", cache_dir=None)
    circles = [
        f"{module} imports {package}"
        for package in graph.modules
        for module in graph.find_modules_that_directly_import(package)
        if module.startswith(f"{package}.")
    ]
    assert circles == []
