"""A run's files are flushed to the disk at most once a second, and at the end."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from simenv.runs import folder as folders
from simenv.runs.folder import RunFolder


def test_chunks_within_a_second_share_a_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, flushes = [100.0], []
    monkeypatch.setattr(folders.time, "monotonic", lambda: now[0])
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (flushes.append(now[0]), fsync(number)))
    run = RunFolder(tmp_path / "run")
    run.begin({"n": 3}, {}, {})
    flushes.clear()
    for now[0] in (100.0, 100.9, 101.0, 101.5, 102.1):
        run.save_sessions({})
    assert flushes == [100.0, 101.0, 102.1]
    now[0] = 102.2
    run.finish()
    assert flushes[3:] == [102.2, 102.2], "the sessions and the manifest"
