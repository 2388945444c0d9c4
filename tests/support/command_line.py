"""Calls the command line in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from simenv.cli import main as cli


def called(arguments: list[str]) -> int:
    """Calls `simenv` and returns its exit code."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert isinstance(stopped.value.code, int)
    return stopped.value.code


def bench(out: Path, *options: str) -> int:
    return called(["bench", "--out", str(out), *options])
