"""A run that goes on to more auctions has the bytes of one that was begun with as many, wherever it is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.llm import ScriptedLLM
from simenv.market.bidders import Exp3Bidder
from simenv.runs import folder as folder_module
from simenv.runs.folder import RunFolder, read_manifest
from simenv.runs.rollout import Sessions, rollout
from simenv.testing import small_world

CHUNK, N = 4, 11
SAME = ("transitions.jsonl", "chunks.jsonl")


def go(path: Path, n: int, *, resume: bool = False) -> RunFolder:
    """Runs, or goes on to, n auctions of bidders that learn."""
    world = small_world(bidder=Exp3Bidder(rate=0.5))
    done: Any = {}
    begun: Any = {}
    if resume:
        options = read_manifest(path)["options"]
        changes = {} if options["n"] == n else {"options": {**options, "n": n}}
        run, done, begun = RunFolder.reopen(path, changes)
    else:
        run = RunFolder(path)
        run.begin({"n": n, "chunk": CHUNK}, {}, {})
    mechanisms = {"gsp": make_mechanism("gsp", llm=ScriptedLLM())}

    async def roll() -> None:
        sessions = Sessions(begun, run.save_sessions)
        await rollout(world, mechanisms, n=n, seed=3, on_chunk=run.append, chunk=CHUNK, sessions=sessions, done=done)

    run_sync(roll)
    run.finish()
    return run


def contents(path: Path) -> list[bytes]:
    return [(path / name).read_bytes() for name in SAME]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("whole") / "run"
    go(path, N)
    return contents(path)


@pytest.mark.parametrize(("n", "kept"), [(2, 0), (4, 4), (6, 4), (8, 8)])
def test_a_run_goes_on_to_more_auctions(tmp_path: Path, whole: list[bytes], n: int, kept: int) -> None:
    go(tmp_path / "run", n)
    run = go(tmp_path / "run", N, resume=True)
    assert contents(tmp_path / "run") == whole
    assert not list((tmp_path / "run").glob("*.damaged*"))
    manifest = read_manifest(tmp_path / "run")
    assert (manifest["options"]["n"], [row["after_auctions"] for row in manifest["resumed"]]) == (N, [kept])
    end = min(kept + CHUNK, N) - 1
    said = f"auctions {kept} to {n - 1} are run again: their chunk goes on to auction {end}"
    assert run.repaired == (None if n == kept else said)
    timed = [json.loads(line)["first_index"] for line in (tmp_path / "run" / "timings.jsonl").read_bytes().splitlines()]
    assert timed == [0, 4, 8]


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


def test_a_kill_before_any_write_loses_and_doubles_nothing(
    tmp_path: Path, whole: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of the extension in turn: nothing of it happens, or of an append the half."""
    left = 0
    writes = 0

    def killing(name: str) -> Callable[..., Any]:
        real = getattr(folder_module, name)

        def write(path: Path, *arguments: Any, **options: Any) -> Any:
            nonlocal left, writes
            left, writes = left - 1, writes + 1
            if left == 0:
                if name == "append_bytes":
                    real(path, arguments[0][: len(arguments[0]) // 2])
                raise Killed
            return real(path, *arguments, **options)

        return write

    for name in ("append_bytes", "write_bytes_atomically", "truncate"):
        monkeypatch.setattr(folder_module, name, killing(name))
    go(tmp_path / "short", 6)
    kept = contents(tmp_path / "short")[0].splitlines()[:CHUNK]
    before = {file.name: file.read_bytes() for file in (tmp_path / "short").iterdir()}
    at, reached = 0, True
    while reached:
        at += 1
        path = tmp_path / str(at)
        path.mkdir()
        for name, content in before.items():
            (path / name).write_bytes(content)
        left, writes = at, 0
        try:
            go(path, N, resume=True)
            reached = False
        except Killed:
            left = 0
            assert contents(path)[0].splitlines()[:CHUNK] == kept, "what was finished stays"
            wanted = read_manifest(path)["options"]["n"]
            assert wanted in (6, N)
            go(path, wanted, resume=True)
            if wanted == 6:  # it had not begun
                assert contents(path)[0] == before["transitions.jsonl"]
                go(path, N, resume=True)
        assert contents(path) == whole
    assert at == writes + 1 > 9, "every write was a moment to be killed at"
