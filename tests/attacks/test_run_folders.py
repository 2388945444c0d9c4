"""Attacks on the folder of a run: kill -9, two writers, changed bits, a full disk. Nothing is lost, doubled or silent.

`python -m pytest -m slow tests/attacks -s` prints the figures of docs/reliability.md.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from simenv.encoder import default_encoder
from simenv.runs.bench import bench
from simenv.seeding import keyed_rng
from simenv.testing import ADS, PERSONAS
from tests.support import processes
from tests.support.processes import Death, Running, simenv

SAME = ("transitions.jsonl", "sessions.jsonl", "chunks.jsonl", "table.csv", "table.md")
"""Files of a run that are the same to the byte whenever and wherever it is run again."""


@dataclass(frozen=True)
class Reference:
    """A run that nothing disturbed, and how to begin it again."""

    folder: Path
    options: list[str]

    def contents(self) -> dict[str, bytes]:
        return contents(self.folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in SAME}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Runs once in this process; the processes that follow know its texts' vectors, so that a run takes a second."""
    data = tmp_path_factory.mktemp("data")
    for name, records in (("ads", ADS), ("personas", PERSONAS)):
        (data / f"{name}.jsonl").write_text("".join(f"{r.model_dump_json()}\n" for r in records), encoding="utf-8")
    run = {
        "llm": "scripted",
        "n": 24,
        "horizon": 3,
        "chunk": 2,
        "bidder": "exp3",
        "catalog": str(data / "ads.jsonl"),
        "personas": str(data / "personas.jsonl"),
    }
    bench(["gsp", "best_of_n"], out=data / "whole", **run)
    texts = data / "texts.json"
    texts.write_text(json.dumps(list(default_encoder()._known)), encoding="utf-8")
    processes.prepare(texts)
    options = [part for name, value in run.items() for part in (f"--{name}", str(value))]
    return Reference(data / "whole", ["--mechanisms", "gsp,best_of_n", *options])


def finished_lines(folder: Path) -> bytes:
    """The part of the log that chunks.jsonl says is finished."""
    chunks = folder / "chunks.jsonl"
    rows = chunks.read_bytes().split(b"\n")[:-1] if chunks.is_file() else []
    return (folder / "transitions.jsonl").read_bytes()[: json.loads(rows[-1])["end"]] if rows else b""


def killed_and_resumed(
    reference: Reference, deaths: list[tuple[int, float]], folder: Path, scratch: Path
) -> Counter[str]:
    """Begins a run, kills it as told, resumes it until it ends, and counts what is wrong."""
    wrong: Counter[str] = Counter()
    finished = b""
    for event, seconds in [*deaths, (0, 0.0)]:
        begun = (folder / "manifest.json").is_file()
        how = ["--resume"] if begun else reference.options
        ended = simenv(
            ["bench", "--out", str(folder), *how], scratch, death=Death(folder, event, seconds) if deaths else None
        )
        wrong["killed"] += ended.code == -9
        wrong["tracebacks"] += ended.traceback
        log = folder / "transitions.jsonl"
        wrong["lost"] += not (log.read_bytes() if log.is_file() else b"").startswith(finished)
        finished = finished_lines(folder)
    assert ended.code == 0, ended.err
    names = [(row["index"], row["mechanism"]) for row in map(json.loads, log.read_text("utf-8").splitlines())]
    wrong["doubled"] += len(names) - len(set(names))
    wrong["other bytes"] += contents(folder) != reference.contents()
    return wrong


def kill(reference: Reference, moments: int, scratch: Path) -> Counter[str]:
    """Kills runs until so many have died. Every second one dies at an event at a file of the run, from the first to the
    last; the others after a random time, unless they end before. Every third run is killed again while it resumes."""
    arguments = ["bench", *reference.options, "--out", str(scratch / "count")]
    happened, seconds = processes.events(arguments, scratch, scratch / "count")
    assert happened > 40
    rng = keyed_rng("kill", moments)
    at_events = np.linspace(1, happened, (moments + 1) // 2).astype(int)
    wrong: Counter[str] = Counter()
    number = 0
    while wrong["killed"] < moments:
        death = (int(at_events[number // 2 % len(at_events)]), 0.0), (0, float(rng.uniform(0.01, seconds)))
        again = [(int(rng.integers(1, happened // 2)), 0.0)] if number % 3 == 0 else []
        wrong += killed_and_resumed(reference, [death[number % 2], *again], scratch / f"run{number}", scratch)
        number += 1
    return wrong


@pytest.mark.weights
def test_kill_9_at_some_moments(reference: Reference, tmp_path: Path) -> None:
    wrong = kill(reference, 4, tmp_path)
    assert {name: n for name, n in wrong.items() if n} == {"killed": wrong["killed"]}


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_kill_9_at_100_moments(reference: Reference, tmp_path: Path) -> None:
    wrong = kill(reference, 100, tmp_path)
    print("\nkill -9:", {"killed": 0, "lost": 0, "doubled": 0, "other bytes": 0, "tracebacks": 0} | dict(wrong))
    assert {name: n for name, n in wrong.items() if n} == {"killed": wrong["killed"]}


def cut_run(reference: Reference, folder: Path) -> Path:
    """A run that was cut off in its middle: five finished chunks, and part of a sixth."""
    shutil.copytree(reference.folder, folder)
    chunks = (folder / "chunks.jsonl").read_bytes().split(b"\n")
    end = json.loads(chunks[5])["end"]
    (folder / "chunks.jsonl").write_bytes(b"\n".join(chunks[:5]) + b"\n")
    (folder / "transitions.jsonl").write_bytes((folder / "transitions.jsonl").read_bytes()[: end - 100])
    return folder


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_writers_20_times(reference: Reference, tmp_path: Path) -> None:
    refused, wrong = 0, 0
    for number in range(20):
        folder = cut_run(reference, tmp_path / f"run{number}")
        both = [Running(["bench", "--resume", "--out", str(folder)], tmp_path) for _ in range(2)]
        ended = [process.wait() for process in both]
        codes = sorted(e.code for e in ended)
        assert codes in ([0, 0], [0, 2]), ended  # [0, 0]: the second came when the first was through
        assert not any(e.traceback for e in ended)
        refused += codes == [0, 2]
        wrong += contents(folder) != reference.contents()
    print(f"\ntwo writers: {refused} of 20 refused, {wrong} logs wrong")
    assert wrong == 0
    assert refused >= 10


READERS = ("compare", "export")
"""Commands that read a run."""


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One bit flipped, or the end cut off."""
    if rng.random() < 0.5:
        return content[: int(rng.integers(len(content)))]
    at = int(rng.integers(len(content)))
    return content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "name", ["manifest.json", "transitions.jsonl", "sessions.jsonl", "chunks.jsonl", "timings.jsonl", "table.csv"]
)
def test_100_flips_and_cuts_of_a_file(name: str, reference: Reference, tmp_path: Path) -> None:
    """Readers give the same numbers or refuse; resuming gives the same log or refuses and touches nothing."""
    shutil.copytree(reference.folder, tmp_path / "sound")
    right = {reader: read(reader, tmp_path / "sound", reference, tmp_path) for reader in READERS}
    assert [outcome[0] for outcome in right.values()] == [0] * len(READERS), right
    counts: Counter[str] = Counter()
    for number in range(100):
        folder = tmp_path / f"run{number:02}"  # as long as "sound", so that tables are as wide
        shutil.copytree(reference.folder, folder)
        file = folder / name
        file.write_bytes(damage(file.read_bytes(), keyed_rng("damage", name, number)))
        for reader in READERS:
            outcome = read(reader, folder, reference, tmp_path)
            counts["readers refuse"] += outcome[0] != 0
            counts["silent"] += outcome[0] == 0 and outcome != right[reader]
            counts["tracebacks"] += outcome[3]
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        resumed = simenv(["bench", "--resume", "--out", str(folder)], tmp_path)
        counts["tracebacks"] += resumed.traceback
        if resumed.code == 0:
            counts["resumed"] += 1
            counts["other bytes"] += contents(folder) != reference.contents()
        else:
            counts["resume refused"] += 1
            counts["touched"] += any((folder / n).read_bytes() != b for n, b in before.items() if n != ".lock")
        shutil.rmtree(folder)
    print(f"\n{name}: {dict(counts)}")
    assert {n: c for n, c in counts.items() if c and n in ("silent", "tracebacks", "other bytes", "touched")} == {}


def read(command: str, folder: Path, reference: Reference, scratch: Path) -> tuple[int, str, str, bool]:
    """Exit code, output, rows and whether there was a traceback. Paths are taken out."""
    rows = scratch / "rows.jsonl"
    rows.unlink(missing_ok=True)
    further = {
        "compare": [str(reference.folder)],
        "export": ["--out", str(rows)],
    }
    ended = simenv([command, str(folder), *further[command]], scratch)
    said = ended.out.replace(str(folder), "RUN").replace(folder.name, "RUN")
    return ended.code, said, rows.read_text("utf-8") if rows.is_file() else "", ended.traceback


def on_small_disk(size: int, mount: Path) -> bool:
    """Mounts a file system of `size` bytes in memory; False where this machine does not allow it."""
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_full_disk_at_20_moments(reference: Reference, tmp_path: Path) -> None:
    """A disk of 20 sizes, each too small for the run; where nothing can be mounted, a limit on the size of a file.

    What was finished is resumed on a larger disk.
    """
    largest = sum(file.stat().st_size for file in reference.folder.iterdir())
    wrong: Counter[str] = Counter()
    for number, size in enumerate(np.linspace(4096, largest - 8192, 20).astype(int)):
        disk, moved = tmp_path / f"disk{number}", tmp_path / f"run{number}"
        mounted = on_small_disk(size, disk)
        try:
            limit = None if mounted else int(size)
            ended = simenv(["bench", "--out", str(disk / "run"), *reference.options], tmp_path, file_limit=limit)
            if (disk / "run").is_dir():
                shutil.copytree(disk / "run", moved)
        finally:
            if mounted:
                subprocess.run(["umount", str(disk)], check=True)
        wrong["mounted"] += mounted
        wrong["stopped"] += ended.code in (1, 2)
        wrong["not stopped"] += ended.code == 0
        wrong["tracebacks"] += ended.traceback
        wrong["without a line"] += not any(text in ended.err for text in ("No space left", "File too large", "disk"))
        finished = finished_lines(moved) if moved.is_dir() else b""
        how = ["--resume"] if (moved / "manifest.json").is_file() else reference.options
        resumed = simenv(["bench", "--out", str(moved), *how], tmp_path)
        wrong["not resumed"] += resumed.code != 0
        if resumed.code == 0:
            wrong["lost"] += not (moved / "transitions.jsonl").read_bytes().startswith(finished)
            wrong["other bytes"] += contents(moved) != reference.contents()
    print(f"\nfull disk: {dict(wrong)}")
    assert {n: c for n, c in wrong.items() if c and n not in ("mounted", "stopped")} == {}
    assert wrong["stopped"] == 20
