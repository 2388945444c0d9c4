"""`simenv bench --shard` and `simenv merge`, and the same in Python."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import simenv
from simenv.cli.main import main
from simenv.errors import InputError, PartsMissing
from simenv.runs.manifest import manifest_bytes, read_manifest

QUICK: dict[str, Any] = {"llm": "scripted", "n": 5, "horizon": 2, "chunk": 1, "quality": "none"}
COMMAND = "bench --mechanisms gsp,organic --llm scripted --n 5 --horizon 2 --chunk 1 --quality none"
SAME = ("transitions.jsonl", "chunks.jsonl", "sessions.jsonl", "table.csv", "table.md")
pytestmark = pytest.mark.weights


def command(line: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert isinstance(ended.value.code, int)
    return ended.value.code


def spent_calls(run: Path) -> int:
    return sum(json.loads(line)["calls"] for line in (run / "spent.jsonl").read_bytes().splitlines())


def test_parts_of_the_command_and_of_python_become_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = simenv.bench(["gsp", "organic"], out=tmp_path / "whole", **QUICK)
    first = simenv.bench(["gsp", "organic"], out=tmp_path / "first", shard=(0, 2), **QUICK)
    assert [t.index for t in first.records if t.mechanism == "gsp"] == [0, 1, 4]
    assert command(f"{COMMAND} --shard 1/2 --out {tmp_path / 'second'}") == 0
    assert "this is shard 1/2" in " ".join(capsys.readouterr().err.split())
    manifest = read_manifest(tmp_path / "second")
    unfinished = {**manifest, "finished": None}
    (tmp_path / "second" / "manifest.json").write_bytes(manifest_bytes(unfinished))
    merge = f"merge {tmp_path / 'second'} {tmp_path / 'first'} --out {tmp_path / 'merged'}"
    assert command(merge) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"finish it with: simenv bench --resume --out {tmp_path / 'second'}" in said
    assert command(f"bench --resume --out {tmp_path / 'second'}") == 0
    capsys.readouterr()
    assert command(merge) == 0
    assert "Money, currency per answer" in capsys.readouterr().out
    for name in SAME:
        assert (tmp_path / "merged" / name).read_bytes() == (whole.folder / name).read_bytes(), name
    assert spent_calls(tmp_path / "merged") == spent_calls(tmp_path / "first") + spent_calls(tmp_path / "second") > 0
    longer = simenv.bench(["gsp", "organic"], out=tmp_path / "merged", resume=True, **{**QUICK, "n": 6})
    assert len(longer.records) == 12
    assert command(f"merge {tmp_path / 'first'} --out {tmp_path / 'other'}") == 2
    assert "run it with: --shard 1/2 and a new --out" in " ".join(capsys.readouterr().err.split())


def test_ceilings_are_those_of_one_part(tmp_path: Path) -> None:
    stopped = simenv.bench("gsp", out=tmp_path / "0", shard=(0, 2), max_calls=2, **QUICK)
    assert stopped.stopped is not None
    simenv.bench("gsp", out=tmp_path / "1", shard=(1, 2), **QUICK)
    with pytest.raises(PartsMissing, match=r"not finished: .*0$"):
        simenv.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    simenv.bench("gsp", out=tmp_path / "0", shard=(0, 2), max_calls=100, resume=True, **QUICK)
    merged = simenv.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    manifest = read_manifest(merged.folder)
    assert manifest["options"]["max_calls"] is None
    assert [part["options"]["max_calls"] for part in manifest["parts"]] == [2, None]


def test_what_cannot_be_sharded_is_refused_before_it_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"5 auctions are 3 blocks of 2 .*: at most 3 shards, got 4"):
        simenv.bench("gsp", out=tmp_path / "run", shard="0/4", **QUICK)
    with pytest.raises(InputError, match="bidders learn from the auctions before"):
        simenv.bench("gsp", out=tmp_path / "run", shard="0/2", bidder="exp3", **QUICK)
    with pytest.raises(InputError, match="expected INDEX/COUNT"):
        simenv.bench("gsp", out=tmp_path / "run", shard="first", **QUICK)
    assert not (tmp_path / "run").exists()


def test_cassettes_of_the_parts_replay_the_whole_run(tmp_path: Path) -> None:
    tapes = [tmp_path / f"{i}.jsonl" for i in range(2)]
    for i, tape in enumerate(tapes):
        simenv.bench("gsp", out=tmp_path / str(i), shard=(i, 2), record=str(tape), **QUICK)
    merged = simenv.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    assert read_manifest(merged.folder)["options"]["record"] is None
    (tmp_path / "all.jsonl").write_bytes(b"".join(tape.read_bytes() for tape in tapes))
    again = simenv.bench("gsp", out=tmp_path / "again", replay=str(tmp_path / "all.jsonl"), **QUICK)
    assert (again.folder / SAME[0]).read_bytes() == (merged.folder / SAME[0]).read_bytes() != b""


def test_a_part_is_resumed_as_that_part_alone(tmp_path: Path) -> None:
    run = tmp_path / "run"
    simenv.bench("gsp", out=run, shard="1/3", **QUICK)
    with pytest.raises(InputError, match="shard was '1/3', now None"):
        simenv.bench("gsp", out=run, resume=True, **QUICK)
    longer = simenv.bench("gsp", out=run, resume=True, shard="1/3", **{**QUICK, "n": 12})
    assert [t.index for t in longer.records] == [2, 3, 8, 9]
    assert [entry["after_auctions"] for entry in read_manifest(run)["resumed"]] == [2]
    assert json.loads((run / "manifest.json").read_text())["finished"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_shard_that_is_killed_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    """Four shards at once in processes of their own; one is killed (SIGKILL) half-way and resumed."""
    options = "--mechanisms gsp,mosaic --llm scripted --n 96 --horizon 3 --chunk 3"
    env = {**os.environ, "OMP_NUM_THREADS": "1", "SIMENV_CACHE": str(tmp_path / "cache")}

    def start(more: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "simenv", *more.split()]
        return subprocess.Popen(command, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start(f"bench {options} --out whole").wait() == 0
    shards = [start(f"bench {options} --shard {i}/4 --out part-{i}") for i in range(4)]
    written = tmp_path / "part-2" / "chunks.jsonl"
    while shards[2].poll() is None and not (written.is_file() and written.read_bytes().count(b"\n") >= 4):
        time.sleep(0.002)
    shards[2].send_signal(signal.SIGKILL)
    assert [shard.wait() for shard in shards] == [0, 0, -signal.SIGKILL, 0]
    assert 4 <= written.read_bytes().count(b"\n") < 8
    merge = f"merge {' '.join(f'part-{i}' for i in (3, 1, 0, 2))} --out merged"
    assert start(merge).wait() == 2, "an unfinished part is refused"
    assert start("bench --resume --out part-2").wait() == 0
    assert start(merge).wait() == 0
    for name in SAME:
        assert (tmp_path / "merged" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
