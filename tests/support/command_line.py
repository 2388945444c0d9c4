"""Calls the command line in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from simenv.cli import main as cli


def bench(out: Path, *options: str) -> int:
    return run_command("bench", "--out", str(out), *options)


def run_command(*arguments: str) -> int:
    """The exit code of `simenv` with these arguments."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    assert isinstance(stopped.value.code, int)
    return stopped.value.code
