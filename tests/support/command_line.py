"""Calls the command line in this process."""

from __future__ import annotations

from pathlib import Path

import pytest

from simenv.cli import main as cli


def bench(out: Path, *options: str) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "--out", str(out), *options])
    assert isinstance(stopped.value.code, int)
    return stopped.value.code
