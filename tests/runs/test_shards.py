"""A run in parts: every chunk is in one of them, and merged they are what one process writes, to the byte."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain, permutations, product
from pathlib import Path
from typing import Any

import pytest

import simenv
from simenv import make_mechanism
from simenv.background_loop import run_sync
from simenv.errors import DataFileError, InputError, PartsMissing
from simenv.llm import ScriptedLLM
from simenv.runs.bench import result_of
from simenv.runs.folder import RunFolder, read_transitions
from simenv.runs.manifest import manifest_bytes, read_manifest
from simenv.runs.merge import merge
from simenv.runs.options import BenchOptions, read_options
from simenv.runs.rollout import Sessions, rollout
from simenv.runs.shards import Blocks, Shard, read_shard
from simenv.testing import small_world

N, CHUNK, HORIZON = 23, 2, 3
SAME = ("transitions.jsonl", "chunks.jsonl", "sessions.jsonl", "table.csv", "table.md")
MACHINE = {"cpu": "one", "instructions": "maker avx2", "libc": "glibc 2.36", "threads": None, "device": None}


# Which chunks a shard has


def test_shards_have_every_chunk_once_and_every_session_whole() -> None:
    for n, chunk, horizon, count in product((1, 7, 16, 41), (1, 2, 5), (1, 3, 4), (1, 2, 3)):
        blocks = Blocks(n, chunk, horizon)
        shards = [Shard(i, count) for i in range(count)]
        of_shard = [list(blocks.chunks(shard)) for shard in shards]
        assert sorted(chain.from_iterable(of_shard)) == list(blocks.chunks()) == list(range(-(-n // chunk)))
        assert all(numbers == sorted(numbers) for numbers in of_shard)
        session_in: dict[int, int] = {}
        for i, (shard, numbers) in enumerate(zip(shards, of_shard, strict=True)):
            assert all(blocks.shard_of(number, count) == i for number in numbers)
            auctions = [a for number in numbers for a in range(number * chunk, min((number + 1) * chunk, n))]
            assert blocks.span(shard) == (len(auctions), auctions[-1] + 1 if auctions else 0)
            assert all(session_in.setdefault(auction // horizon, i) == i for auction in auctions)


def test_a_chunk_that_is_whole_sessions_is_a_block() -> None:
    assert list(Blocks(100, 15, 5).chunks(Shard(1, 3))) == [1, 4]
    assert Blocks(100, 16, 5).auctions == 80


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "expected INDEX/COUNT such as 0/4, got '1'"),
        ("-1/4", "expected INDEX/COUNT"),
        ("0/0", "expected INDEX/COUNT"),
        ("4/4", r"4 shards are numbered from 0/4 to 3/4, got '4/4' \(let the index of the job array begin at 0\)"),
        ("7/4", "4 shards are numbered from 0/4 to 3/4, got '7/4'$"),
    ],
)
def test_other_texts_are_no_shards(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_shard(text)


def test_a_shard_is_a_text_or_two_numbers() -> None:
    assert str(read_shard("2/3")) == read_options(BenchOptions, {"shard": (2, 3)}).shard == "2/3"


# Parts in process, without models


def go(path: Path, shard: str | None = None, *, stop: int | None = None, machine: Any = MACHINE) -> Path:
    """Runs a part, or without `shard` all; `stop`: chunks after which it is cut off."""
    world, names = small_world(horizon=HORIZON), ("gsp", "organic")
    options = BenchOptions(mechanisms=names, n=N, chunk=CHUNK, horizon=HORIZON, llm="scripted", shard=shard)
    run = RunFolder(path)
    run.begin(options.model_dump(), {"judge": "click"}, {"catalog": "abc"}, machine=machine)
    mechanisms = {name: make_mechanism(name, context={"llm": ScriptedLLM()}) for name in names}
    chunks = list(Blocks(N, CHUNK, HORIZON).chunks(read_shard(shard) if shard else None))[:stop]

    async def roll() -> None:
        sessions = Sessions({}, run.save_sessions)
        await rollout(
            world, mechanisms, n=N, seed=3, on_chunk=run.append, chunk=CHUNK, chunks=chunks, sessions=sessions
        )

    run_sync(roll)
    if stop is None:
        result = result_of(path, run.manifest, options)
        run.finish(retries={"scripted": 1}, judge_disagreement=result.disagreement)
    return path


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A part, or the whole run, that is run once; tests do not change it."""
    made: dict[str | None, Path] = {}

    def of(shard: str | None = None) -> Path:
        if shard not in made:
            made[shard] = go(tmp_path_factory.mktemp("part") / f"of-{(shard or 'whole').replace('/', '-')}", shard)
        return made[shard]

    return of


def contents(path: Path) -> list[bytes]:
    return [(path / name).read_bytes() for name in SAME]


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_merged_parts_are_the_bytes_of_one_run(tmp_path: Path, part: Callable[..., Path], count: int) -> None:
    parts = [part(f"{i}/{count}") for i in range(count)]
    before = [files(path) for path in parts]
    for number, order in enumerate(permutations(parts) if count < 4 else [parts[::-1]]):
        merged = merge(order, tmp_path / str(number))
        assert contents(merged.folder) == contents(part())
    assert [files(path) for path in parts] == before, "the parts stay as they are"
    begun = [json.loads(line)["number"] for path in parts for line in files(path)["sessions.jsonl"].splitlines()]
    assert sorted(begun) == list(range(-(-N // HORIZON))), "a model would write the queries of each session once"
    assert sorted(path.name for path in tmp_path.iterdir()) == [str(i) for i in range(number + 1)]
    timed = [json.loads(line) for line in (merged.folder / "timings.jsonl").read_bytes().splitlines()]
    assert [row["first_index"] for row in timed] == [i for i in range(0, N, CHUNK) for _ in ("gsp", "organic")]
    manifest, whole = read_manifest(merged.folder), read_manifest(part())
    assert [entry["shard"] for entry in manifest["parts"]] == [f"{i}/{count}" for i in range(count)]
    assert manifest["retries"] == {"scripted": count}
    assert manifest["options"] == whole["options"]
    assert manifest.keys() == whole.keys()
    assert all(manifest[key] == whole[key] for key in ("world", "data_sha256", "code", "packages", "machine"))
    assert manifest["finished"]


def test_a_part_is_a_run_of_its_own(part: Callable[..., Path]) -> None:
    rows = list(read_transitions(part("1/3")))
    assert {row.index for row in rows} == {6, 7, 8, 9, 10, 11}
    whole = {(t.index, t.mechanism): t for t in read_transitions(part())}
    assert rows == [whole[row.index, row.mechanism] for row in rows]
    assert "Shard 1/3" in (part("1/3") / "table.md").read_text().replace("shard", "Shard")
    notes = simenv.compare([part("0/3"), part("1/3")]).notes
    assert [note for note in notes if "part" in note] == [f"of-{i}-3 is shard {i}/3, one part of a run" for i in (0, 1)]


def test_a_finished_part_is_not_resumed_and_a_short_one_is_seen(tmp_path: Path) -> None:
    path = go(tmp_path / "part", "0/3")
    RunFolder.reopen(path)
    assert read_manifest(path)["resumed"] == []
    (path / "chunks.jsonl").write_bytes(b"".join((path / "chunks.jsonl").read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(DataFileError, match="after the last finished chunk"):
        list(read_transitions(path))
    RunFolder.reopen(path)
    assert [entry["after_auctions"] for entry in read_manifest(path)["resumed"]] == [10]


# What is not merged


def test_missing_and_unfinished_parts_are_named(tmp_path: Path, part: Callable[..., Path]) -> None:
    with pytest.raises(PartsMissing, match="no part of shard 1/4, 3/4: run it with the options of") as missing:
        merge([part("2/4"), part("0/4")], tmp_path / "out")
    assert missing.value.missing == ("1/4", "3/4")
    cut = go(tmp_path / "cut", "1/2", stop=1)
    with pytest.raises(PartsMissing, match=r"not finished: .*cut") as unfinished:
        merge([part("0/2"), cut], tmp_path / "out")
    assert unfinished.value.unfinished == (str(cut),)
    assert not (tmp_path / "out").exists()


def test_a_shard_that_ran_twice_counts_once_if_it_is_the_same(tmp_path: Path, part: Callable[..., Path]) -> None:
    again = go(tmp_path / "again", "1/2")
    merged = merge([again, part("0/2"), part("1/2")], tmp_path / "out")
    assert contents(merged.folder) == contents(part())
    lines = (again / "sessions.jsonl").read_bytes().splitlines(keepends=True)
    (again / "sessions.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(InputError, match=r"both shard 1/2, and their .* differ \(leave one of them out\)"):
        merge([again, part("0/2"), part("1/2")], tmp_path / "other")
    with pytest.raises(InputError, match="is given twice"):
        merge([part("0/2"), part("1/2"), part("0/2")], tmp_path / "other")


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"data_sha256": {"catalog": "abd"}}, "data_sha256.catalog is 'abc' and 'abd'"),
        ({"files_sha256": {"ctr.json": "1"}}, "files_sha256.ctr.json is None and '1'"),
        ({"world": {"judge": "llm"}}, "world.judge is 'click' and 'llm'"),
        ({"code": {"simenv": {"sha256": "1"}}}, "code.simenv is None and"),
        ({"packages": {"numpy": "1.0"}}, "packages.numpy is"),
        ({"python": "3.99"}, "python is '3.*' and '3.99'"),
        ({"options": {"n": N}}, "options.seed is 0 and None"),
    ],
)
def test_parts_of_other_runs_are_refused(
    tmp_path: Path, part: Callable[..., Path], other: dict[str, Any], message: str
) -> None:
    path = go(tmp_path / "part", "1/2")
    manifest = read_manifest(path)
    changed = {key: {**manifest[key], **value} if isinstance(value, dict) else value for key, value in other.items()}
    if "options" in other:
        changed["options"] = {name: value for name, value in manifest["options"].items() if name != "seed"}
    (path / "manifest.json").write_bytes(manifest_bytes(manifest | changed))
    with pytest.raises(InputError, match=f"not parts of one run: in .*{message}"):
        merge([part("0/2"), path], tmp_path / "out")


def test_options_that_say_how_a_model_is_reached_may_differ(tmp_path: Path, part: Callable[..., Path]) -> None:
    path = go(tmp_path / "part", "1/2")
    manifest = read_manifest(path)
    options = {**manifest["options"], "api_base": "http://node7:8000/v1", "record": "tape-1.jsonl"}
    (path / "manifest.json").write_bytes(manifest_bytes(manifest | {"options": options}))
    merged = read_manifest(merge([part("0/2"), path], tmp_path / "out").folder)
    assert [entry["options"]["api_base"] for entry in merged["parts"]] == [None, "http://node7:8000/v1"]
    assert [entry["options"]["record"] for entry in merged["parts"]] == [None, "tape-1.jsonl"]
    assert merged["options"]["record"] is None


def test_machines_that_give_other_bytes_are_refused(tmp_path: Path, part: Callable[..., Path]) -> None:
    path = go(tmp_path / "part", "1/2", machine={**MACHINE, "cpu": "two", "instructions": "maker avx2 avx512f"})
    with pytest.raises(InputError, match=r"instructions is 'maker avx2' and 'maker avx2 avx512f' \(with"):
        merge([part("0/2"), path], tmp_path / "out")
    merged = merge([part("0/2"), path], tmp_path / "out", across_machines=True)
    assert [entry["machine"]["cpu"] for entry in read_manifest(merged.folder)["parts"]] == ["one", "two"]


def test_a_part_that_was_resumed_elsewhere_is_of_two_machines(tmp_path: Path, part: Callable[..., Path]) -> None:
    path = go(tmp_path / "part", "1/2", stop=1)
    run, _, _ = RunFolder.reopen(path, resumed={"machine": {**MACHINE, "libc": "glibc 2.31"}})
    run.finish()
    with pytest.raises(InputError, match=r"libc is 'glibc 2.36' and 'glibc 2.31'"):
        merge([part("0/2"), path], tmp_path / "out")


def test_whole_runs_and_other_numbers_of_shards_are_refused(tmp_path: Path, part: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="is a whole run, no part of one"):
        merge([part(), part("1/2")], tmp_path / "out")
    with pytest.raises(InputError, match=r"is shard 0/2, .* is shard 1/3"):
        merge([part("0/2"), part("1/3")], tmp_path / "out")
    with pytest.raises(InputError, match="no parts"):
        merge([], tmp_path / "out")


@pytest.mark.parametrize("name", ["transitions.jsonl", "sessions.jsonl", "chunks.jsonl"])
def test_a_damaged_part_is_refused_and_nothing_is_left(tmp_path: Path, part: Callable[..., Path], name: str) -> None:
    path = go(tmp_path / "part", "1/2")
    content = (path / name).read_bytes()
    for damaged in (content.replace(b"1", b"2", 1), content[:-20], b""):
        (path / name).write_bytes(damaged)
        with pytest.raises(DataFileError, match=rf"{name if name[0] == 's' else 'transitions'}.*resume the part"):
            merge([part("0/2"), path], tmp_path / "out")
    (path / name).write_bytes(content + b"{}\n")
    if name == "transitions.jsonl":
        with pytest.raises(DataFileError, match="goes on after its last chunk"):
            merge([part("0/2"), path], tmp_path / "out")
    assert sorted(it.name for it in tmp_path.iterdir()) == ["part"]


def test_what_a_killed_merge_left_is_removed(tmp_path: Path, part: Callable[..., Path]) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "transitions.jsonl").write_bytes(b"half")
    (tmp_path / "out").mkdir()  # empty, as mktemp makes it
    merged = merge([part("0/2"), part("1/2")], tmp_path / "out")
    assert contents(merged.folder) == contents(part())
    assert [it.name for it in tmp_path.iterdir()] == ["out"]
    with pytest.raises(DataFileError, match="is not empty"):
        merge([part("0/2"), part("1/2")], tmp_path / "out")
