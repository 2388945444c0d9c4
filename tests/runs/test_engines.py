"""Engines give the same files, whoever computes the chunks; what an engine cannot do is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simenv.errors import InputError, SimenvError, TooManyFailures
from simenv.runs import engines
from simenv.runs.answering import Progress
from simenv.runs.chunk_worker import Task
from simenv.runs.rows import whole_rows
from tests.support.folders import Folder
from tests.support.pools import FakePool


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Puts threads in the place of the processes of the engine ray."""

    def put(**pool: Any) -> None:
        monkeypatch.setattr(engines, "RayPool", lambda *args, **options: FakePool(*args, **{**options, **pool}))

    return put


@pytest.mark.weights
def test_chunks_of_workers_are_those_of_a_local_run(folder: Folder, fake_ray: Callable[..., None]) -> None:
    died: list[int] = []

    def dies(task: Task) -> bool:
        once = task.chunk in (1, 4) and task.chunk not in died
        if once:
            died.append(task.chunk)
        return once

    warnings: list[str] = []
    shown = [0, 0]

    def count(place: int) -> Callable[[], None]:
        def add() -> None:
            shown[place] += 1

        return add

    fake_ray(dies=dies, at_once=1)
    progress = Progress(answered=count(0), skipped=count(1), warned=warnings.append)
    theirs = folder.run("ray", engine="ray", workers=3, progress=progress)
    assert theirs == folder.run("local")
    assert sorted(died) == [1, 4]
    assert [text.count("a worker was lost") for text in warnings] == [1, 1]
    assert shown == [22, 0]


@pytest.mark.weights
def test_a_run_goes_on_with_the_other_engine(folder: Folder, fake_ray: Callable[..., None]) -> None:
    whole = folder.run("whole")
    fake_ray()
    folder.run("a", n=4)
    assert folder.run("a", resume=True, engine="ray", workers=2) == whole
    folder.run("b", n=6, engine="ray", workers=2)
    assert folder.run("b", resume=True) == whole
    assert folder.run("b", resume=True, engine="ray") == whole  # nothing is left to run


@pytest.mark.weights
def test_failed_answers_are_counted_where_the_run_is_written(folder: Folder, fake_ray: Callable[..., None]) -> None:
    fake_ray()
    shaky = f"{folder.path / 'shaky.py'}:Shaky"
    warnings: list[str] = []
    progress = Progress(warned=warnings.append)
    theirs = folder.run("ray", shaky, engine="ray", fail_on_error=0.9, progress=progress)
    assert theirs == folder.run("local", shaky, fail_on_error=0.9)
    assert warnings == ["an answer failed, and is kept as an error: the server is down"]
    with pytest.raises(TooManyFailures, match="3 of 8 answers failed, more than fail_on_error=2 allows"):
        folder.run("stops", shaky, engine="ray", fail_on_error=2)
    with pytest.raises(SimenvError, match="the server is down"):
        folder.run("strict", shaky, engine="ray", fail_on_error=0)
    assert folder.run("stops", shaky, resume=True, engine="ray", fail_on_error=0.9)[0] == theirs[0]


@pytest.mark.weights
def test_completions_of_workers_go_to_the_cassette(folder: Folder, fake_ray: Callable[..., None]) -> None:
    fake_ray()
    theirs, ours = folder.path / "theirs.jsonl", folder.path / "ours.jsonl"
    local = folder.run("local", record=str(ours))
    assert folder.run("ray", engine="ray", record=str(theirs)) == local
    assert sorted(theirs.read_bytes().splitlines()) == sorted(ours.read_bytes().splitlines()) != []
    assert folder.run("replay", engine="ray", replay=str(theirs)) == local
    theirs.write_bytes(b"".join(theirs.read_bytes().splitlines(keepends=True)[:5]) + b'{"model": "scrip')
    assert folder.run("cache", engine="ray", cache=str(theirs)) == local
    assert sorted(theirs.read_bytes().splitlines()) == sorted(ours.read_bytes().splitlines())


@pytest.mark.weights
def test_calls_of_workers_count_for_ceilings(folder: Folder, fake_ray: Callable[..., None]) -> None:
    fake_ray(at_once=1)
    whole = folder.run("local", max_calls=10_000)
    theirs = folder.run("all", engine="ray", max_calls=10_000)
    spent = [
        sum(row["calls"] for row in whole_rows(folder.path / name / "spent.jsonl")[0]) for name in ("local", "all")
    ]
    assert theirs == whole
    assert spent[0] == spent[1] > 20
    folder.run("stops", engine="ray", workers=1, max_calls=5)
    begun = folder.read("stops")[0]
    assert 0 < len(begun) < len(whole[0])
    assert whole[0].startswith(begun)
    assert folder.run("stops", engine="ray", resume=True, max_calls=10_000) == whole


@pytest.mark.weights
def test_a_worker_with_other_data_is_refused(
    folder: Folder, fake_ray: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_ray()
    monkeypatch.setattr("simenv.runs.chunk_worker.data_hashes", lambda checked: {"catalog": "0" * 64})
    with pytest.raises(InputError, match=r"has other versions, code or data than this process: catalog was .*, now 0"):
        folder.run("run", engine="ray")
    monkeypatch.undo()


@pytest.mark.weights
def test_what_the_engine_cannot_do_is_refused(folder: Folder, fake_ray: Callable[..., None]) -> None:
    for options, message in (
        ({"engine": "spark"}, "unknown engine 'spark': .*known are local, ray"),
        ({"workers": 2}, "the engine local has no workers, got 2"),
        ({"engine": "ray", "workers": 0}, "workers must be at least 1, got 0"),
        ({"engine": "ray", "bidder": "exp3"}, "bidders: learning from earlier auctions needs them in order"),
    ):
        with pytest.raises(InputError, match=message):
            folder.run("run", **options)
        assert not (folder.path / "run").exists()
