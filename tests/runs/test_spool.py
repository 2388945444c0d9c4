"""Numbers of answers on disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from simenv.runs.spool import Spool


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason=f"open files are not listed on {sys.platform}")
def test_a_reader_that_stops_early_leaves_no_file_open(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "numbers", 1)
    spool.add(0, "p", "an answer", [(2.0, 1.0)], {})
    spool.flush()
    rows, indices = spool.rows(0), spool.indices()
    assert next(rows).above.tolist() == [2.0]
    assert next(indices).tolist() == [0]
    open_files = [fd.resolve() for fd in Path("/proc/self/fd").iterdir()]
    assert spool.path.resolve() not in open_files
