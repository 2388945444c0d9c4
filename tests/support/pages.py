"""The pages of the documentation and their fenced blocks."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from tests.support.paths import ROOT

PAGES = [
    "README.md",
    "examples/train_at_scale.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
]
"""README, all pages of the site, and the example that is a page."""
RUN = ("python", "bash")
"""Languages of blocks that tests run."""
SHOWN = ("console", "sh", "yaml", "text", "toml", "{eval-rst}", "{toctree}")
"""Languages of blocks that tests do not run. The commands of console blocks, after "$ ", are parsed, and so are those
in scripts (sh) and in jobs (yaml) of clusters, whose syntax is checked."""

_BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str


def text_of(page: str) -> str:
    """Returns the text of a page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str) -> list[Block]:
    """Returns the fenced blocks of a page, in order."""
    return [Block(*match.groups()) for match in _BLOCK.finditer(text_of(page))]


def run(command: list[str], folder: Path) -> str:
    """Runs a command with this environment's Python and `simenv` first in the path, and returns its output.

    Raises:
        AssertionError: the command fails.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def generated() -> ModuleType:
    """Imports `docs/generated.py`."""
    spec = importlib.util.spec_from_file_location("docs_generated", ROOT / "docs" / "generated.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command_line() -> Any:
    """Returns the click group of `simenv`."""
    import typer

    from simenv.cli.main import app

    return typer.main.get_command(app)
