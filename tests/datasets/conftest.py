"""The folder of a run, of the answers that a test file makes."""

from __future__ import annotations

from pathlib import Path

import pytest

from simenv.records import Transition
from tests.support.runs import save


@pytest.fixture
def run(tmp_path: Path, rows: list[Transition]) -> Path:
    """The folder of a run with the answers of the fixture `rows`, which each file has of its own."""
    return save(tmp_path / "run", rows)
